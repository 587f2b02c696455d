"""`forge cache df|prune`: what Forge keeps on this machine, and deleting what is made again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forge.cli.common import bytes_text, json_option, open_project, print_json, project_option
from forge.cli.terminal import print_table, print_text, print_title
from forge.progress import duration_text
from forge.runners.work_folder import AREAS, Area, CacheItem, WorkFolder, folder_bytes

if TYPE_CHECKING:
    from forge.project import Project

__all__ = ["cache"]

_DAYS: Final = 30.0
_ABOUT: Final[dict[str, str]] = {
    "environments": "installed again from the lock files when a step needs them",
    "trees": "unpacked again from the store",
    "failed": "logs and scripts of failed steps",
    "running": "steps that run, or were killed",
}


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """One line of `forge cache df`.

    Attributes:
        name: what it is.
        path: where.
        items: how many environments, trees, … it has; None where that has no meaning.
        bytes: size on disk.
        prune: how it is deleted; empty: never by Forge.
        about: what happens when it is deleted.
    """

    name: str
    path: Path
    items: int | None
    bytes: int
    prune: str
    about: str


@click.group()
def cache() -> None:
    """Show and delete what Forge keeps on this machine, apart from keys and stores.

    \b
    forge cache df
    forge cache prune --older-than 7 --dry-run
    """  # noqa: D301


@cache.command()
@project_option
@json_option
def df(project_dir: Path | None, *, as_json: bool) -> None:
    """Show the sizes of environments, trees, failed runs and downloads, and what is safe to delete.

    \b
    forge cache df
    forge cache df --json
    """  # noqa: D301
    found = list(_usage(open_project(project_dir)))
    if as_json:
        print_json(
            [{"name": one.name, "path": str(one.path), "items": one.items, "bytes": one.bytes,
              "prune": one.prune or None, "about": one.about} for one in found]
        )  # fmt: skip
        return
    rows = [
        (one.name, "—" if one.items is None else str(one.items), bytes_text(one.bytes),
         one.prune or "never", one.about)
        for one in found
    ]  # fmt: skip
    print_table(("what", "items", "size", "deleted by", "note"), rows, optional=("note", "items"))
    safe = sum(one.bytes for one in found if one.prune.startswith("forge"))
    print_text(f"{bytes_text(safe)} can be made again: forge cache prune --older-than 0")


@cache.command()
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    default=_DAYS,
    show_default=True,
    metavar="DAYS",
    help="Delete what was not used for so many days; 0: everything that is not in use.",
)
@click.option(
    "--only",
    "areas",
    type=click.Choice(AREAS),
    multiple=True,
    help="Delete this kind only. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@project_option
@json_option
def prune(
    days: float,
    areas: tuple[Area, ...],
    project_dir: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete environments, trees and failed runs that were not used for some days.

    Keys and the store are never deleted, nor anything that a run uses now.

    \b
    forge cache prune
    forge cache prune --older-than 0 --only failed
    """  # noqa: D301
    work, now = WorkFolder(open_project(project_dir).work), time.time()
    deleted = work.prune(now, days, areas or AREAS, dry_run=dry_run)
    size = sum(one.bytes for one in deleted)
    if as_json:
        items = [_item_json(one) for one in deleted]
        print_json({"dry_run": dry_run, "bytes": size, "deleted": items})
        return
    rows = [
        (one.area, _name(one), bytes_text(one.bytes), f"{duration_text(now - one.used)} ago")
        for one in deleted
    ]
    nothing = f"Everything was used in the last {days:g} days, or is in use."
    if deleted:
        print_title("Would delete:" if dry_run else "Deleted:")
    print_table(("what", "name", "size", "last used"), rows, empty=nothing)
    if deleted:
        print_text(f"{bytes_text(size)} in all")
    if busy := sorted({one.area for one in work.items(areas or AREAS) if one.in_use}):
        print_text(f"In use by a run, and not looked at: {', '.join(busy)}")


def _name(item: CacheItem) -> str:
    return item.path.name[:12] if item.area == "trees" else item.path.name


def _item_json(item: CacheItem) -> dict[str, object]:
    return {"area": item.area, "path": str(item.path), "bytes": item.bytes, "used": item.used}


def _usage(project: Project) -> Iterator[CacheUsage]:
    from forge.store.backends.open import cache_folder

    items = WorkFolder(project.work).items()
    for area in AREAS:
        mine = [one for one in items if one.area == area]
        size = sum(one.bytes for one in mine)
        path = project.work / area
        yield CacheUsage(area, path, len(mine), size, "forge cache prune", _ABOUT[area])
    index = cache_folder(os.environ)
    about = "which chunks a store has; read again from the store"
    yield CacheUsage("chunk index", index, None, folder_bytes(index), f"rm -r {index}", about)
    uv = _uv_cache()
    about = "packages that uv has downloaded, for all projects"
    yield CacheUsage("downloads", uv, None, folder_bytes(uv), "uv cache prune", about)
    for name, path, about in (
        ("store", project.root / "artifacts", "published bundles and results; see forge store gc"),
        ("keys", project.work / "keys", "signing keys: nothing can make them again"),
    ):
        yield CacheUsage(name, path, None, folder_bytes(path), "", about)


def _uv_cache() -> Path:
    from forge.store.backends.open import user_cache

    if given := os.environ.get("UV_CACHE_DIR"):
        return Path(given)
    return user_cache(os.environ) / "uv"
