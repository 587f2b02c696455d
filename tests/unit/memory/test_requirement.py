"""What a profile requires, held against what its model takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forge import profiles
from forge.errors import ConfigurationError
from forge.memory import parse_shape
from forge.memory.requirement import check_memory
from forge.profiles import Profile

PROFILES = Path(__file__).resolve().parents[3] / "profiles"
SHIPPED = profiles.names(PROFILES)
SMOLLM2 = parse_shape("p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64")
LLAMA_8B = parse_shape("p8030261248.e1050673152.v128256.h4096.i14336.a32.t0.c32x8x128x128")


def load(name: str, *overrides: str) -> Profile:
    return profiles.load(name, PROFILES, overrides=overrides).profile


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profile_requires_what_the_shipped_model_takes(name: str) -> None:
    profile = load(name)
    served = check_memory(profile, SMOLLM2)
    assert served is not None
    assert 0 < served.total <= profile.requires.memory_mib
    assert served.max_seq_len == profile.engine.max_seq_len


@pytest.mark.parametrize("name", SHIPPED)
def test_requirement_of_one_mib_less_than_computed_is_refused(name: str) -> None:
    served = check_memory(load(name), SMOLLM2)
    assert served is not None
    check_memory(load(name, f"requires.memory_mib={served.total}"), SMOLLM2)
    with pytest.raises(ConfigurationError, match=f"{served.total - 1} MiB of memory") as caught:
        check_memory(load(name, f"requires.memory_mib={served.total - 1}"), SMOLLM2)
    assert caught.value.exit_code == 3
    assert str(served.need) in caught.value.why
    assert f"set requires.memory_mib to {served.total} or more" in caught.value.hint


def test_refusal_names_batch_and_length_that_fit_what_is_required() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_memory(load("development", "engine.max_batch_size=64"), SMOLLM2)
    found = re.search(r"engine\.max_batch_size (\d+) with max_seq_len 2048", caught.value.hint)
    assert found
    batch = int(found[1])
    check_memory(load("development", f"engine.max_batch_size={batch}"), SMOLLM2)
    with pytest.raises(ConfigurationError):
        check_memory(load("development", f"engine.max_batch_size={batch + 1}"), SMOLLM2)


def test_compiling_on_the_device_is_named_where_it_takes_most() -> None:
    with pytest.raises(ConfigurationError, match="compiling on the device takes") as caught:
        check_memory(load("jetson-agx-thor"), LLAMA_8B)
    assert "weights" in caught.value.why


def test_hardware_must_have_what_is_required() -> None:
    with pytest.raises(ConfigurationError, match="hardware has") as caught:
        check_memory(load("rtx-pro-4000", "requires.memory_mib=24468"), SMOLLM2)
    assert "hardware.memory_mib is 24467" in caught.value.why


def test_unified_memory_leaves_the_system_its_part() -> None:
    at_most = 62817 - 2048
    check_memory(load("jetson-agx-orin", f"requires.memory_mib={at_most}"), SMOLLM2)
    with pytest.raises(ConfigurationError, match="2048 that the system needs"):
        check_memory(load("jetson-agx-orin", f"requires.memory_mib={at_most + 1}"), SMOLLM2)


def test_blue_green_needs_twice() -> None:
    overrides = ("serving.activation=blue-green", "requires.memory_mib=12234")
    with pytest.raises(ConfigurationError, match=r"twice requires\.memory_mib 12234"):
        check_memory(load("rtx-pro-4000", *overrides), SMOLLM2)


def test_model_of_unknown_sizes_is_not_judged() -> None:
    assert check_memory(load("development", "requires.memory_mib=1"), None) is None
