"""`forge images list|update`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from forge import profiles
from forge.cli import completion
from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.terminal import print_table
from forge.errors import not_found
from forge.files import write_durably
from forge.images.bases import FILE, Base, read_bases, rewrite
from forge.images.plan import Image, discover, serving

__all__ = ["images"]


@click.group()
def images() -> None:
    """List container images and pin their base images by digest.

    \b
    forge images list
    forge images update
    """  # noqa: D301


@images.command("list")
@project_option
@json_option
def list_images(project_dir: Path | None, *, as_json: bool) -> None:
    """List the project's images and their bases.

    The last column shows what prevents building an image on this machine.

    \b
    forge images list
    forge run images --only 'index@device'
    """  # noqa: D301
    project = open_project(project_dir)
    folder = project.root / "dockerfiles"
    bases = read_bases(folder)
    images = discover(folder, bases)
    found = (profiles.load(name, project.profiles) for name in profiles.names(project.profiles))
    images = (*images, *serving(images, bases, (one.profile for one in found)))
    rows = [_row(image, bases.get(image.base)) for image in images]
    if as_json:
        print_json(rows)
        return
    header = ("image", "base", "platforms", "state")
    print_table(header, [tuple(row[name] for name in header) for row in rows])


@images.command()
@click.argument("names", nargs=-1, shell_complete=completion.base_image_names)
@project_option
@json_option
def update(names: tuple[str, ...], project_dir: Path | None, *, as_json: bool) -> None:
    """Write the current digests of the base images to bases.yaml.

    Resolves the tag of each base, or of those given by NAMES, at its registry.

    \b
    forge images update              # all bases
    forge images update python-3.11
    """  # noqa: D301
    from forge.images.registry import resolve

    folder = open_project(project_dir).root / "dockerfiles"
    bases = read_bases(folder)
    for name in names:
        if name not in bases.by_name:
            raise not_found(f"No base image {name!r} in {FILE}", name, sorted(bases.by_name))
    selected = {name: bases.get(name) for name in names or bases.by_name}
    found = {name: resolve(base) for name, base in selected.items()}
    path = folder / FILE
    write_durably(path, rewrite(path.read_text(encoding="utf-8"), found).encode())
    rows = [(name, bases.get(name).digest or "none", digest) for name, digest in found.items()]
    if as_json:
        print_json([{"base": name, "before": before, "digest": now} for name, before, now in rows])
        return
    print_table(("base", "before", "now"), rows)


def _row(image: Image, base: Base) -> dict[str, str]:
    return {
        "image": image.name,
        "base": image.base,
        "digest": base.digest or "",
        "platforms": " ".join(image.platforms),
        "dockerfile": f"{image.dockerfile.parent.name}/{image.dockerfile.name}",
        "state": _state(base),
    }


def _state(base: Base) -> str:
    if base.digest is None:
        return f"{base.tagged} has no digest yet: forge images update"
    if shutil.which("buildah") is None:
        return "buildah is not installed: apt-get install buildah"
    return "can be built here"
