"""`python -m forge.smoke benchmark|gate`: what the smoke stage runs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType

from forge.bundle import SmokeSummary
from forge.errors import ForgeError
from forge.files import write_durably
from forge.serving.spec import read_document
from forge.smoke.gate import GATE_FILE, GateSettings, gate, require, table
from forge.smoke.result import RESULT_FILE, Result


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        if arguments.command == "benchmark":
            _benchmark(arguments)
        else:
            _gate(arguments)
    except ForgeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"Error: A file could not be read or written: {error}\n")
        return 5
    return 0


def _stop(number: int, _frame: FrameType | None) -> None:
    """End through every `finally`: Triton is stopped and its folder removed."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m forge.smoke", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("benchmark", help="serve a model repository and measure it")
    command.add_argument("--repository", type=Path, required=True, help="a rendered tree")
    command.add_argument("--environment", type=Path, help="holds Triton; default: this image does")
    command.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    command.add_argument("--output", type=Path, required=True, help="folder for result.json")
    command = commands.add_parser("gate", help="stop a release that measured worse than allowed")
    command.add_argument("--result", type=Path, required=True, help="folder with result.json")
    command.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    command.add_argument("--baseline", type=Path, help="summary of the last bundle as JSON")
    command.add_argument("--output", type=Path, required=True, help="folder for gate.json")
    return parser


def _benchmark(arguments: argparse.Namespace) -> None:
    from forge.smoke.benchmark import BenchmarkSettings, benchmark

    settings = read_document(arguments.settings, BenchmarkSettings)
    benchmark(arguments.repository, arguments.environment, settings, arguments.output)


def _gate(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, GateSettings)
    if arguments.baseline:
        baseline = read_document(arguments.baseline, SmokeSummary)
        settings = settings.model_copy(update={"baseline": baseline})
    report = gate(read_document(arguments.result / RESULT_FILE, Result), settings)
    data = json.dumps(report.model_dump(mode="json"), indent=2, sort_keys=True)
    write_durably(arguments.output / GATE_FILE, data.encode() + b"\n")
    sys.stdout.write(f"{table(report)}\n")
    sys.stdout.flush()
    require(report)


if __name__ == "__main__":
    sys.exit(main())
