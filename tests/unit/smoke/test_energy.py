"""Energy and throttling of a run: which source, whose power, ill answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forge.nvidia_smi import SmiAnswer
from forge.smoke import machine
from forge.smoke.energy import EnergyMeter, EnergyReading, reason_name
from forge.smoke.gpu_choice import ChosenGpu, GpuRow, GpuWanted
from tests.support.machines import FakeMachine, eagain
from tests.support.rails import AGX_ORIN, ORIN_NX, THOR, put, rapl

CARD = GpuRow(
    1, "GPU-bb", "NVIDIA RTX PRO 4000 Blackwell", "590.44.01", 24467, False, "12.0", False
)
CPU = ChosenGpu("cpu")
NOW = 100.0
SOC = ChosenGpu("soc")


def says(*rows: str, note: str = "") -> list[SmiAnswer]:
    return [SmiAnswer(tuple(tuple(row.split(", ")) for row in rows), note)]


class Smi:
    """Answers in turn, the last one for ever; keeps what was asked."""

    def __init__(self, answers: Sequence[SmiAnswer] = ()) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, query: str) -> SmiAnswer:
        self.asked.append(query)
        if not self.answers:
            return SmiAnswer(note="nvidia-smi is not installed")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def window(seconds: float) -> tuple[EnergyReading, EnergyReading]:
    """A time that begins with the samples."""
    return EnergyReading(NOW, {}, NOW, {}), EnergyReading(NOW + seconds, {}, NOW + seconds, {})


def meter_of(
    chosen: ChosenGpu, ask: Callable[[str], SmiAnswer], root: Path, at: float = NOW
) -> EnergyMeter:
    """A meter whose clock stands still: a busy machine makes no gap."""
    return EnergyMeter(chosen, ask, root, clock=lambda: at)


def test_of_two_gpus_the_chosen_one_counts(tmp_path: Path) -> None:
    smi = Smi(
        says("0, GPU-aa, 250.00, 0x0000000000000040", "1, GPU-bb, 100.00, 0x0000000000000001")
    )
    with meter_of(ChosenGpu("card", CARD), smi, tmp_path) as meter:
        assert meter.joules(*window(2)) == pytest.approx(200)
    found = meter.conditions()
    assert (found.energy_source, found.energy_of) == ("nvidia-smi", CARD.name)
    assert (found.throttled, found.throttle_reasons) == (False, ())  # the other one throttles


def test_what_throttled_the_gpu_is_named_once(tmp_path: Path) -> None:
    smi = Smi(says("1, GPU-bb, 100.00, 0x00000000000000a8"))
    with meter_of(ChosenGpu("card", CARD), smi, tmp_path) as meter:
        meter.reading()
    assert meter.conditions().throttled is True
    assert meter.conditions().throttle_reasons == ("SW thermal slowdown", "HW power brake slowdown")


def test_the_power_cap_that_a_profile_sets_is_no_throttling(tmp_path: Path) -> None:
    smi = Smi(says("1, GPU-bb, 100.00, 0x0000000000000117"))
    with meter_of(ChosenGpu("card", CARD), smi, tmp_path) as meter:
        pass
    assert meter.conditions().throttled is False


@pytest.mark.parametrize("cell", ["[N/A]", "[Unknown Error]", "ERR!"])
def test_a_gpu_without_power_is_not_replaced_by_the_processor(tmp_path: Path, cell: str) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    smi = Smi(says(f"1, GPU-bb, {cell}, 0x0000000000000001"))
    with meter_of(ChosenGpu("card", CARD), smi, tmp_path) as meter:
        before = meter.reading()
        rapl(tmp_path, "intel-rapl:0", "package-0", 9_000_000)
        assert meter.joules(before, meter.reading()) is None
    found = meter.conditions()
    assert (found.energy_source, found.energy_of, found.throttled) == (None, "", False)
    assert found.energy_problem.startswith(("NVIDIA RTX PRO 4000", "nvidia-smi does not know"))


def test_a_slice_has_no_energy_and_says_why(tmp_path: Path) -> None:
    smi = Smi(says("1, GPU-bb, 400.00, 0x0000000000000001"))
    with meter_of(ChosenGpu("card", CARD, is_slice=True), smi, tmp_path) as meter:
        assert meter.joules(*window(1)) is None
    assert "includes the other slices" in meter.conditions().energy_problem


def test_a_gpu_that_is_not_known_has_no_energy_and_nothing_is_asked(tmp_path: Path) -> None:
    smi = Smi()
    with meter_of(ChosenGpu("unknown", problem="counts by speed"), smi, tmp_path) as meter:
        assert meter.joules(*window(1)) is None
    assert meter.conditions().energy_problem == "counts by speed"
    assert smi.asked == []


def test_a_lost_answer_is_a_sample_less(tmp_path: Path) -> None:
    good = says("1, GPU-bb, 100.00, 0x0000000000000001")
    smi = Smi([*good, SmiAnswer(note="exit code 255: GPU is lost"), *good])
    with meter_of(ChosenGpu("card", CARD), smi, tmp_path) as meter:
        before = meter.reading()
        assert meter.joules(before, replace(before, began=before.ended + 1)) == pytest.approx(100)


@pytest.mark.parametrize(
    ("known", "throttled", "asked"),
    [("clocks_event_reasons", True, 1), ("clocks_throttle_reasons", True, 2), ("none", None, 3)],
)
def test_a_driver_that_does_not_know_a_field_is_asked_for_less(
    tmp_path: Path, known: str, asked: int, *, throttled: bool | None
) -> None:
    queries: list[str] = []

    def ask(query: str) -> SmiAnswer:
        queries.append(query)
        if "reasons" in query and known not in query:
            return SmiAnswer(note='exit code 2: Field "x" is not a valid field to query.')
        reasons = ", 0x0000000000000040" if "reasons" in query else ""
        return says(f"1, GPU-bb, 50.00{reasons}")[0]

    with meter_of(ChosenGpu("card", CARD), ask, tmp_path) as meter:
        assert len(queries) == asked
        assert meter.joules(*window(2)) == pytest.approx(100)
    assert meter.conditions().throttled is throttled


@pytest.mark.parametrize(
    ("board", "watts", "scope"),
    [
        (AGX_ORIN, 22.43, "VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"),
        (ORIN_NX, 5.08, "VDD_IN"),
        (THOR, 19.78, "VIN"),
    ],
)
def test_a_jetson_s_energy_is_that_of_its_rails(
    tmp_path: Path, board: dict[str, dict[str, tuple[int, int]]], watts: float, scope: str
) -> None:
    put(tmp_path, board)
    gpu = GpuRow(0, "GPU-tt", "NVIDIA Thor", "595.78", None, True, "11.0", False)
    smi = Smi(says("0, GPU-tt, 4.20, 0x0000000000000000"))  # of the GPU alone
    with meter_of(ChosenGpu("soc", gpu), smi, tmp_path) as meter:
        assert meter.joules(*window(3)) == pytest.approx(3 * watts, rel=0.005)
    found = meter.conditions()
    assert (found.energy_source, found.energy_of) == ("hwmon", scope)
    assert smi.asked == []  # no process each half second for what the rails say


def test_a_gpu_in_the_chip_of_a_machine_without_rails_is_asked_itself(tmp_path: Path) -> None:
    gpu = GpuRow(0, "GPU-gb", "NVIDIA GB10", "580.95.05", None, True, "12.1", False)
    smi = Smi(says("0, GPU-gb, 31.50, 0x0000000000000000"))
    with meter_of(ChosenGpu("soc", gpu), smi, tmp_path) as meter:
        assert meter.joules(*window(2)) == pytest.approx(63)
    assert meter.conditions().energy_of == "NVIDIA GB10"


def test_a_rail_that_fails_now_and_then_is_a_sample_less(tmp_path: Path) -> None:
    [folder] = put(tmp_path, ORIN_NX)
    with meter_of(SOC, Smi(), tmp_path) as meter:
        before = meter.reading()
        with eagain(folder / "curr1_input"):
            meter.reading()
        (folder / "curr1_input").unlink()
        (folder / "curr1_input").write_text("1000\n")
        assert meter.joules(before, replace(before, began=before.ended + 2)) == pytest.approx(10.16)


def test_a_jetson_that_heats_says_so(tmp_path: Path) -> None:
    box = FakeMachine(tmp_path)
    put(box.root, ORIN_NX)
    box.cooling(0, "devfreq-17000000.gpu", "0", "10")
    box.file("sys/class/hwmon/hwmon9/oc1_event_cnt", "4\n")
    with meter_of(SOC, Smi(), box.root) as meter:
        assert meter.conditions().throttled is False
        box.file("sys/class/hwmon/hwmon9/oc1_event_cnt", "5\n")
        meter.reading()
        box.cooling(0, "devfreq-17000000.gpu", "2", "10")
        meter.reading()
    assert meter.conditions().throttled is True
    assert meter.conditions().throttle_reasons == ("over-current oc1", "devfreq-17000000.gpu")


def test_the_cpu_s_energy_is_that_of_its_packages_also_beside_a_gpu(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    rapl(tmp_path, "intel-rapl:1", "package-1", 1_000_000)
    smi = Smi(says("0, GPU-aa, 250.00, 0x0000000000000000"))
    with meter_of(CPU, smi, tmp_path) as meter:
        before = meter.reading()
        rapl(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
        rapl(tmp_path, "intel-rapl:1", "package-1", 4_000_000)
        after = replace(meter.reading(), began=before.ended + 2)
        assert meter.joules(before, after) == pytest.approx(6)
    found = meter.conditions()
    assert (found.energy_source, found.energy_of) == ("rapl", "package-0 + package-1")
    assert smi.asked == []


def test_a_slow_answer_after_a_run_is_no_part_of_it(tmp_path: Path) -> None:
    """Reading nvidia-smi takes 0.3 s and more; the GPU idles or works on meanwhile."""
    times = iter(range(100))
    smi = Smi(says("1, GPU-bb, 100.00, 0x0000000000000000"))
    meter = EnergyMeter(ChosenGpu("card", CARD), smi, tmp_path, clock=lambda: float(next(times)))
    before, after = meter.reading(), meter.reading()  # each looks at the clock three times
    assert after.began - before.ended == 1
    assert meter.joules(before, after) == pytest.approx(100)


def test_energy_of_other_rails_is_not_added_to_that_of_the_board(tmp_path: Path) -> None:
    """The monitor of the whole board is lost, and the rails of the module are left."""
    _, board = put(tmp_path, THOR)
    now = [NOW]
    meter = EnergyMeter(SOC, Smi(), tmp_path, clock=lambda: now[0])
    before = meter.reading()
    shutil.rmtree(board)
    readings = [before]
    for _ in range(6):
        now[0] += 1
        readings.append(meter.reading())
    assert meter.conditions().energy_of == "VIN"
    assert meter.joules(before, readings[-1]) is None


def test_meter_knows_nothing_on_a_machine_that_says_nothing(tmp_path: Path) -> None:
    with meter_of(CPU, Smi(), tmp_path) as meter:
        assert meter.joules(meter.reading(), meter.reading()) is None
    found = meter.conditions()
    assert (found.throttled, found.throttle_reasons, found.energy_source) == (None, (), None)
    assert "no power monitor" in found.energy_problem
    assert "no energy counter" in found.energy_problem


def test_meter_counts_thermal_throttling_of_the_processor(tmp_path: Path) -> None:
    box = FakeMachine(tmp_path)
    counter = "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count"
    box.file(counter, "3\n")
    with meter_of(CPU, Smi(), box.root) as meter:
        assert meter.conditions().throttled is False
        box.file(counter, "5\n")
        meter.reading()
    assert meter.conditions().throttled is True
    assert meter.conditions().throttle_reasons == ("CPU thermal throttling",)


def test_other_reasons_keep_their_name() -> None:
    assert reason_name("cpufreq-cpu0") == "cpufreq-cpu0"


@pytest.mark.parametrize("code", [0, 14, 15, 255])
def test_a_card_replayed_by_text_and_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Two cards, of which one is lost with code 15 and 255: its row is no row."""
    box = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", box.path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    lost = (
        "" if code in {0, 14} else "Unable to determine the device handle for GPU0: Unknown Error\n"
    )
    p40 = "0, GPU-aa, Tesla P40, 590.44.01, 23040, 6.1, [N/A]\n"
    pro = "1, GPU-bb, NVIDIA RTX PRO 4000 Blackwell, 590.44.01, 24467, 12.0, Disabled\n"
    listed = f"{lost}{'' if lost else p40}{pro}"
    drawn = f"{lost}{'' if lost else '0, GPU-aa, 210.10, 0x0000000000000000' + chr(10)}"
    drawn += "1, GPU-bb, 98.50, 0x0000000000000004\n"
    box.smi("", code=code, choice=listed, drawn=drawn)
    chosen = machine.chosen_gpu(GpuWanted("12.0", "NVIDIA RTX PRO 4000 Blackwell"), box.root)
    assert chosen.environment == {"CUDA_VISIBLE_DEVICES": "GPU-bb"}
    with meter_of(chosen, machine.ask_smi, box.root) as meter:
        assert meter.joules(*window(2)) == pytest.approx(197)
    assert meter.conditions().throttled is False


def test_a_driver_after_an_upgrade_leaves_the_energy_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", box.path)
    said = "Failed to initialize NVML: Driver/library version mismatch\n"
    box.smi("", code=18, choice=said, drawn=said)
    chosen = machine.chosen_gpu(GpuWanted("12.0"), box.root)
    with meter_of(chosen, machine.ask_smi, box.root) as meter:
        assert meter.joules(*window(1)) is None
    assert meter.conditions().energy_problem == "nvidia-smi lists no GPU"
