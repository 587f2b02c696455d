"""`forge init DIR`: write a new project."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.common import json_option, print_json
from forge.cli.terminal import print_text

__all__ = ["init"]

_NEXT = (
    "forge check",
    "forge keys init",
    "forge plan release --profile development",
    "forge run release --profile development --version 1.0.0",
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@json_option
def init(directory: Path, *, as_json: bool) -> None:
    """Write a new project: profiles, pipelines, stages, dockerfiles and workflows.

    \b
    forge init my-release && cd my-release
    forge check
    """  # noqa: D301
    from forge.scaffold import write

    files = write(directory)
    if as_json:
        print_json({"directory": str(directory), "files": files, "next": list(_NEXT)})
        return
    print_text(f"Wrote a project of {len(files)} files to {directory}. Next:")
    for command in (f"cd {directory}", *_NEXT):
        print_text(command, indent="  ")
    print_text("README.md in that folder describes the files and the set-up of GitHub Actions.")
