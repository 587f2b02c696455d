"""`python -m forge.images build|index|push`: what the image stage runs."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from forge import canonical
from forge.errors import ForgeError, StoreError, TrustError
from forge.files import sha256_file, write_durably
from forge.images.documents import (
    IMAGE_FILE,
    INDEX_FILE,
    ImageDocument,
    PlatformImage,
    sbom_file,
)
from forge.serving.spec import read_document

_EPOCH: Final = "1970-01-01T00:00:00Z"


class IndexSettings(BaseModel):
    """Settings of an index step; the registry is part of the reference only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    repository: str


class PushSettings(BaseModel):
    """Settings of a push step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: str
    tag: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except ForgeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"Error: {error}\n")
        return StoreError.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m forge.images", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--settings", type=Path, required=True, help="settings of the step")
    commands = parser.add_subparsers(required=True, dest="command")

    command = commands.add_parser("build", parents=[common], help="one image, one platform")
    command.add_argument("--dockerfile", type=Path, required=True, help="what to build by")
    command.add_argument("--lock", type=Path, help="packages; none: Forge itself")
    command.add_argument("--layout", type=Path, required=True, help="empty folder for the image")
    command.add_argument("--image", type=Path, required=True, help="empty folder for image.json")
    command.set_defaults(run=_build)

    command = commands.add_parser("index", parents=[common], help="one index of all platforms")
    command.add_argument("--images", type=Path, nargs="+", required=True, help="outputs of build")
    command.add_argument("--output", type=Path, required=True, help="empty folder")
    command.set_defaults(run=_index)

    command = commands.add_parser("push", parents=[common], help="send an index and its images")
    command.add_argument("--index", type=Path, required=True, help="output of index")
    command.add_argument("--layouts", type=Path, nargs="+", required=True, help="of build")
    command.set_defaults(run=_push)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    from forge.images.build import BuildSettings, Sources, build

    settings = read_document(arguments.settings, BuildSettings)
    sources = Sources(arguments.dockerfile, arguments.lock)
    made = build(settings, sources, arguments.layout, arguments.image)
    _say(f"{settings.image} for {made.platform}: {made.digest}, {made.size / 1e6:.1f} MB")


def _index(arguments: argparse.Namespace) -> None:
    from forge.images.layout import index_bytes

    settings = read_document(arguments.settings, IndexSettings)
    images = []
    for folder in arguments.images:
        image = read_document(folder / IMAGE_FILE, PlatformImage)
        name = sbom_file(image.platform)
        if f"sha256:{sha256_file(folder / name)}" != image.sbom:
            raise TrustError(f"{folder / name} is not the SBOM that {IMAGE_FILE} names")
        shutil.copyfile(folder / name, arguments.output / name)
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
    write_durably(arguments.output / INDEX_FILE, index)
    text = canonical.dumps(document.model_dump(mode="json"))
    write_durably(arguments.output / IMAGE_FILE, text)
    _say(document.reference)


def _push(arguments: argparse.Namespace) -> None:
    from forge.images.layout import join
    from forge.images.registry import Registry

    settings = read_document(arguments.settings, PushSettings)
    document = read_document(arguments.index / IMAGE_FILE, ImageDocument)
    with tempfile.TemporaryDirectory(prefix=".push-", dir=Path.cwd()) as name:
        layout = Path(name) / "layout"
        index = (arguments.index / INDEX_FILE).read_bytes()
        digest = join(arguments.layouts, index, layout, tag=settings.tag)
        if digest != document.digest:
            raise TrustError(f"{INDEX_FILE} is not the index that {IMAGE_FILE} names")
        registry = Registry.parse(settings.registry)
        _say(f"pushed {registry.push(layout, settings.tag, document.name, digest)}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
