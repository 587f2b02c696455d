"""`python -m forge.images.steps.build`: build one image for one platform."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forge.entry_point import exit_code
from forge.images.build import BuildSettings, Sources, build
from forge.serving.repository.spec import read_document


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings of the step")
    parser.add_argument("--dockerfile", type=Path, required=True, help="Dockerfile of the image")
    parser.add_argument("--lock", type=Path, help="lock file of the packages; default: Forge's own")
    parser.add_argument("--layout", type=Path, required=True, help="empty folder for the image")
    parser.add_argument("--image", type=Path, required=True, help="empty folder for image.json")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _build(arguments))


def _build(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, BuildSettings)
    sources = Sources(arguments.dockerfile, arguments.lock)
    made = build(settings, sources, arguments.layout, arguments.image)
    text = f"{settings.image} for {made.platform}: {made.digest}, {made.size / 1e6:.1f} MB"
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
