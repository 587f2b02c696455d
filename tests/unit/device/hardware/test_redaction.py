"""What is personal is left out of a text, and what identifies hardware stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.capture import Capture, hardware_of
from forge.device.hardware.facts import Answer
from forge.device.hardware.redaction import Redactor, redact

UUID = "74DD2A41-8ae6-1b5c-63d7-2d8be5dd5cf3"
FIRST = "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    "text",
    [
        "NVIDIA Thor, [N/A], 595.78, 11.0",
        "10.13.3.9", "libnvinfer.so.10.13.3", "590.44.01", "00000000:01:00.0", "0000:c1:00.0",
        "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264", "Mon Nov 30 04:22:26 2026",
        "3701-500-0005-F.0-1-0-jetson-agx-orin-devkit-mmcblk0p1", "GCID: 43443517", "0x2c34",
        "6.8.12-1021-tegra", "NV Power Mode: MODE_30W\n2\n", "/home", "serialised",
    ],
)  # fmt: skip
def test_what_identifies_hardware_stays(text: str) -> None:
    assert Redactor(["robot"]).value(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GPU-" + UUID, "GPU-" + FIRST),
        (f"MIG-GPU-{UUID}/7/0", f"MIG-GPU-{FIRST}/7/0"),
        ("eth0 3c:6d:66:0A:b1:c2", "eth0 removed"),
        ("00:11:22:33:44:55:66:77", "removed"),
        ("Serial Number    : 1423425028841", "Serial Number    : removed"),
        ("a\nboard_serial=12 34\nb", "a\nboard_serial= removed\nb"),
        ("/home/alice/run", "/home/user/run"),
    ],
)
def test_what_has_an_unmistakable_form_is_replaced_everywhere(text: str, left: str) -> None:
    assert Redactor().value(text) == left
    assert Redactor().message(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("from 10.0.0.17: no", "from 0.0.0.0: no"),
        ("fe80:1:2:3:3e6d:66ff:fe0a:b1c2 up", ":: up"),
        ("unable to resolve Robot-7 robot-7.lab", "unable to resolve removed removed.lab"),
        ("robot-77 xrobot-7", "robot-77 xrobot-7"),
        ("nvidia-smi has failed", "nvidia-smi has failed"),
    ],
)
def test_names_and_addresses_are_replaced_in_messages(text: str, left: str) -> None:
    assert Redactor(["robot-7", "nvidia", "", "up"]).message(text) == left


def test_the_longer_of_two_names_is_replaced_first() -> None:
    assert Redactor(["alice", "alice-pc"]).message("alice-pc") == "removed"


def test_a_row_is_not_a_message() -> None:
    answers: dict[tuple[str, ...], Answer] = {
        ("nvidia-smi", "--query"): Answer("robot, 10.1.2.3", "robot", "robot", 9)
    }
    found = redact(Capture(answers=answers), ["robot"])
    assert found.answers == {
        ("nvidia-smi", "--query"): Answer("robot, 10.1.2.3", "removed", "removed", 9)
    }


def test_the_table_of_processes_goes_and_the_gpus_stay() -> None:
    table = "| GPU |\n+---+\n| Processes: |\n| 0 4711 C /srv/x 5MiB |\n"
    found = redact(Capture(answers={("nvidia-smi",): Answer(table)}))
    assert found.answers[("nvidia-smi",)].output == "| GPU |\n+---+\n"


def test_bytes_that_are_no_text_stay_and_lines_end_at_line_feeds_only() -> None:
    files = {"proc/device-tree/model": b"\xff\0", "etc/os-release": b"X=\x0bPRETTY_NAME=no\nID=a"}
    assert redact(Capture(files)).files == {
        "proc/device-tree/model": b"\xff\0", "etc/os-release": b"ID=a",
    }  # fmt: skip


# Lines that the parsers look at, lines that look like them, and what may stand between them.
LINES = st.sampled_from(
    [
        'PRETTY_NAME="A 1"', " PRETTY_NAME=no", "ID=a", "HOME_URL=b",
        "MemTotal:       65536 kB", "  MemTotal: 1 kB", "MemFree: 2 kB",
        "# R38 (release), REVISION: 4.0, GCID: 1", "x# R36 (release), REVISION: 4.3", "# alice",
        "TNSPEC 3834-t4000", "  TNSPEC\tb", "#TNSPEC c", "COMPATIBLE_SPEC d",
        "< POWER_MODEL ID=0 NAME=MAXN >", "  < POWER_MODEL ID=1 NAME=120W >", "#< POWER_MODEL ID=2",
        "TPC_POWER_GATING TPC_PG_MASK 1", "< PM_CONFIG DEFAULT=1 >", "", " ", "\xe9",
    ]
)  # fmt: skip
TEXTS = st.lists(
    st.tuples(LINES, st.sampled_from(["\n", "\n\n", "\r\n", "\x0b", "\r"])), max_size=5
)
PATHS = ("etc/os-release", "etc/nv_boot_control.conf", "etc/nv_tegra_release", "etc/nvpmodel.conf",
         "proc/meminfo")  # fmt: skip


@given(st.fixed_dictionaries(dict.fromkeys(PATHS, TEXTS)))
def test_a_machine_is_the_same_without_the_lines_that_are_left_out(
    texts: dict[str, list[tuple[str, str]]],
) -> None:
    files = {path: "".join(map("".join, lines)).encode() for path, lines in texts.items()}
    whole = Capture(
        files, answers={("uname", "-m"): Answer("aarch64"), ("uname", "-r"): Answer("6")}
    )
    assert hardware_of(redact(whole, ["alice"])) == hardware_of(whole)
