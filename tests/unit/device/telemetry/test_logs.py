"""The agent's log: time and level on every line, as text or JSON, of Forge and its libraries."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import uvicorn
from starlette.applications import Starlette

from forge.device.gateway.server import http_server
from forge.device.telemetry import logs

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (DEBUG|INFO|WARNING|ERROR) (.*)")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The loggers of this process as they were."""
    root, ours = logging.getLogger(), logging.getLogger("forge")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(capture=False)


def test_every_line_of_text_begins_with_time_and_level() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    log = logging.getLogger("forge.device.agent")
    log.info("slot %s serves %s", "a", "llm 1.0.0")
    log.warning("two\nlines")
    try:
        dict[str, str]()["a bug"]
    except KeyError:
        log.exception("please report it:")
    found = [LINE.fullmatch(line) for line in stream.getvalue().splitlines()]
    texts = [(one[1], one[2]) for one in found if one]
    assert len(texts) == len(found)
    assert texts[:4] == [
        ("INFO", "slot a serves llm 1.0.0"),
        ("WARNING", "two"),
        ("WARNING", "lines"),
        ("ERROR", "please report it:"),
    ]
    assert texts[-1] == ("ERROR", "KeyError: 'a bug'")


def test_json_is_one_object_a_line_with_time_level_logger_and_message() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    before = datetime.now(UTC).replace(microsecond=0)
    logging.getLogger("forge.device.agent").error("two\nlines of %s", "“text”")
    [line] = stream.getvalue().splitlines()
    document = json.loads(line)
    assert before <= datetime.fromisoformat(document.pop("time")) <= datetime.now(UTC)
    assert document == {
        "level": "error",
        "logger": "forge.device.agent",
        "message": "two\nlines of “text”",
    }


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_messages_below_the_level_are_not_written(
    level: logs.LogLevel, expected: list[str]
) -> None:
    stream = io.StringIO()
    logs.configure("json", level, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("forge.device.agent"), name)("x")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == expected


def test_the_log_of_uvicorn_goes_through_the_same_handler() -> None:
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    server = http_server(Starlette())
    assert isinstance(server, uvicorn.Server)
    logging.getLogger("uvicorn.error").error("ASGI callable returned without a response")
    logging.getLogger("uvicorn.error").info("Started server process")
    [line] = stream.getvalue().splitlines()
    assert json.loads(line)["logger"] == "uvicorn.error"


def test_configured_twice_a_message_is_written_once() -> None:
    streams = io.StringIO(), io.StringIO()
    for stream in streams:
        logs.configure(stream=stream)
    logging.getLogger("forge").warning("once")
    assert [stream.getvalue().count("once") for stream in streams] == [0, 1]
