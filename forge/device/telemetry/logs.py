"""The log of the agent: one handler for Forge and its libraries, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import IO, Final, Literal, TypeAlias

__all__ = ["JsonFormatter", "LogFormat", "LogLevel", "TextFormatter", "configure"]

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

_HANDLER: Final = "forge"
_LIBRARY_LEVEL: Final = logging.WARNING  # below it, libraries log each request


def configure(
    log_format: LogFormat = "text", level: LogLevel = "info", stream: IO[str] | None = None
) -> None:
    """Write the log of this process to a stream.

    Args:
        log_format: `text`: each line begins with time and level; `json`: one object a line.
        level: the lowest level of Forge's own messages; libraries log warnings and errors only.
        stream: standard error by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.set_name(_HANDLER)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [one for one in root.handlers if one.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LIBRARY_LEVEL)
    logging.getLogger("forge").setLevel(level.upper())
    logging.captureWarnings(capture=True)


class TextFormatter(logging.Formatter):
    """`2026-11-28T22:23:18Z INFO message`: time and level on every line, also of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        start = f"{_time(record)} {record.levelname}"
        return "\n".join(f"{start} {line}" for line in _message(record).splitlines() or [""])


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        document = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        return json.dumps(document, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        message += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    return message
