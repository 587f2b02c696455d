"""Completion of values in a shell: profiles, steps, bundles, versions, channels.

A completion never fails and never takes long: what cannot be read within a moment completes to
nothing. `eval "$(_FORGE_COMPLETE=bash_source forge)"` enables it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from forge.project import Project
    from forge.release.catalog import Catalog

__all__ = [
    "COMPLETION",
    "base_image_names",
    "bundle_names",
    "channel_names",
    "profile_names",
    "published_profiles",
    "step_ids",
    "versions",
    "versions_and_channels",
]

COMPLETION: Final = "_FORGE_COMPLETE"
"""Set by the shell while it completes a command line."""

_LIMIT_S: Final = 1.0

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
_Names = Callable[[Mapping[str, Any], click.Context], Iterable[str]]


def _completion(names: _Names) -> Complete:
    """Return a callback for click that completes to those of `names` that begin as typed."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        found: list[str] = []

        def read() -> None:
            try:
                found.extend(names(_given(context), context))
            except Exception:  # noqa: BLE001 - a message would be printed into the command line
                found.clear()

        # A store that does not answer must not stop the shell; the thread ends with the process.
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(_LIMIT_S)
        done, typed = found.copy(), incomplete.rpartition(",")
        # `--profile a,b` takes several; the last one is completed.
        before = "".join(typed[:2])
        return [before + name for name in dict.fromkeys(done) if name.startswith(typed[2])]

    return complete


def _given(context: click.Context) -> Mapping[str, Any]:
    """Return the options of the command line so far, of the groups too."""
    given: dict[str, Any] = {}
    current: click.Context | None = context
    while current is not None:
        given = {key: value for key, value in current.params.items() if value} | given
        current = current.parent
    return given


def _project(given: Mapping[str, Any]) -> Project:
    from forge.project import find

    return find(Path(given.get("project_dir") or Path.cwd()).resolve())


def _catalog(given: Mapping[str, Any]) -> Catalog:
    from forge.release.catalog import Catalog
    from forge.store import open_objects

    url = given.get("store_url") or os.environ.get("FORGE_STORE")
    return Catalog(open_objects(url or str(_project(given).root / "artifacts"),
                                environment=os.environ))  # fmt: skip


def _bundles(given: Mapping[str, Any], catalog: Catalog) -> list[str]:
    return [given["name"]] if given.get("name") else catalog.names()


@_completion
def profile_names(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the profiles of the project."""
    from forge.profiles.files import names

    return names(_project(given).profiles)


@_completion
def bundle_names(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the bundles in the store."""
    return _catalog(given).names()


@_completion
def versions(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the published versions, the newest first."""
    catalog = _catalog(given)
    return [one for name in _bundles(given, catalog) for one in catalog.versions(name)]


@_completion
def channel_names(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the channels of the bundle, and those that most bundles have."""
    catalog = _catalog(given)
    found = [one for name in _bundles(given, catalog) for one in catalog.channels(name)]
    return [*found, "canary", "stable"]


@_completion
def versions_and_channels(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the published versions and the channels of the bundle."""
    catalog = _catalog(given)
    names = _bundles(given, catalog)
    found = [one for name in names for one in catalog.versions(name)]
    return [*found, *(one for name in names for one in catalog.channels(name))]


@_completion
def published_profiles(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the profiles of the version, or of all versions."""
    catalog = _catalog(given)
    wanted = given.get("version") or given.get("first")
    return [
        profile
        for name in _bundles(given, catalog)
        for version in ([wanted] if wanted else catalog.versions(name))
        for profile in catalog.profiles(name, version)
    ]


@_completion
def step_ids(given: Mapping[str, Any], context: click.Context) -> Iterable[str]:
    """Complete to the steps of the pipeline, with the profiles that were named."""
    from forge import profiles

    project = _project(given)
    pipeline = project.load(str(context.info_name))
    words = [word for one in given.get("profile_names", ()) for word in one.split(",")]
    chosen = [
        profiles.load(name, project.profiles).profile
        for name in words or profiles.names(project.profiles)
    ]
    options = {one.name: given.get(one.name, one.default) for one in pipeline.options}
    catalog = _catalog(given)
    values = {"profiles": chosen, "catalog": catalog, "keys": project.work / "keys"}
    return [step.id for step in pipeline.plan(values, options).steps]


@_completion
def base_image_names(given: Mapping[str, Any], _context: click.Context) -> Iterable[str]:
    """Complete to the base images of the project."""
    from forge.images.bases import read_bases

    return sorted(read_bases(_project(given).root / "dockerfiles").by_name)
