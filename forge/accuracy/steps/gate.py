"""`python -m forge.accuracy.steps.gate`: check a receipt against limits and the last bundle.

The probe of devices is passed on only if the engine passes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from forge.accuracy.gate import GATE_FILE, AccuracySettings, gate, require, table
from forge.accuracy.receipt import RECEIPT_FILE, Receipt
from forge.accuracy.weights import WEIGHTS_FILE, WeightsComparison
from forge.entry_point import exit_code
from forge.files import write_durably
from forge.serving.repository.accuracy_probe import PROBE_FILE
from forge.serving.repository.spec import read_document


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--receipt", type=Path, required=True, help="folder with receipt.json")
    parser.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    parser.add_argument("--output", type=Path, required=True, help="folder for accuracy.json")
    parser.add_argument("--probe", type=Path, required=True, help="folder for probe.json")
    arguments = parser.parse_args(argv)
    what = "A file could not be read or written"
    return exit_code(lambda: _gate(arguments), disk=what, disk_code=5)


def _gate(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, AccuracySettings)
    receipt = read_document(arguments.receipt / RECEIPT_FILE, Receipt)
    path = arguments.receipt / WEIGHTS_FILE  # not of every builder
    weights = read_document(path, WeightsComparison) if path.exists() else None
    report = gate(receipt, settings, weights)
    data = json.dumps(report.model_dump(mode="json"), indent=2, sort_keys=True)
    write_durably(arguments.output / GATE_FILE, data.encode() + b"\n")
    sys.stdout.write(f"{receipt.executed}, {receipt.precision}\n{table(receipt)}\n")
    sys.stdout.flush()
    require(report)
    shutil.copyfile(arguments.receipt / PROBE_FILE, arguments.probe / PROBE_FILE)


if __name__ == "__main__":
    sys.exit(main())
