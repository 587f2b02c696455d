"""`forge store gc|verify`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from forge.cli.common import (
    bytes_text,
    json_option,
    open_project_store,
    print_json,
    print_table,
    store_option,
)

__all__ = ["store"]


@click.group()
def store() -> None:
    """Verify the store and delete what nothing needs."""


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
@json_option
def gc(
    keep: int, grace_hours: float, store_url: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Delete what no channel, no recent version and no running publish needs.

    \b
    forge store gc --keep 5
    forge store gc --keep 2 --dry-run
    """  # noqa: D301
    from forge.release.catalog import live_trees

    opened = open_project_store(None, store_url)
    report = opened.collect_garbage(
        keep_trees=live_trees(opened, keep),
        grace_s=grace_hours * 3600,
        now=time.time(),
        dry_run=dry_run,
    )
    if as_json:
        print_json(report.as_json())
        return
    click.echo("would delete:" if dry_run else "deleted:")
    print_table(("kind", "objects", "size"), report.rows(bytes_text))


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
@json_option
def verify(
    repair_from: tuple[Path, ...], store_url: str | None, *, repair: bool, as_json: bool
) -> int:
    """Read everything and check every digest; exit code 9 when something is damaged.

    \b
    forge store verify
    forge store verify --repair --repair-from .forge/trees
    """  # noqa: D301
    from forge.errors import StoreError

    opened = open_project_store(None, store_url)
    report = opened.verify(repair=repair or bool(repair_from), repair_from=repair_from)
    if as_json:
        print_json(report.as_json())
    else:
        for problem in report.problems:
            click.echo(f"{problem.name}: {problem.reason}")
        click.echo(
            f"{report.objects} objects, {bytes_text(report.bytes)}: "
            f"{len(report.problems)} damaged, {len(report.deleted)} deleted, "
            f"{report.healed} files healed"
        )
        if report.problems and not (repair or repair_from):
            click.echo("next: forge store verify --repair")
    return 0 if report.ok or repair or repair_from else StoreError.exit_code
