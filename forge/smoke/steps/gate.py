"""`python -m forge.smoke.steps.gate`: check a result against thresholds and baseline."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from forge.bundle import SmokeSummary
from forge.entry_point import exit_code
from forge.files import write_durably
from forge.serving.repository.spec import read_document
from forge.smoke.gate import GATE_FILE, GateSettings, gate, require, table
from forge.smoke.result import RESULT_FILE, Result


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--result", type=Path, required=True, help="folder with result.json")
    parser.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    parser.add_argument("--baseline", type=Path, help="summary of the last bundle as JSON")
    parser.add_argument("--output", type=Path, required=True, help="folder for gate.json")
    arguments = parser.parse_args(argv)
    what = "A file could not be read or written"
    return exit_code(lambda: _gate(arguments), disk=what, disk_code=5)


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
