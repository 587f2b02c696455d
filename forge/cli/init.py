"""`forge init DIR`: a working project of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli.common import json_option, print_json

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
    """Write a new project: profiles, pipelines, stages, dockerfiles and workflows to edit.

    \b
    forge init my-release && cd my-release
    forge check
    """  # noqa: D301
    from forge.scaffold import write

    files = write(directory)
    if as_json:
        print_json({"directory": str(directory), "files": files, "next": list(_NEXT)})
        return
    click.echo(f"wrote a project of {len(files)} files to {directory}; next:")
    for command in (f"cd {directory}", *_NEXT):
        click.echo(f"  {command}")
    click.echo("README.md there says what is what and how to set up GitHub Actions.")
