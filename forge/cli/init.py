"""`forge init DIR`: a working project of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from forge.errors import UsageError

__all__ = ["init"]

FOLDERS = ("pipelines", "stages", "profiles", "dockerfiles")


def template() -> Path:
    """The folders a new project starts from: in the wheel as data, in a checkout the repository."""
    import forge

    package = Path(forge.__file__).parent
    shipped = package / "template"
    return shipped if shipped.is_dir() else package.parent


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def init(directory: Path) -> None:
    """Write a new project: profiles, pipelines, stages and tool environments to edit.

    \b
    forge init my-release && cd my-release
    forge plan release --profile development
    """  # noqa: D301
    import shutil

    if directory.exists() and any(directory.iterdir()):
        hint = "choose a new folder; forge init never overwrites"
        raise UsageError(f"{directory} is not empty", hint=hint)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(template() / name, directory / name, ignore=ignore)
    ignored = ".forge/\n__pycache__/\n/artifacts/*\n"
    (directory / ".gitignore").write_text(ignored, encoding="utf-8")
    click.echo(f"wrote a project to {directory}; next: forge plan release --project {directory}")
