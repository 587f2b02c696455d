"""Parsing of what machines print; the lines are from docs/hardware facts and this machine."""

import os
from pathlib import Path

import pytest

from forge.smoke.benchmark import prompt_set
from forge.smoke.machine import (
    here,
    output_of,
    parse_cpu,
    parse_gpu,
    parse_memory_mib,
    parse_power_limit_w,
)
from tests.support.machines import FakeMachine
from tests.support.smoke_results import MACHINE

X86 = "processor\t: 0\nmodel name\t: AMD EPYC  9B14\nprocessor\t: 1\nmodel name\t: AMD EPYC  9B14\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd83\n"


@pytest.mark.parametrize(
    ("cpuinfo", "architecture", "expected"),
    [
        (X86, "x86_64", "AMD EPYC 9B14"),
        (ARM, "aarch64", "aarch64 0x41:0xd83"),
        ("", "riscv64", "riscv64"),
    ],
)
def test_parse_cpu(cpuinfo: str, architecture: str, expected: str) -> None:
    assert parse_cpu(cpuinfo, architecture) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVIDIA GeForce RTX 5090, 590.44.01\n", ("NVIDIA GeForce RTX 5090", "590.44.01")),
        ("NVIDIA Thor, 580.00\nNVIDIA Thor, 580.00\n", ("NVIDIA Thor", "580.00")),
        ("", (None, None)),
        ("No devices were found\n", (None, None)),
    ],
)
def test_parse_gpu(text: str, expected: tuple[str | None, str | None]) -> None:
    assert parse_gpu(text) == expected


def test_parse_memory_is_mib() -> None:
    assert parse_memory_mib("MemTotal:       24683520 kB\nMemFree: 1 kB\n") == 24105
    assert parse_memory_mib("") == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("145.00\n", 145.0), ("70.00\n250.00\n", 70.0), ("[N/A]\n", None), ("", None),
     ("[Not Supported]\n", None), ("No devices were found\n", None)],
)  # fmt: skip
def test_parse_power_limit_is_watts_of_the_first_gpu(text: str, expected: float | None) -> None:
    assert parse_power_limit_w(text) == expected


def test_machines_at_unlike_power_do_not_compare_equal() -> None:
    low, high = (MACHINE.model_copy(update={"power_limit_w": limit}) for limit in (70.0, 145.0))
    fast, slow = (MACHINE.model_copy(update={"power_mode": mode}) for mode in ("MAXN", "120W"))
    assert len({one.describe() for one in (MACHINE, low, high, fast, slow)}) == 5


def programs(folder: Path, **says: str) -> None:
    for name, text in says.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


def test_here_names_the_power_mode_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, nvpmodel="printf 'NV Fan Mode:quiet\\nNV Power Mode: 120W\\n1\\n'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert here().power_mode == "120W"


def test_here_describes_this_machine() -> None:
    found = here()
    assert found.cores >= 1
    assert found.memory_mib > 0
    assert f"{found.cores} cores" in found.describe()


def test_default_prompts_are_varied() -> None:
    prompts = prompt_set("default")
    assert len(prompts) == len(set(prompts)) >= 16
    lengths = sorted(len(prompt) for prompt in prompts)
    assert lengths[-1] > 5 * lengths[0]


@pytest.mark.parametrize(("code", "said"), [(0, True), (14, True), (15, True), (9, False),
                                            (18, False)])  # fmt: skip
def test_rows_of_nvidia_smi_are_good_after_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, *, said: bool
) -> None:
    machine = FakeMachine(tmp_path)
    monkeypatch.setenv("PATH", machine.path)
    machine.smi("Tesla P40, 580.126.09\n", code=code)
    found = output_of("nvidia-smi", "--query-gpu=name,driver_version")
    assert found == ("Tesla P40, 580.126.09\n" if said else "")


def test_another_program_that_fails_says_nothing() -> None:
    assert output_of("sh", "-c", "echo a") == "a\n"
    assert output_of("sh", "-c", "echo a; exit 14") == ""
    assert output_of("forge-no-such-program") == ""
