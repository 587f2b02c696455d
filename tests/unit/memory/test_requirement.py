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
    assert "max_batch_size to 64" not in caught.value.hint
    found = re.search(r"engine\.max_batch_size to (\d+)", caught.value.hint)
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
    with pytest.raises(ConfigurationError, match="hardware has") as caught:
        check_memory(load("jetson-agx-orin", f"requires.memory_mib={at_most + 1}"), SMOLLM2)
    assert "of which the system needs 2048" in caught.value.why
    assert f"set requires.memory_mib to {at_most} or less" in caught.value.hint


def test_blue_green_needs_twice() -> None:
    overrides = ("serving.activation=blue-green", "requires.memory_mib=12234")
    with pytest.raises(ConfigurationError, match="hardware has") as caught:
        check_memory(load("rtx-pro-4000", *overrides), SMOLLM2)
    assert "for two servers (serving.activation: blue-green): at most 12233" in caught.value.why
    check_memory(load("rtx-pro-4000", overrides[0], "requires.memory_mib=12233"), SMOLLM2)


def test_model_of_unknown_sizes_is_not_judged() -> None:
    assert check_memory(load("development", "requires.memory_mib=1"), None) is None


def refused(profile: Profile) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        check_memory(profile, LLAMA_8B)
    return caught.value


@pytest.mark.parametrize("required", [20_000, 60_769, 61_268])
def test_what_the_hardware_does_not_have_is_not_advised(required: int) -> None:
    """Orin has 62817 MiB, 2048 of it for the system; Llama 3.1 8B in fp16 takes more to compile."""
    error = refused(load("jetson-agx-orin", f"requires.memory_mib={required}"))
    assert "or more" not in error.hint
    assert "60769" in error.hint


SETTING = re.compile(r"(engine\.\w+|requires\.memory_mib) to (\d+)")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("rtx-pro-4000", ("engine.max_batch_size=512", "requires.memory_mib=20000")),
        ("rtx-pro-4000", ("engine.max_batch_size=512", "requires.memory_mib=200000")),
        ("rtx-pro-4000", ("engine.max_batch_size=64", "requires.memory_mib=20000",
                          "serving.activation=blue-green")),
        ("jetson-agx-thor", ("engine.max_batch_size=900", "requires.memory_mib=16384")),
        ("development", ("engine.max_batch_size=64", "requires.memory_mib=20000")),
    ],
)  # fmt: skip
def test_hint_fits_when_it_is_followed(name: str, overrides: tuple[str, ...]) -> None:
    error = refused(load(name, *overrides))
    alternatives, _, rest = error.hint.partition("; and ")
    always = SETTING.findall(rest)
    for alternative in alternatives.split(", or "):
        settings = [f"{field}={value}" for field, value in SETTING.findall(alternative) + always]
        assert settings
        check_memory(load(name, *overrides, *settings), LLAMA_8B)


def test_message_names_the_unit_and_what_it_is_of() -> None:
    error = refused(load("development", "engine.max_batch_size=64"))
    assert re.search(r"its model takes \d+ MiB$", error.what)
    assert error.why.startswith("with max_batch_size 64 and max_seq_len 2048 it takes weights ")
