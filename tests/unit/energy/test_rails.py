"""The rails of boards: labels and files of real drivers, errnos of the kernel."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from forge.energy.power_reading import PowerReading, RailPower
from forge.energy.rails import board_power, read_rails, total_of
from forge.system_files import MAX_FILE_BYTES, RootFiles
from tests.support.machines import eagain
from tests.support.rails import AGX_ORIN, ORIN_NX, THOR, Channels, monitor, put

# Of L4T R38.4 and of two Orins: what the boards' own tool printed, from public captures.
TEGRASTATS = {
    "thor": "VDD_GPU 1962mW/1962mW VDD_CPU_SOC_MSS 5887mW/5887mW VIN_SYS_5V0 5635mW/5635mW"
    " VIN 19780mW/19780mW",
    "agx": "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW"
    " VDDQ_VDD2_1V8AO 1091mW/1091mW",
    "nx": "VDD_IN 5080mW/5080mW VDD_CPU_GPU_CV 1210mW/1210mW VDD_SOC 1450mW/1450mW",
}
BOARDS = {"thor": THOR, "agx": AGX_ORIN, "nx": ORIN_NX}


def read(root: Path) -> PowerReading:
    return board_power(RootFiles(root))


@pytest.mark.parametrize("board", ["thor", "agx", "nx"])
def test_every_rail_has_the_power_that_tegrastats_prints(tmp_path: Path, board: str) -> None:
    put(tmp_path, BOARDS[board])
    printed = {name: int(mw) for name, mw in re.findall(r"(\w+) (\d+)mW/", TEGRASTATS[board])}
    found = {rail.name: rail.watts for rail in read_rails(RootFiles(tmp_path))}
    assert found.keys() == printed.keys()  # neither NC nor the sum of shunt voltages
    for name, milliwatt in printed.items():
        assert found[name] == pytest.approx(milliwatt / 1000, rel=0.01)


@pytest.mark.parametrize(
    ("board", "watts", "scope"),
    [
        ("thor", 19.780, "VIN"),  # and not 33.3 W with its parts
        ("nx", 5.080, "VDD_IN"),
        ("agx", 3.150 + 14.312 + 4.968, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
    ],
)
def test_no_watt_of_a_board_counts_twice(
    tmp_path: Path, board: str, watts: float, scope: str
) -> None:
    put(tmp_path, BOARDS[board])
    found = read(tmp_path)
    assert found.watts == pytest.approx(watts, rel=0.005)
    assert (found.source, found.scope, found.problem) == ("hwmon", scope, "")


def test_a_thor_module_on_another_carrier_board_is_the_sum_of_its_rails(tmp_path: Path) -> None:
    put(tmp_path, {"ina3221/2-0040": THOR["ina3221/2-0040"]})
    assert read(tmp_path).watts == pytest.approx(13.484, rel=0.005)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODEV, errno.EAGAIN, errno.ENODATA])
def test_a_part_that_fails_makes_the_total_unknown_and_the_others_stay(
    tmp_path: Path, number: int
) -> None:
    put(tmp_path, AGX_ORIN)

    class Failing(RootFiles):
        def read(self, path: str, most: int = MAX_FILE_BYTES) -> bytes:
            if path == "sys/class/hwmon/hwmon0/curr2_input":
                raise OSError(number, "x")
            return super().read(path, most)

    found = board_power(Failing(tmp_path))
    assert (found.watts, found.source) == (None, "hwmon")
    assert found.problem == "VDD_CPU_CV could not be read"
    watts = {rail.name: rail.watts for rail in found.rails}
    assert watts["VDD_CPU_CV"] is None
    assert watts["VIN_SYS_5V0"] == pytest.approx(4.968)


def test_a_total_that_cannot_be_read_now_is_not_replaced_by_its_parts(tmp_path: Path) -> None:
    _, carrier = put(tmp_path, THOR)
    with eagain(carrier / "power1_input"):
        assert read(tmp_path).watts == pytest.approx(19.78)  # V times A of the same rail
        with eagain(carrier / "curr1_input"):
            found = read(tmp_path)
    assert (found.watts, found.problem) == (None, "VIN could not be read")


def test_a_part_beside_the_total_may_fail(tmp_path: Path) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    (folder / "in2_input").unlink()
    found = read(tmp_path)
    assert found.watts == pytest.approx(5.08)
    assert RailPower("VDD_CPU_GPU_CV", None) in found.rails


@pytest.mark.parametrize("text", ["", "4.9", "0x10", "9" * 13, "nan", "\xff"])
def test_what_is_no_number_is_not_known(tmp_path: Path, text: str) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    (folder / "curr1_input").write_bytes(text.encode("latin-1"))
    assert read(tmp_path).watts is None


def test_more_than_a_board_can_draw_is_not_known(tmp_path: Path) -> None:
    monitor(tmp_path / "sys/class/hwmon/hwmon0", "ina3221", {"VDD_IN": (32760, 163_800)})
    assert read(tmp_path).watts is None


def test_a_rail_at_rest_may_read_below_zero_and_a_board_draws_no_less_than_nothing(
    tmp_path: Path,
) -> None:
    [folder, _] = put(tmp_path, THOR)
    (folder / "curr1_input").write_text("-20\n")  # VDD_GPU of a Thor with its GPU off
    rails = {rail.name: rail.watts for rail in read(tmp_path).rails}
    assert rails["VDD_GPU"] == pytest.approx(-0.392, rel=0.01)
    assert total_of([RailPower("VIN", -0.1)]).watts == 0


def test_rails_of_which_none_is_known_to_be_the_total_are_shown_only(tmp_path: Path) -> None:
    monitor(tmp_path / "sys/class/hwmon/hwmon3", "ina3221", {"CVB_ATX_12V": (12000, 500)})
    found = read(tmp_path)
    assert (found.watts, found.source) == (None, None)
    assert found.problem == "it is not known which of the rails CVB_ATX_12V is the total"
    [rail] = found.rails
    assert rail.name == "CVB_ATX_12V"
    assert rail.watts == pytest.approx(6)


def test_other_devices_of_hwmon_are_no_rails(tmp_path: Path) -> None:
    monitor(tmp_path / "sys/class/hwmon/hwmon0", "nvme", {"VIN": (3300, 1000)})
    (tmp_path / "sys/class/hwmon/hwmon1").mkdir()
    assert read(tmp_path).problem.startswith("the board has no power monitor")


def test_the_label_of_the_device_tree_names_a_chip_with_one_channel(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    monitor(folder, "ina238", {"x": (20000, 1500)})
    assert [rail.name for rail in read_rails(RootFiles(tmp_path))] == ["ina238"]
    (folder / "label").write_text("VDD_FAN\n")
    [fan] = read_rails(RootFiles(tmp_path))
    assert fan.name == "VDD_FAN"
    assert fan.watts == pytest.approx(30)


def test_the_driver_s_folder_is_read_where_the_class_has_none(tmp_path: Path) -> None:
    put(tmp_path, AGX_ORIN)
    for number, device in ((0, "1-0040"), (1, "1-0041")):
        target = tmp_path / f"sys/bus/i2c/drivers/ina3221/{device}/hwmon/hwmon{number}"
        shutil.move(tmp_path / f"sys/class/hwmon/hwmon{number}", target)
    (tmp_path / "sys/bus/i2c/drivers/ina3221/bind").write_text("")
    assert read(tmp_path).watts == pytest.approx(22.43, rel=0.005)


def test_a_board_with_both_places_is_counted_once(tmp_path: Path) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    place = tmp_path / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon"
    place.mkdir(parents=True)
    (place / "hwmon0").symlink_to(folder)
    assert len(read(tmp_path).rails) == 3


@pytest.mark.parametrize("fails", ["names", "read"])
def test_no_file_that_fails_ends_the_reader(tmp_path: Path, fails: str) -> None:
    def fail(*_: object) -> list[str]:
        raise OSError(errno.EIO, "x")

    files = RootFiles(tmp_path)
    put(tmp_path, THOR)
    broken: Callable[..., list[str]] = fail
    setattr(files, fails, broken)
    assert board_power(files).watts is None


STRAY: Final = {"ina238/9-0040": {"x": (5000, 80)}}  # on a header, of 0.4 W


@pytest.mark.parametrize(
    ("board", "watts", "scope"),
    [
        ({**THOR, **STRAY}, 13.484, "VDD_GPU + VDD_CPU_SOC_MSS + VIN_SYS_5V0"),
        ({**STRAY, **AGX_ORIN}, 22.43, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        ({**ORIN_NX, **STRAY}, 5.08, "VDD_IN"),
        (STRAY, None, ""),
    ],
)
def test_a_monitor_that_is_not_the_board_s_is_not_the_board(
    tmp_path: Path, board: Mapping[str, Channels], watts: float | None, scope: str
) -> None:
    put(tmp_path, board)
    found = read(tmp_path)
    assert found.watts == (watts and pytest.approx(watts, abs=0.1))
    assert found.scope == scope
    assert bool(found.source) == bool(watts)  # RAPL is asked instead


def test_of_two_rails_with_the_name_of_the_total_it_is_not_known_which(tmp_path: Path) -> None:
    put(tmp_path, {**ORIN_NX, "ina3221/7-0041": {"VDD_IN": (5000, 10)}})
    found = read(tmp_path)
    assert found.watts is None
    assert "not known which of the rails" in found.problem


def test_a_rail_far_below_nothing_is_not_known(tmp_path: Path) -> None:
    board = {**AGX_ORIN["ina3221/1-0040"], "VDD_CPU_CV": (19605, -2900)}
    put(tmp_path, {"ina3221/1-0040": board})
    assert read(tmp_path).problem == "VDD_CPU_CV could not be read"


def test_a_monitor_without_labels_is_not_said_to_be_absent(tmp_path: Path) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    for label in folder.glob("*_label"):
        label.unlink()
    assert read(tmp_path).problem == (
        "the power monitor of the board has no label that can be read"
    )
