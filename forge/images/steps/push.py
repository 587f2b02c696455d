"""`python -m forge.images.steps.push`: push an index and its images to a registry."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from forge.entry_point import exit_code
from forge.errors import TrustError
from forge.images.documents import IMAGE_FILE, INDEX_FILE, ImageDocument
from forge.images.layout import join
from forge.images.registry import Registry
from forge.serving.repository.spec import read_document


class PushSettings(BaseModel):
    """Settings of a push step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str
    tag: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings of the step")
    parser.add_argument("--index", type=Path, required=True, help="output of index")
    parser.add_argument("--layouts", type=Path, nargs="+", required=True, help="of build")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _push(arguments.settings, arguments.index, arguments.layouts))


def _push(settings_file: Path, index_folder: Path, layouts: list[Path]) -> None:
    settings = read_document(settings_file, PushSettings)
    document = read_document(index_folder / IMAGE_FILE, ImageDocument)
    with tempfile.TemporaryDirectory(prefix=".push-", dir=Path.cwd()) as name:
        layout = Path(name) / "layout"
        index = (index_folder / INDEX_FILE).read_bytes()
        digest = join(layouts, index, layout, tag=settings.tag)
        if digest != document.digest:
            raise TrustError(f"{INDEX_FILE} does not have the digest in {IMAGE_FILE}")
        registry = Registry.parse(settings.registry)
        pushed = registry.push(layout, settings.tag, document.name, digest)
    sys.stderr.write(f"pushed {pushed}\n")


if __name__ == "__main__":
    sys.exit(main())
