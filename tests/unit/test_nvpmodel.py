"""nvpmodel's outputs as FACTS lists them, and what must not confuse the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.nvpmodel import (
    CurrentMode,
    Mode,
    Modes,
    asks_for_reboot,
    failed,
    parse_config,
    parse_listing,
    parse_query,
)

# The shapes; 120W, MAXN and the fan line are in FACTS, the rest is made up to be unlike them.
QUERIES = {
    "NV Power Mode: 120W\n1\n": CurrentMode("120W", 1),
    "NV Power Mode: MAXN\n0\n": CurrentMode("MAXN", 0),
    "NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n": CurrentMode("MODE_30W", 2),
    "NV Power Mode: MODE_30W\n2\nNV Fan Mode:quiet\n": CurrentMode("MODE_30W", 2),
    "NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0": CurrentMode("MAXN", 0),
    "NV Power Mode: 90W\r\n2\r\n": CurrentMode("90W", 2),
    "NV Power Mode: 90W": CurrentMode("90W", None),
    "NV Power Mode: 90W\nunknown\n": CurrentMode("90W", None),
    "NV Power Mode:\n3\n": None,
    "NVPM ERROR: Error opening /sys/x: 13\n": None,
    "1\n": None,
    "": None,
}


@pytest.mark.parametrize(("text", "expected"), QUERIES.items())
def test_the_mode_in_force_is_the_power_mode_line_and_the_next(
    text: str, expected: CurrentMode | None
) -> None:
    assert parse_query(text) == expected


def test_config_gives_modes_by_name_and_the_default() -> None:
    text = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=120W >\n< PM_CONFIG DEFAULT=1 >"
    found = parse_config(text)
    assert found == Modes((Mode(0, "MAXN"), Mode(1, "120W")), 1)
    assert found.names == ("MAXN", "120W")
    assert found.default_name == "120W"
    assert found.named("120W") == Mode(1, "120W")
    assert found.named("90W") is None


def test_config_skips_comments_and_keeps_what_a_mode_switches_off() -> None:
    text = """
    # < POWER_MODEL ID=9 NAME=OLD >
    <PARAM TYPE=FILE NAME=GPU_POWER_GATING >
    GPU_PG_MASK /sys/x
    < POWER_MODEL ID=0 NAME=MAXN >
    CPU_ONLINE CORE_1 1
    GPU_POWER_GATING  GPU_PG_MASK   0
    < POWER_MODEL ID=3 NAME=70W >
    GPU_POWER_GATING GPU_PG_MASK 252
    <PM_CONFIG DEFAULT=7>
    """
    found = parse_config(text)
    assert found.modes == (
        Mode(0, "MAXN", ("GPU_POWER_GATING GPU_PG_MASK 0",)),
        Mode(3, "70W", ("GPU_POWER_GATING GPU_PG_MASK 252",)),
    )
    assert (found.default, found.default_name) == (7, None)


def test_listing_gives_the_same_as_the_config() -> None:
    text = "POWER_MODEL: ID=0 NAME=MAXN\nPOWER_MODEL: ID=1 NAME=120W\nPM_CONFIG: DEFAULT=120W(1)\n"
    assert parse_listing(text) == Modes((Mode(0, "MAXN"), Mode(1, "120W")), 1)


@pytest.mark.parametrize("parse", [parse_config, parse_listing])
def test_no_modes_are_found_where_there_are_none(parse: object) -> None:
    assert callable(parse)
    assert parse("") == parse("\0<>\nPOWER_MODEL ID=x NAME=") == Modes()


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_config, parse_listing, parse_query, asks_for_reboot, failed):
        parse(text)
        parse(f"NV Power Mode: {text}\n< POWER_MODEL ID=1 NAME={text} >")


def test_a_question_a_reboot_and_an_error_are_seen() -> None:
    assert asks_for_reboot("Reboot required for changing to this power mode: 0")
    assert asks_for_reboot("enter YES/yes to confirm:")
    assert not asks_for_reboot("")
    assert failed("NVPM ERROR: optMask is 1, no request for power mode")
    assert not failed("NVPM WARN: x")
