"""Options and output shared by several commands."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from forge import profiles
from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.progress import bytes_text
from forge.project import Project, find
from forge.store import Store, open_store
from forge.store.backends.open import check_exists
from forge.store.locks.leases import owner

__all__ = [
    "bytes_text",
    "json_option",
    "keys_option",
    "load_profiles",
    "open_named_store",
    "open_project",
    "open_project_store",
    "owner",
    "place_of_store",
    "print_json",
    "project_option",
    "store_option",
]

_F = TypeVar("_F", bound=Callable[..., Any])


def project_option(function: _F) -> _F:
    """Add `--project DIR` to a command."""
    return click.option(
        "--project",
        "project_dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Project folder. Default: the current folder or its nearest parent with a project.",
    )(function)


def store_option(function: _F) -> _F:
    """Add `--store URL` to a command."""
    return click.option(
        "--store",
        "store_url",
        envvar="FORGE_STORE",
        help="Store: a folder, file:///… or s3://bucket/prefix. Default: artifacts/.",
    )(function)


def json_option(function: _F) -> _F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def keys_option(function: _F) -> _F:
    """Add `--keys DIR` to a command."""
    return click.option(
        "--keys",
        "keys_dir",
        envvar="FORGE_KEYS",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder of the signing keys. Default: ~/.config/forge/keys/NAME; NAME is the name of "
        "the project's folder.",
    )(function)


def open_project(project_dir: Path | None) -> Project:
    """Return the named project, or the one that contains the current folder."""
    return find((project_dir or Path.cwd()).resolve())


def load_profiles(project_dir: Path | None) -> dict[str, Profile]:
    """Return the profiles of the project by name; those of the wheel where there is no project."""
    from forge.scaffold import origin

    try:
        folder = open_project(project_dir).profiles
    except ConfigurationError:
        folder = origin("profiles")  # a device has no project
    return {name: profiles.load(name, folder).profile for name in profiles.names(folder)}


def place_of_store(project_dir: Path | None, store_url: str | None) -> str:
    """Return the URL of `--store`, else `artifacts/` of the project. Raises ConfigurationError."""
    return store_url or str(open_project(project_dir).root / "artifacts")


def open_named_store(project_dir: Path | None, store_url: str | None) -> Store:
    """Open the store for a command that only reads.

    A store named by `--store` or FORGE_STORE must exist, else NotInStoreError is raised. The
    default store may be missing, because a new project has published nothing.
    """
    if store_url:
        check_exists(store_url)
    return open_store(place_of_store(project_dir, store_url), environment=os.environ)


def open_project_store(project: Project | None, store_url: str | None) -> Store:
    """Open the store of `--store`, else `artifacts/` of the project."""
    url = store_url or str((project or open_project(None)).root / "artifacts")
    return open_store(url, environment=os.environ)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
