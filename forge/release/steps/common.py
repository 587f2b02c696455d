"""Common parts of the release commands: options for the result, and JSON files of a step."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from forge.entry_point import exit_code
from forge.errors import ConfigurationError

__all__ = ["parser", "read_object", "run"]

_MAX_BYTES: Final = 16 * 1024 * 1024


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options `--json` and `--result`."""
    command_parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    command_parser.add_argument("--json", action="store_true", help="print the result as JSON")
    command_parser.add_argument("--result", type=Path, help="write the result as JSON to this file")
    return command_parser


def run(
    command: Callable[[argparse.Namespace], Mapping[str, Any]], arguments: argparse.Namespace
) -> int:
    """Run a command, write its result as `--json` and `--result` say, and return the exit code."""

    def run_and_write() -> None:
        text = json.dumps(command(arguments), indent=2, sort_keys=True) + "\n"
        if arguments.result:
            arguments.result.write_text(text, encoding="utf-8")
        if arguments.json:
            sys.stdout.write(text)

    return exit_code(run_and_write)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ConfigurationError: the file cannot be read, is too large, or is not a JSON object.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"Cannot read {path}", why=str(error)) from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} does not hold a JSON object")
    return value
