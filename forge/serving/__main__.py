"""`python -m forge.serving render`: what the model_repository stage runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forge.errors import ForgeError
from forge.serving.render import render
from forge.serving.spec import IMAGE_FILE, ImageFacts, RenderSettings, read_document


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m forge.serving", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("render", help="write a Triton model repository")
    command.add_argument("--engine", type=Path, required=True, help="folder of a compiled engine")
    command.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    command.add_argument("--lock", type=Path, help="lock of Triton's environment, if it has one")
    command.add_argument(
        "--image", type=Path, help="folder with image.json of what it is served in"
    )
    command.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args(argv)
    try:
        settings = read_document(arguments.settings, RenderSettings)
        if arguments.image:
            settings = settings.served_in(read_document(arguments.image / IMAGE_FILE, ImageFacts))
        spec = render(arguments.engine, settings, arguments.lock, arguments.output)
    except ForgeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"Error: The model repository could not be written: {error}\n")
        return 5
    sys.stderr.write(f"rendered model {spec.model!r} for {spec.builder} in {arguments.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
