"""A capture of a machine is that machine for detection, and names neither it nor its users."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest

from forge.device.hardware.capture import hardware_of
from forge.device.hardware.capture_files import read_capture, write_capture
from forge.device.hardware.facts import Answer, Facts, collect
from forge.device.hardware.inventory import Hardware, parse
from forge.device.hardware.profile_match import match
from forge.device.recording import personal_names, record
from forge.errors import FitError
from forge.profiles import MatchSection
from tests.support.captured import BOARDS, captured, replay, unpack
from tests.support.machines import FakeMachine, eagain

Rules = dict[str, tuple[str, MatchSection]]

# Of these only the lines that detection looks at are kept.
SHORTENED = {"os_release", "meminfo", "nvpmodel", "boot_control", "smi_header"}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """A workstation with 64 GB."""
    made = FakeMachine(tmp_path / "box")
    monkeypatch.setenv("PATH", made.path)
    made.memory(64_000)
    return made


def chosen(hardware: Hardware, rules: Rules) -> tuple[str, ...]:
    try:
        found = match(hardware, rules)
    except FitError as error:
        return error.what, error.why
    return found.profile, *found.reasons


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_and_the_tar_of_it_are_the_same_machine(
    tmp_path: Path, rules: Rules, name: str
) -> None:
    root, tar = unpack(name, tmp_path / "root"), tmp_path / "board.tar"
    live = collect(root, replay(name))
    write_capture(record(root, replay(name), ()), tar)
    capture = read_capture(tar)
    again = collect(capture, capture.run)
    for field in fields(Facts):
        if field.name not in SHORTENED:
            assert getattr(again, field.name) == getattr(live, field.name), field.name
    assert hardware_of(capture) == parse(again) == parse(live)
    assert chosen(parse(again), rules) == chosen(parse(live), rules)


@pytest.mark.parametrize("name", BOARDS)
def test_a_capture_of_a_capture_is_the_capture(tmp_path: Path, name: str) -> None:
    first = record(unpack(name, tmp_path / "first"), replay(name), ())
    write_capture(first, tmp_path / "first.tar")
    assert read_capture(tmp_path / "first.tar") == first


def test_what_could_not_be_read_is_in_it_with_the_errno(box: FakeMachine) -> None:
    zones = [box.zone(number, f"cv{number}-thermal", "0") / "temp" for number in range(2)]
    box.file("etc/nvpmodel.conf")
    with eagain(zones[0]), eagain(box.root / "etc/nvpmodel.conf"):
        live = box.hardware()
        found = record(box.root, box.run, ())
    path = "sys/class/thermal/thermal_zone0/temp"
    assert found.unreadable == {path: errno.EAGAIN, "etc/nvpmodel.conf": errno.EAGAIN}
    with pytest.raises(BlockingIOError):
        found.read(path)
    assert found.read("sys/class/thermal/thermal_zone1/temp") == b"0\n"
    assert hardware_of(found) == live
    assert live.notes == (f"/etc/nvpmodel.conf: {os.strerror(errno.EAGAIN)}",)


@pytest.mark.parametrize(
    ("query", "code", "errors"),
    [
        ("WARNING: infoROM is corrupted at gpu 0000:01:00.0\n", 14, ""),
        ("Unable to determine the device handle for GPU1: 0000:03:00.0: GPU is lost.\n", 15, ""),
        ("", 0, "Warning: persistence mode is disabled, see nvidia-persistenced, or -pm 1, now\n"),
    ],
)
def test_exit_code_and_both_streams_of_nvidia_smi_are_kept(
    box: FakeMachine, query: str, code: int, errors: str
) -> None:
    row = "NVIDIA RTX PRO 4000 Blackwell, 24467, 590.44.01, 12.0\n"
    box.smi(row + query, code=code, errors=errors)
    box.pci_gpu()
    live = box.hardware()
    assert hardware_of(record(box.root, box.run, ())) == live
    assert live.notes


def test_a_driver_that_is_missing_next_to_its_gpu_stays_so(box: FakeMachine) -> None:
    box.pci_gpu()
    box.pci_gpu("0000:02:00.0", "0x040300")
    box.file("sys/bus/pci/devices/0000:03:00.0/vendor", "0x8086\n")
    box.file("sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n")
    box.file("sys/bus/pci/devices/0000:01:00.0/device", "0x2c34\n")
    found = record(box.root, box.run, ())
    live = box.hardware()
    assert hardware_of(found) == live
    assert live.nvidia == "unknown"
    devices = {path.split("/")[4] for path in found.paths if path.startswith("sys/bus/pci")}
    assert devices == {"0000:01:00.0"}
    assert found.files["sys/bus/pci/devices/0000:01:00.0/device"] == b"0x2c34\n"


PERSONAL = (
    "1423425028841", "3c:6d:66:0a:b1:c2", "192.168.7.31", "fe80:1:2:3:3e6d:66ff:fe0a:b1c2",
    "alices-robot", "alice", "74dd2a41-8ae6-1b5c-63d7-2d8be5dd5cf3", "secret-model", "Bob's",
)  # fmt: skip
TABLE = """\
| NVIDIA-SMI 595.78    Driver Version: 595.78    CUDA Version: 13.2 |
+-------------------------------------------------------------------+
| Processes:                                                        |
|    0   N/A  N/A      4711      C   /srv/secret-model/run   512MiB |
"""


def told(box: FakeMachine) -> None:
    """A machine that says much about its owner, in each place where it can."""
    serial, mac, ip, ip6, host, user, uuid, _, owner = PERSONAL
    gossip = f"{host} {user}@{ip} [{ip6}] {mac} /home/{user}/x GPU-{uuid} serial: {serial}\n"
    box.file("etc/os-release", f'PRETTY_NAME="Ubuntu 24.04"\nHOME_URL="{host}"\nOWNER="{owner}"\n')
    box.file("etc/nv_tegra_release", f"# R39 (release), REVISION: 2.0, GCID: 1\n# {gossip}")
    box.file("etc/nv_boot_control.conf", f"TNSPEC 3834-0008-jetson-agx-thor-devkit\n{gossip}")
    box.file("etc/nvpmodel.conf", f"# {gossip}< POWER_MODEL ID=0 NAME=MAXN >\n")
    box.file("proc/meminfo", f"MemTotal: 128825804 kB\nNote: {gossip}")
    box.file("proc/device-tree/model", r"NVIDIA Jetson AGX Thor Developer Kit\0")
    box.file("proc/device-tree/compatible", r"nvidia,p3834-0008\0nvidia,tegra264\0")
    box.file("proc/device-tree/serial-number", serial)
    box.file("sys/devices/soc0/serial_number", serial)
    box.file("sys/devices/soc0/family", "Tegra\n")
    box.file("etc/hostname", host)
    box.zone(0, "tj-thermal", "40000")
    box.smi(
        f"NVIDIA Thor, [N/A], 595.78, 11.0, GPU-{uuid}, [N/A]\n",
        errors=gossip,
        code=14,
        plain=TABLE.replace("\n", f"\n{gossip}", 1),
        temp=f"0, 41, GPU-{uuid}\n",
    )


def test_no_serial_number_address_or_name_is_in_the_file(box: FakeMachine, tmp_path: Path) -> None:
    told(box)
    found = record(box.root, box.run, ("alices-robot", "alice"))
    write_capture(found, tmp_path / "thor.tar")
    data = (tmp_path / "thor.tar").read_bytes().decode(errors="replace")
    assert [one for one in PERSONAL if one.lower() in data.lower()] == []
    assert found.files["sys/devices/soc0/family"] == b"Tegra\n"


def test_without_them_it_is_still_the_same_machine(box: FakeMachine) -> None:
    told(box)
    live = box.hardware()
    again = hardware_of(record(box.root, box.run, ("alices-robot", "alice")))
    [gpu] = again.gpus
    assert gpu.uuid == "GPU-00000000-0000-0000-0000-000000000001"
    renamed = live.gpus[0].model_copy(update={"uuid": gpu.uuid, "board": gpu.uuid})
    assert again == live.model_copy(update={"gpus": (renamed,), "notes": again.notes})
    assert (again.tnspec, again.jetpack, again.power_modes) == (
        "3834-0008-jetson-agx-thor-devkit", "7.2", ("MAXN",),
    )  # fmt: skip
    assert len(again.notes) == len(live.notes)


@pytest.mark.parametrize("host", ["nvidia", "thor", "Ubuntu", "tegra-ubuntu", "go"])
def test_a_name_that_is_also_nvidias_does_not_change_the_machine(
    box: FakeMachine, host: str
) -> None:
    told(box)
    names = (
        hardware_of(record(box.root, box.run, ())),
        hardware_of(record(box.root, box.run, (host,))),
    )
    assert names[0] == names[1]


def test_one_gpu_has_one_number_in_every_answer(box: FakeMachine) -> None:
    told(box)
    second = "5f6b7c2d-0000-4a4b-8c8d-9e9f0a0b0c0d"
    first = PERSONAL[6]
    rows = [f"NVIDIA A{number}, 1024, 590.1, 8.0, GPU-{uuid}, [N/A]\n"
            for number, uuid in enumerate((first, second))]  # fmt: skip
    box.file("proc/device-tree/compatible", "x")
    box.smi("".join(rows), temp=f"0, 50, GPU-{second.upper()}\n1, 60, GPU-{first}\n")
    found = record(box.root, box.run, ())
    uuids = [gpu.uuid or "" for gpu in hardware_of(found).gpus]
    assert len(set(uuids)) == 2
    [heat] = [answer.output for argv, answer in found.answers.items() if "temp" in " ".join(argv)]
    assert heat == f"0, 50, {uuids[1]}\n1, 60, {uuids[0]}\n"


def test_the_names_are_those_of_the_host_and_the_user() -> None:
    names = personal_names({"SUDO_USER": "alice", "HOME": "/home/carol", "USER": ""})
    assert {"alice", "carol", os.uname().nodename} <= names
    assert "" not in names


def test_nothing_is_run_that_changes_the_machine(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []
    name = "thor-jetpack-7.2"

    def run(argv: Sequence[str], timeout_s: float) -> Answer:
        asked.append(argv)
        return replay(name)(argv, timeout_s)

    record(unpack(name, tmp_path), run, ())
    programs = {argv[0] for argv in asked}
    assert programs == {"uname", "nvidia-smi", "nvpmodel"}
    assert [argv for argv in asked if argv[0] == "nvpmodel" and argv[1] not in {"-q", "-p"}] == []
    words = {word for argv in asked for word in argv if argv[0] == "nvidia-smi"}
    assert all(word == "nvidia-smi" or word.startswith(("--query-gpu=", "--format=")) or
               word in {"-L", "-q", "-d", "TEMPERATURE"} for word in words)  # fmt: skip


def test_power_modes_are_in_the_capture_of_a_jetson(tmp_path: Path) -> None:
    found = record(unpack("thor-jetpack-7.2", tmp_path), replay("thor-jetpack-7.2"), ())
    assert found.run(("nvpmodel", "-q")) == captured("thor-jetpack-7.2").run(("nvpmodel", "-q"))
