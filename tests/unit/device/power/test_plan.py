"""From what is in force and what is wanted to commands or sentences. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.compute_target import CPU, ComputeTarget
from forge.device.hardware.gpus import Gpu, GpuKind
from forge.device.power.plan import (
    NOTHING,
    GpuPower,
    PowerFacts,
    PowerReport,
    is_power_row,
    parse_gpus,
    plan,
)
from forge.nvidia_smi import read_rows
from forge.nvpmodel import CurrentMode, Mode, Modes
from forge.profiles import PowerSection
from tests.support.machines import CARD, JETSON

RTX = GpuPower(
    index=0,
    name="NVIDIA RTX PRO 4000 Blackwell",
    limit_w=145.0,
    min_limit_w=70.0,
    max_limit_w=145.0,
    max_clock_mhz=2617,
)
SILENT = RTX.model_copy(
    update=dict.fromkeys(("limit_w", "min_limit_w", "max_limit_w", "max_clock_mhz"))
)
THOR = PowerFacts(JETSON, Modes((Mode(0, "MAXN"), Mode(1, "120W")), 1), CurrentMode("120W", 1))
GATED = PowerFacts(
    JETSON,
    Modes((Mode(0, "MAXN", ("GPU_PG_MASK 0",)), Mode(3, "70W", ("GPU_PG_MASK 252",))), 0),
    CurrentMode("MAXN", 0),
)
WORKSTATION = PowerFacts(CARD, gpus=(RTX,))


def power(
    mode: str | None = None, limit_w: int | None = None, *, lock: bool = False
) -> PowerSection:
    return PowerSection(mode=mode, limit_w=limit_w, lock_clocks=lock)


def commands(wanted: PowerSection, facts: PowerFacts) -> list[str]:
    made = plan(wanted, facts)
    assert made.refusals == ()
    return [str(command) for command in made.commands]


def refusal(wanted: PowerSection, facts: PowerFacts) -> str:
    made = plan(wanted, facts)
    assert made.commands == ()
    (only,) = made.refusals
    return only


@pytest.mark.parametrize("facts", [THOR, WORKSTATION, PowerFacts(CPU), PowerFacts(JETSON)])
def test_nothing_is_done_when_nothing_is_wanted(facts: PowerFacts) -> None:
    assert commands(NOTHING, facts) == []


def test_a_mode_is_set_by_the_id_that_its_name_has_on_this_board() -> None:
    assert commands(power("MAXN"), THOR) == ["nvpmodel -m 0"]
    elsewhere = PowerFacts(
        JETSON, Modes((Mode(7, "MAXN"), Mode(1, "120W"))), CurrentMode("120W", 1)
    )
    assert commands(power("MAXN"), elsewhere) == ["nvpmodel -m 7"]


def test_a_mode_in_force_is_not_set_again() -> None:
    assert commands(power("120W"), THOR) == []


def test_a_mode_is_set_when_the_one_in_force_is_not_known() -> None:
    assert commands(power("120W"), PowerFacts(JETSON, THOR.modes)) == ["nvpmodel -m 1"]


def test_a_mode_the_board_has_not_is_refused_with_those_it_has() -> None:
    said = refusal(power("90W"), THOR)
    assert said == "power mode 90W is not available; /etc/nvpmodel.conf has MAXN, 120W"
    assert "has none" in refusal(power("90W"), WORKSTATION)


def test_a_mode_with_other_parts_of_the_chip_needs_a_reboot_and_is_left_to_people() -> None:
    said = refusal(power("70W"), GATED)
    assert "needs a reboot and was not applied" in said
    assert "sudo nvpmodel -m 3" in said


def test_clocks_are_locked_after_the_mode_is_set() -> None:
    assert commands(power("MAXN", lock=True), THOR) == ["nvpmodel -m 0", "jetson_clocks"]
    assert commands(power("120W", lock=True), THOR) == ["jetson_clocks"]


def test_a_limit_within_the_boards_range_is_set() -> None:
    assert commands(power(limit_w=100), WORKSTATION) == ["nvidia-smi -i 0 -pl 100"]
    assert commands(power(limit_w=145), WORKSTATION) == []


@pytest.mark.parametrize("watts", [69, 146, 1000])
def test_a_limit_outside_the_boards_range_is_refused(watts: int) -> None:
    assert "allows 70 to 145 W" in refusal(power(limit_w=watts), WORKSTATION)


def test_a_limit_is_refused_where_it_cannot_be_checked() -> None:
    assert "reports no range" in refusal(power(limit_w=100), PowerFacts(CARD, gpus=(SILENT,)))
    assert "no GPU has" in refusal(power(limit_w=100), PowerFacts(CARD))
    assert "only discrete GPUs" in refusal(power(limit_w=100), THOR)
    assert "only discrete GPUs" in refusal(power(limit_w=100), PowerFacts(CPU))


def test_power_is_not_set_while_it_is_not_known_which_gpu_serves() -> None:
    two = PowerFacts(CARD, gpus=(RTX, RTX.model_copy(update={"index": 1})))
    assert "which of 2 GPUs serves" in refusal(power(limit_w=100), two)
    assert "which of 2 GPUs serves" in refusal(power(lock=True), two)


def test_a_gpu_is_named_by_its_uuid_where_that_is_known() -> None:
    named = PowerFacts(CARD, gpus=(RTX.model_copy(update={"uuid": "GPU-1"}),))
    assert commands(power(limit_w=100), named) == ["nvidia-smi -i GPU-1 -pl 100"]


@pytest.mark.parametrize("kind", ["mig", "vgpu"])
def test_a_part_of_a_gpu_has_no_power_of_its_own(kind: GpuKind) -> None:
    part = Gpu(name="P40-24Q", memory_mib=1, compute_capability="6.1", kind=kind)
    facts = PowerFacts(ComputeTarget("card", part), gpus=(RTX,))
    assert "P40-24Q is a part of a GPU that others use too" in refusal(power(limit_w=100), facts)
    assert "P40-24Q is a part of a GPU that others use too" in refusal(power(lock=True), facts)


def test_a_discrete_gpu_is_locked_to_its_highest_clock() -> None:
    assert commands(power(lock=True), WORKSTATION) == ["nvidia-smi -i 0 -lgc 2617,2617"]
    assert "no maximum" in refusal(power(lock=True), PowerFacts(CARD, gpus=(SILENT,)))


def parse(text: str) -> tuple[GpuPower, ...]:
    return parse_gpus(read_rows(text, "", 0, "", is_power_row).rows)


def test_gpus_are_read_as_nvidia_smi_prints_them() -> None:
    text = (
        "0, NVIDIA RTX PRO 4000 Blackwell, 145.00, 70.00, 145.00, 2617\n"
        "1, Tesla P40, [N/A], [Not Supported], , x\n"
        "No devices were found\n"
        "0, 61\n"
    )
    assert parse(text) == (
        RTX,
        SILENT.model_copy(update={"index": 1, "name": "Tesla P40"}),
    )


@given(st.text())
def test_no_text_breaks_the_gpu_parser(text: str) -> None:
    parse(text)
    parse(f"0, {text}, {text}, {text}, {text}, {text}")


def test_a_report_says_what_is_in_force_and_what_is_missing() -> None:
    wanted = power("MAXN", lock=True)
    made = plan(wanted, THOR)
    report = PowerReport.of(THOR, wanted, made.commands, made.refusals)
    assert (report.mode, report.default_mode, report.modes) == ("120W", "120W", ("MAXN", "120W"))
    assert report.commands == ("nvpmodel -m 0", "jetson_clocks")
