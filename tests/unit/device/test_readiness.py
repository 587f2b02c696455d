"""Whether a GPU is ready for a benchmark: a fake nvidia-smi on PATH, real processes and files."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.hardware.gpus import Gpu
from forge.device.readiness import Occupancy, Readiness, check_readiness, judge_readiness
from forge.device.thermal.sensors import Sensor, Temperatures
from forge.throttling import Throttling
from tests.support.machines import JETSON, FakeMachine

OURS = "GPU-11111111-0000-0000-0000-000000000000"
OTHER = "GPU-22222222-0000-0000-0000-000000000000"
RTX = Gpu(index=0, name="RTX", uuid=OURS, memory_mib=24_000, compute_capability="12.0")
TARGET = ComputeTarget("card", RTX, alone=False)
COOL = Temperatures(
    decisive=(Sensor(name="gpu0", celsius=40, throttle_c=87),), throttling=Throttling(share=0.0)
)
IDLE = Occupancy((), 0)
# index, temperature.gpu, uuid, clocks_event_reasons.active, clocks.sm, clocks.max.sm
TEMPERATURE = "0, 41, {uuid}, 0x0000000000000001, 300, 2600\n"
# gpu_uuid, pid, process_name
TRAINING = "{uuid}, 4711, /usr/bin/python3\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    made = FakeMachine(tmp_path)
    made.root.mkdir()
    monkeypatch.setenv("PATH", made.path)
    return made


def answers(
    machine: FakeMachine, processes: str = "", utilisation: str = "", code: int = 0
) -> None:
    machine.smi(
        "", temp=TEMPERATURE.format(uuid=OURS), processes=processes, code=code,
        utilisation=utilisation or f"0, {OURS}, 0\n1, {OTHER}, 100\n", limits="", plain="",
    )  # fmt: skip


def ready(machine: FakeMachine, target: ComputeTarget = TARGET) -> Readiness:
    return check_readiness(target, None, machine.root, machine.run, lambda _seconds: None)


def test_a_gpu_beside_a_busy_one_is_ready(machine: FakeMachine) -> None:
    answers(machine, processes=TRAINING.format(uuid=OTHER))
    assert ready(machine).refusals == ()


def test_a_process_on_the_gpu_is_named(machine: FakeMachine) -> None:
    answers(machine, processes=TRAINING.format(uuid=OURS))
    assert ready(machine).refusals == ("other processes compute on the GPU: 4711 python3",)


def test_a_slice_shares_the_heat_and_time_of_its_board(machine: FakeMachine) -> None:
    part = RTX.model_copy(update={"uuid": "MIG-1", "board": OURS, "kind": "mig"})
    answers(machine, processes=TRAINING.format(uuid=OURS))
    assert len(ready(machine, ComputeTarget("card", part)).refusals) == 1


@pytest.mark.parametrize(
    ("processes", "code"),
    [
        ("[Not Supported]\n", 0),
        ("No devices were found\n", 6),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18),
    ],
)
def test_what_the_driver_does_not_list_is_not_known(
    machine: FakeMachine, processes: str, code: int
) -> None:
    answers(machine, processes=processes, code=code)
    found = ready(machine)
    assert found.refusals == ()
    assert "which processes compute on the GPU" in found.unknown


@pytest.mark.parametrize("code", [0, 14, 15])
def test_a_warning_leaves_the_rows_good(machine: FakeMachine, code: int) -> None:
    warning = "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n"
    answers(machine, processes=TRAINING.format(uuid=OURS) + warning, code=code)
    assert len(ready(machine).refusals) == 1
    answers(machine, processes=warning, code=code)
    assert "which processes compute on the GPU" in ready(machine).unknown


def test_the_busiest_of_several_readings_counts(machine: FakeMachine) -> None:
    answers(machine)
    left = [0, 97, 0]

    def next_reading(_seconds: float) -> None:
        left.pop(0)
        answers(machine, utilisation=f"0, {OURS}, {left[0]}\n1, {OTHER}, 0\n")

    found = check_readiness(TARGET, None, machine.root, machine.run, next_reading)
    assert found.refusals == ("the GPU is busy: 97 % of the time",)


def test_without_nvidia_smi_nothing_is_known_and_nothing_refused(machine: FakeMachine) -> None:
    machine.no_smi()
    found = ready(machine)
    assert found.refusals == ()
    assert len(found.unknown) == 4
    assert any("nvidia-smi" in one for one in found.unknown)


def test_the_cpu_is_not_asked(machine: FakeMachine) -> None:
    assert ready(machine, CPU) == Readiness((), ())


def test_a_jetson_is_judged_by_its_zones(machine: FakeMachine) -> None:
    zone = machine.zone(0, "gpu-thermal", "84000")
    machine.trip(zone, 0, "passive", 95)
    (refusal,) = ready(machine, JETSON).refusals
    assert refusal.startswith("gpu-thermal has 84 °C, and its clocks are lowered at 95 °C")


@pytest.mark.parametrize(("celsius", "refused"), [(67, 0), (68, 1)])
def test_cool_is_20_degrees_below_the_slowdown(celsius: float, refused: int) -> None:
    hot = Temperatures(
        decisive=(Sensor(name="gpu0", celsius=celsius, throttle_c=87),),
        throttling=Throttling(share=0.0),
    )
    assert len(judge_readiness(IDLE, hot).refusals) == refused


@pytest.mark.parametrize(("stated", "refused"), [(None, 1), (100.0, 0)])
def test_the_profile_s_limit_counts_where_the_hardware_states_none(
    stated: float | None, refused: int
) -> None:
    hot = Temperatures(
        decisive=(Sensor(name="gpu0", celsius=75, throttle_c=stated),),
        throttling=Throttling(share=0.0),
    )
    found = judge_readiness(IDLE, hot, throttle_c=83.0)
    assert len(found.refusals) == refused
    assert found.unknown == ()


def test_heat_that_lowers_the_clocks_is_refused() -> None:
    slow = Temperatures(
        decisive=COOL.decisive, throttling=Throttling(share=0.5, reasons=("HW thermal slowdown",))
    )
    assert judge_readiness(IDLE, slow).refusals == (
        "heat lowers the clocks now: HW thermal slowdown",
    )


def test_an_idle_cool_gpu_has_nothing_to_say() -> None:
    assert judge_readiness(IDLE, COOL) == Readiness((), ())


@pytest.mark.parametrize(("utilisation", "refused"), [(9, 0), (10, 1)])
def test_a_desktop_does_not_make_a_gpu_busy(utilisation: int, refused: int) -> None:
    assert len(judge_readiness(Occupancy((), utilisation), COOL).refusals) == refused
