"""`python -m forge.serving.steps.render`: write a Triton model repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from forge.entry_point import exit_code
from forge.serving.repository.accuracy_probe import PROBE_FILE
from forge.serving.repository.render import EmbeddingModel, Runtime, render
from forge.serving.repository.spec import IMAGE_FILE, ImageFacts, RenderSettings, read_document


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--engine", type=Path, required=True, help="folder of a compiled engine")
    parser.add_argument("--settings", type=Path, required=True, help="profile fields as JSON")
    parser.add_argument("--lock", type=Path, help="lock of Triton's environment, if it has one")
    parser.add_argument("--packages", type=Path, help="folder with the wheels of that lock")
    parser.add_argument("--image", type=Path, help="folder with image.json of what it is served in")
    parser.add_argument("--accuracy", type=Path, help="folder with probe.json of the engine")
    parser.add_argument("--embedding", type=Path, help="folder of a compiled embedding model")
    parser.add_argument("--embedding-name", default="", help="as clients call it")
    parser.add_argument("--embedding-probe", type=Path, help="folder with its probe.json")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args(argv)
    what = "The model repository could not be written"
    return exit_code(lambda: _render(arguments), disk=what, disk_code=5)


def _render(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, RenderSettings)
    if arguments.image:
        settings = settings.served_in(read_document(arguments.image / IMAGE_FILE, ImageFacts))
    probe = arguments.accuracy / PROBE_FILE if arguments.accuracy else None
    runtime = Runtime(arguments.lock, arguments.packages) if arguments.lock else None
    embedding = None
    if arguments.embedding:
        known = arguments.embedding_probe
        embedding = EmbeddingModel(
            arguments.embedding, arguments.embedding_name, known / PROBE_FILE if known else None
        )
    spec = render(arguments.engine, settings, runtime, arguments.output, probe, embedding)
    sys.stderr.write(f"rendered model {spec.model!r} for {spec.builder} in {arguments.output}\n")


if __name__ == "__main__":
    sys.exit(main())
