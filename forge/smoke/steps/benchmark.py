"""`python -m forge.smoke.steps.benchmark`: serve a model repository and measure it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from forge.entry_point import exit_code
from forge.serving.repository.spec import read_document
from forge.smoke.benchmark import BenchmarkSettings, benchmark


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="rendered model repository")
    parser.add_argument(
        "--environment", type=Path, help="environment with Triton; default: the image"
    )
    parser.add_argument(
        "--last", type=Path, help="repository of the last bundle, to be asked in turn"
    )
    parser.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    parser.add_argument("--output", type=Path, required=True, help="folder for result.json")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    what = "A file could not be read or written"
    return exit_code(lambda: _benchmark(arguments), disk=what, disk_code=5)


def _benchmark(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, BenchmarkSettings)
    benchmark(
        arguments.repository,
        arguments.environment,
        settings,
        arguments.output,
        last=arguments.last,
    )


def _stop(number: int, _frame: FrameType | None) -> None:
    """Exit by an exception, so that Triton is stopped and its folder removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
