"""`forge init DIR`: write a new project."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.common import json_option, print_json
from forge.cli.terminal import print_text
from forge.scaffold import CI, write

__all__ = ["init"]

_NEXT = (
    "forge check",
    "forge keys init",
    "forge plan release --profile development",
    "forge run release --profile development --version 1.0.0",
)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--ci",
    type=click.Choice(CI),
    default="github",
    show_default=True,
    help="Service whose workflows the project gets.",
)
@json_option
def init(directory: Path, *, ci: str, as_json: bool) -> None:
    """Write a new project: profiles, pipelines, stages, dockerfiles and workflows.

    \b
    forge init my-release && cd my-release
    forge check
    forge init my-release --ci gitlab
    """  # noqa: D301
    files = write(directory, ci)
    if as_json:
        print_json({"directory": str(directory), "files": files, "next": list(_NEXT)})
        return
    print_text(f"Wrote a project of {len(files)} files to {directory}. Next:")
    for command in (f"cd {directory}", *_NEXT):
        print_text(command, indent="  ")
    print_text("README.md in that folder describes the files and the set-up of CI.")
