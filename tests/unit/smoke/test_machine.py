"""Parsing of what machines print; the lines are from docs/hardware facts and this machine."""

import pytest

from forge.smoke.benchmark import prompt_set
from forge.smoke.machine import here, parse_cpu, parse_gpu, parse_memory_mib, parse_power_mode

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


def test_parse_power_mode() -> None:
    assert parse_power_mode("NV Power Mode: MAXN\n0\n") == "MAXN"
    assert parse_power_mode("") is None


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
