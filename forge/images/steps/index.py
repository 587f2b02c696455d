"""`python -m forge.images.steps.index`: make one index of the images of all platforms."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from forge import canonical
from forge.entry_point import exit_code
from forge.errors import TrustError
from forge.files import sha256_file, write_durably
from forge.images.documents import (
    IMAGE_FILE,
    INDEX_FILE,
    ImageDocument,
    PlatformImage,
    sbom_file,
)
from forge.images.layout import index_bytes
from forge.serving.repository.spec import read_document

_EPOCH: Final = "1970-01-01T00:00:00Z"


class IndexSettings(BaseModel):
    """Settings of an index step; the registry is part of the reference only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    repository: str


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="settings of the step")
    parser.add_argument("--images", type=Path, nargs="+", required=True, help="outputs of build")
    parser.add_argument("--output", type=Path, required=True, help="empty folder")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _index(arguments.settings, arguments.images, arguments.output))


def _index(settings_file: Path, folders: list[Path], output: Path) -> None:
    settings = read_document(settings_file, IndexSettings)
    images = []
    for folder in folders:
        image = read_document(folder / IMAGE_FILE, PlatformImage)
        name = sbom_file(image.platform)
        if f"sha256:{sha256_file(folder / name)}" != image.sbom:
            raise TrustError(f"{folder / name} does not have the digest in {IMAGE_FILE}")
        shutil.copyfile(folder / name, output / name)
        images.append(image)
    index = index_bytes(images)
    digest = f"sha256:{canonical.sha256(index)}"
    document = ImageDocument(
        name=settings.image,
        reference=f"{settings.repository}@{digest}",
        digest=digest,
        created=_EPOCH,
        platforms=tuple(sorted(images, key=lambda one: one.platform)),
    )
    write_durably(output / INDEX_FILE, index)
    write_durably(output / IMAGE_FILE, canonical.dumps(document.model_dump(mode="json")))
    sys.stderr.write(f"{document.reference}\n")


if __name__ == "__main__":
    sys.exit(main())
