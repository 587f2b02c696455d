"""`python -m forge.release.steps.sbom`: write the CycloneDX SBOM of a model repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from forge.release.attest.sbom import write_sbom
from forge.release.steps.common import parser, run


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    command = parser(__spec__.name, __doc__)
    command.add_argument("--repository", type=Path, required=True, help="unpacked model repository")
    command.add_argument("--output", type=Path, required=True, help="folder to write the SBOM to")
    return run(_sbom, command.parse_args(argv))


def _sbom(arguments: argparse.Namespace) -> dict[str, Any]:
    return write_sbom(arguments.repository, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
