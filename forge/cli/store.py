"""`forge store gc|verify`."""

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
    print_table,
    project_option,
    store_option,
)

if TYPE_CHECKING:
    from forge.store import Store
    from forge.store.verify import VerifyReport

__all__ = ["store"]


def _open_existing(project_dir: Path | None, store_url: str | None) -> Store:
    """The store; both commands are about what is there, so a missing folder is an error."""
    from forge.store import open_store
    from forge.store.location import check_exists

    url = place_of_store(project_dir, store_url)
    check_exists(url)
    return open_store(url, environment=os.environ)


@click.group()
def store() -> None:
    """Verify the store and delete what nothing needs.

    \b
    forge store verify
    forge store gc --keep 5 --dry-run --json
    """  # noqa: D301


@store.command()
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Newest versions of each bundle to keep beside those on a channel.",
)
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Nothing younger is deleted.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
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
    """Delete what no channel, no recent version and no running publish needs.

    \b
    forge store gc --keep 5
    forge store gc --keep 2 --dry-run
    """  # noqa: D301
    from forge.release.catalog import live_actions, live_trees

    opened = _open_existing(project_dir, store_url)
    report = opened.collect_garbage(
        keep_trees=live_trees(opened, keep),
        keep_actions=live_actions(opened, keep),
        grace_s=grace_hours * 3600,
        now=time.time(),
        dry_run=dry_run,
    )
    if as_json:
        print_json(report.as_json())
        return
    click.echo("would delete:" if dry_run else "deleted:")
    print_table(("kind", "objects", "size"), report.rows(bytes_text))
    for name in report.foreign:
        click.echo(f"left alone, Forge did not write it: {name}")


@store.command()
@click.option("--repair", is_flag=True, help="Delete what is damaged, so that it is made again.")
@click.option(
    "--repair-from",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with sound copies of damaged files, e.g. a device's slot.",
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
    """Read everything and check every digest; exit code 9 when something is, or stays, damaged.

    Metadata is checked from the store's own first root: that finds damage, not a forged store,
    which only a device's root.json finds.

    \b
    forge store verify
    forge store verify --repair --repair-from .forge/trees
    """  # noqa: D301
    from forge.errors import StoreError
    from forge.release.audit import audit

    opened = _open_existing(project_dir, store_url)
    signed = audit(opened.objects)
    report = opened.verify(repair=repair or bool(repair_from), repair_from=repair_from)
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
    """Published bundles whose tree repairing has deleted."""
    digests = [name.rpartition("/")[2].removesuffix(".json") for name in report.deleted]
    return sorted({who for digest in digests for who in bundles.get(digest, ())})


def _print(report: VerifyReport, lost: list[str], *, repaired: bool) -> None:
    for problem in report.problems:
        click.echo(f"{problem.name}: {problem.reason}")
    click.echo(
        f"{report.objects} objects, {bytes_text(report.bytes)}: "
        f"{len(report.problems)} damaged, {len(report.deleted)} deleted, "
        f"{report.healed} files healed"
    )
    for who in lost:
        click.echo(
            f"{who} can no longer be installed: its tree was deleted. Run its release again, or "
            "restore its files with --repair-from"
        )
    if report.problems and not repaired:
        click.echo("next: forge store verify --repair")
    elif report.remaining:
        click.echo(f"{len(report.remaining)} still wrong:")
        for problem in report.remaining:
            click.echo(f"  {problem.name}: {problem.reason}")
