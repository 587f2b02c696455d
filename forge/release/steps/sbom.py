"""`python -m forge.release.steps.sbom`: write the CycloneDX SBOM of a model repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forge.errors import ConfigurationError
from forge.release.attest.model_facts import SbomSettings
from forge.release.attest.sbom import write_sbom
from forge.release.steps.common import parser, read_object, run
from forge.validation import validation_text


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    command = parser(__spec__.name, __doc__)
    command.add_argument("--repository", type=Path, required=True, help="unpacked model repository")
    command.add_argument("--settings", type=Path, help="JSON file: base model, calibration set")
    command.add_argument(
        "--environment", type=Path, help="environment that serves it, for its licences"
    )
    command.add_argument("--output", type=Path, required=True, help="folder to write the SBOM to")
    return run(_sbom, command.parse_args(argv))


def _sbom(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = None
    if arguments.settings:
        try:
            settings = SbomSettings.model_validate(read_object(arguments.settings))
        except ValidationError as error:
            raise ConfigurationError(
                "The settings of the SBOM are not valid", why=validation_text(error)
            ) from None
    return write_sbom(arguments.repository, arguments.output, settings, arguments.environment)


if __name__ == "__main__":
    sys.exit(main())
