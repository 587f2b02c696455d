"""`forge init DIR`: write a new project."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forge.cli.common import json_option, print_json
from forge.cli.terminal import print_table, print_text
from forge.files import write_durably
from forge.scaffold import CI, write

if TYPE_CHECKING:
    from forge.buildable import ProfileNeeds

__all__ = ["init"]

_GIT_S: Final = 30.0
_NO_REPOSITORY: Final = "not a git repository"
_PROJECT_FILE: Final = """\
# Profiles that 'forge plan', 'run', 'why' and 'matrix' take without --profile. These are what the
# machine that wrote this file can build; the others need a runner of their own.
profiles: [{profiles}]
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--ci",
    type=click.Choice(CI),
    default="github",
    show_default=True,
    help="Service whose workflows the project gets.",
)
@click.option(
    "--git/--no-git",
    default=True,
    help="Make the folder a git repository, unless it is in one. Default: --git.",
)
@json_option
def init(directory: Path, *, ci: str, git: bool, as_json: bool) -> None:
    """Write a new project: profiles, pipelines, stages, dockerfiles, workflows and tests.

    Its default is what this machine can build; what other profiles need is listed.

    \b
    forge init my-release && cd my-release
    forge check
    forge init my-release --ci gitlab
    """  # noqa: D301
    files = write(directory, ci)
    found = _needs(directory)
    here = [one.profile for one in found if not one.needs]
    if here:
        text = _PROJECT_FILE.format(profiles=", ".join(here))
        write_durably(directory / "forge.yaml", text.encode())
        files = sorted([*files, "forge.yaml"])
    repository, problem = _git_init(directory) if git else (False, "")
    following = _next(here)
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "files": files,
                "git": repository,
                "git_problem": problem,
                "profiles": {one.profile: one.needs for one in found},
                "next": following,
            }
        )
        return
    print_text(f"Wrote a project of {len(files)} files to {directory}.\n")
    rows = [(one.profile, one.needs or "can be built on this machine") for one in found]
    print_table(("profile", "needs"), rows)
    print_text("\nNext:")
    for command in (f"cd {directory}", *following):
        print_text(command, indent="  ")
    print_text("README.md in that folder describes the files and the set-up of CI.")
    if problem:
        print_text(f"No git repository was made: {problem}", out=sys.stderr)


def _needs(directory: Path) -> list[ProfileNeeds]:
    from forge.buildable import profile_needs
    from forge.project import Project
    from forge.runners.open_runner import open_runner
    from forge.store import open_store

    project = Project(directory.absolute())
    runner = open_runner("local", project.root, project.work, os.environ)
    with tempfile.TemporaryDirectory(prefix="forge-init-") as folder, _no_bytecode():
        store = open_store(str(Path(folder) / "store"), cache=Path(folder))
        return profile_needs(project, store, runner)


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Let imports in the body leave no __pycache__: the folder holds what was written only."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _next(profiles: Sequence[str]) -> list[str]:
    if not profiles:
        return ["forge check", "forge keys init", "forge profile list"]
    return ["forge check", "forge keys init", "forge plan", "forge run release --version 1.0.0"]


def _git_init(directory: Path) -> tuple[bool, str]:
    """Make a folder a git repository, unless it is in one.

    Returns:
        Whether it is one now by this, and why it is not; empty where it is in another.
    """
    program = shutil.which("git")
    if program is None:
        return False, "git is not installed"
    # GIT_DIR and its like are set in hooks: they name another repository.
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *words], cwd=directory, env=environment | {"LC_ALL": "C"},
            capture_output=True, text=True, timeout=_GIT_S, check=False,
        )  # fmt: skip

    try:
        inside = run("rev-parse", "--is-inside-work-tree")
        if inside.returncode == 0:
            return False, ""
        if _NO_REPOSITORY not in inside.stderr:
            return False, inside.stderr.strip()
        made = run("init", "--quiet", "--initial-branch=main")
    except (OSError, subprocess.SubprocessError) as error:
        return False, str(error)
    return made.returncode == 0, made.stderr.strip()
