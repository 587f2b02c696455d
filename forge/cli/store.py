"""`forge store gc|test|verify`."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import (
    bytes_text,
    json_option,
    place_of_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.progress_line import progress_line
from forge.cli.terminal import print_table, print_text, print_title, tinted

if TYPE_CHECKING:
    from forge.store import Store
    from forge.store.maintenance.check import VerifyReport

__all__ = ["store"]


def _open_existing(project_dir: Path | None, store_url: str | None) -> Store:
    """Open the store; a missing folder is an error, since both commands work on its content.

    A `.forge` file is an error too: its metadata lists other bundles, which it does not hold.
    """
    from forge.errors import UsageError
    from forge.store import open_store
    from forge.store.backends.archive import is_archive
    from forge.store.backends.open import check_exists, local_folder

    url = place_of_store(project_dir, store_url)
    check_exists(url)
    path = local_folder(url)
    if path is not None and is_archive(path):
        hint = f"forge bundle verify {path} --root root.json"
        raise UsageError(f"{path} is a file of 'forge bundle export', not a store", hint=hint)
    return open_store(url, environment=os.environ)


@click.group()
def store() -> None:
    """Verify the store, try its service, and collect garbage.

    \b
    forge store test --store s3://bundles/prod
    forge store verify
    forge store gc --keep 5 --dry-run --json
    """  # noqa: D301


@store.command()
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of newest versions of each bundle to keep, in addition to those on a channel.",
)
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Keep objects younger than this.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and delete nothing.")
@store_option
@project_option
@json_option
def gc(
    keep: int,
    grace_hours: float,
    store_url: str | None,
    project_dir: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete objects that nothing refers to.

    Keeps every version on a channel, the newest versions of each bundle, and recent objects.

    \b
    forge store gc --keep 5
    forge store gc --keep 2 --dry-run
    """  # noqa: D301
    from forge.release.catalog import live_actions, live_trees
    from forge.store.maintenance.garbage import collect_garbage

    opened = _open_existing(project_dir, store_url)
    report = collect_garbage(
        opened,
        keep_trees=live_trees(opened, keep),
        keep_actions=live_actions(opened, keep),
        grace_s=grace_hours * 3600,
        now=time.time(),
        dry_run=dry_run,
    )
    if as_json:
        print_json(report.as_json())
        return
    print_title("Would delete:" if dry_run else "Deleted:")
    print_table(("kind", "objects", "size"), report.rows(bytes_text))
    for name in report.foreign:
        print_text(f"Kept, not written by Forge: {name}")


@store.command()
@store_option
@project_option
@json_option
def test(store_url: str | None, project_dir: Path | None, *, as_json: bool) -> None:
    """Try what Forge needs of the service of a store. Exits with 9 if it lacks any.

    Writes a few small objects below leases/ and deletes them. Use it before a service is used for
    the first time: one that ignores the condition of a write loses publications silently.

    \b
    forge store test --store s3://bundles/prod
    """  # noqa: D301
    from forge.errors import StoreError
    from forge.store import open_objects
    from forge.store.backends.open import check_exists
    from forge.store.maintenance.service_check import check_service

    url = place_of_store(project_dir, store_url)
    check_exists(url)
    objects = open_objects(url, environment=os.environ)
    trial = check_service(objects)
    missing = [one for one in trial.checks if one.problem]
    if as_json:
        print_json(dataclasses.asdict(trial))
    else:
        rows = [
            (one.need, tinted("no" if one.problem else "yes"), one.problem) for one in trial.checks
        ]
        print_table(("Forge needs to", "it does", "problem"), rows, optional=("problem",))
        if trial.left:
            print_text(f"Left behind, delete them: {trial.left}*")
    if missing:
        raise StoreError(
            f"{objects.url} cannot hold a store",
            why="without that, " + "; ".join(dict.fromkeys(one.consequence for one in missing)),
            hint="docs/how-to/choose-a-store.md lists services, and what each lacks",
        )


@store.command()
@click.option(
    "--repair", is_flag=True, help="Delete damaged objects, so that the next run makes them again."
)
@click.option(
    "--repair-from",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with intact copies of damaged files, e.g. a device's slot. Repeatable.",
)
@store_option
@project_option
@json_option
def verify(
    repair_from: tuple[Path, ...],
    store_url: str | None,
    project_dir: Path | None,
    *,
    repair: bool,
    as_json: bool,
) -> int:
    """Read all objects and check their digests. Exits with 9 if any is, or stays, damaged.

    Metadata is checked against the store's own first root. This detects damage, but not a forged
    store: only a device's root.json can detect that.

    \b
    forge store verify
    forge store verify --repair --repair-from .forge/trees
    """  # noqa: D301
    from forge.errors import StoreError
    from forge.release.audit import audit
    from forge.store.maintenance.check import check_store

    opened = _open_existing(project_dir, store_url)
    signed = audit(opened.objects)
    with progress_line("Verifying") as progress:
        report = check_store(
            opened,
            repair=repair or bool(repair_from),
            repair_from=repair_from,
            progress=progress,
        )
    report = dataclasses.replace(
        report,
        objects=report.objects + signed.objects,
        bytes=report.bytes + signed.bytes,
        problems=(*report.problems, *signed.problems),
        remaining=(*report.remaining, *signed.problems),
    )
    lost = _lost_bundles(report, signed.bundles)
    if as_json:
        print_json({**report.as_json(), "lost_bundles": lost})
    else:
        _print(report, lost, repaired=repair or bool(repair_from))
    wrong = report.remaining if repair or repair_from else report.problems
    return StoreError.exit_code if wrong else 0


def _lost_bundles(report: VerifyReport, bundles: dict[str, list[str]]) -> list[str]:
    """Return the published bundles whose tree was deleted by the repair."""
    digests = [name.rpartition("/")[2].removesuffix(".json") for name in report.deleted]
    return sorted({who for digest in digests for who in bundles.get(digest, ())})


def _print(report: VerifyReport, lost: list[str], *, repaired: bool) -> None:
    for problem in report.problems:
        print_text(f"{problem.name}: {problem.reason}")
    print_text(
        f"{report.objects} objects, {bytes_text(report.bytes)}: "
        f"{len(report.problems)} damaged, {len(report.deleted)} deleted, "
        f"{report.restored} files restored"
    )
    for who in lost:
        print_text(
            f"{who} can no longer be installed: its tree was deleted. Run its release again, or "
            "restore its files with --repair-from."
        )
    if report.problems and not repaired:
        print_text("Next: forge store verify --repair")
    elif report.remaining:
        print_text(f"{len(report.remaining)} still damaged:")
        for problem in report.remaining:
            print_text(f"{problem.name}: {problem.reason}", indent="  ")
