"""`forge diff`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli import completion, summary
from forge.cli.common import bytes_text, json_option, print_json, project_option, store_option
from forge.cli.terminal import print_table, print_text, print_title
from forge.cli.trusted import open_verified, root_option
from forge.errors import UsageError, not_found
from forge.markdown import table as markdown_table

if TYPE_CHECKING:
    from forge.release.catalog import Catalog
    from forge.release.difference import ProfileDifference, VersionDifference

__all__ = ["diff", "difference_rows", "version_of"]

_HEADER = ("what", "name", "first", "second")


@click.command()
@click.argument("first", shell_complete=completion.versions_and_channels)
@click.argument("second", shell_complete=completion.versions_and_channels)
@click.option(
    "--profile",
    shell_complete=completion.published_profiles,
    help="Compare this profile only. Default: all that both have.",
)
@click.option(
    "--name",
    shell_complete=completion.bundle_names,
    help="Bundle name. Default: the only bundle in the store.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown, for a comment on a pull request.")
@root_option
@store_option
@project_option
@json_option
def diff(
    first: str,
    second: str,
    profile: str | None,
    name: str | None,
    root_file: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    markdown: bool,
    as_json: bool,
) -> None:
    """Show what differs between two published versions, and what a device would download.

    FIRST and SECOND are versions, or channels, which stand for the version they point to. Compared
    are fields of the manifest, steps, files, packages, figures, accuracy and signers. Signatures
    are verified.

    \b
    forge diff 1.0.0 1.1.0
    forge diff stable canary --profile development
    forge diff 1.0.0 1.1.0 --json
    """  # noqa: D301
    from forge.release.catalog import Catalog, only_name
    from forge.release.difference import compare_versions

    if markdown and as_json:
        raise UsageError("--markdown and --json exclude each other", hint="use one of them")
    opened = open_verified(project_dir, store_url, root_file)
    catalog = Catalog(opened.store.objects, opened.index)
    name = only_name(catalog, name)
    versions = (version_of(catalog, name, first), version_of(catalog, name, second))
    found = compare_versions(opened.store, opened.index, name, versions, profile)
    title = f"{name} {versions[0]} → {versions[1]}"
    tables = [(one, difference_rows(one)) for one in found.profiles]
    for one, rows in tables:
        summary.append(os.environ, f"{title} for {one.profile}", _HEADER, rows)
    if as_json:
        print_json(asdict(found))
    elif markdown:
        texts = [_markdown(title, one, rows) for one, rows in tables]
        click.echo("\n".join([*texts, *_missing(found)]))
    else:
        for one, rows in tables:
            print_title(f"{title} for {one.profile}")
            print_table(_HEADER, rows, group="what", empty="Nothing differs.")
        for line in _missing(found):
            print_text(line)


def version_of(catalog: Catalog, name: str, text: str) -> str:
    """Return the version that a version or a channel stands for. Raises NotFoundError."""
    channels = catalog.channels(name)
    if text in channels:
        return channels[text]
    versions = catalog.versions(name)
    if text not in versions:
        what = f"{name} has no version and no channel {text!r}"
        raise not_found(what, text, [*versions, *channels])
    return text


def difference_rows(one: ProfileDifference) -> list[tuple[str, str, str, str]]:
    """Return the rows of a table: first what a device downloads, then each thing that differs."""
    rows = [("fetch", name, "", text) for name, text in _fetch(one)]
    sections = (
        ("field", one.fields),
        ("step", one.steps),
        ("file", one.files),
        ("package", one.packages),
        ("figure", one.figures),
        ("accuracy", one.accuracy),
        ("signer", one.signers),
    )
    for what, changes in sections:
        if changes is None:
            rows.append((what, "not known: a version has no SBOM in the store", "", ""))
            continue
        rows += [(what, each.name, each.before or "—", each.after or "—") for each in changes]
    return rows


def _fetch(one: ProfileDifference) -> list[tuple[str, str]]:
    fetch = one.fetch
    if fetch is None:
        return [("bytes", "not known: the files are not in the store")]
    return [
        ("bytes", f"{bytes_text(fetch.bytes)} of {bytes_text(fetch.size)} ({fetch.bytes} B)"),
        ("chunks", f"{fetch.chunks} in {fetch.requests} requests, of {fetch.files} files"),
    ]


def _markdown(title: str, one: ProfileDifference, rows: Sequence[Sequence[str]]) -> str:
    return f"### {title} for {one.profile}\n\n{markdown_table(_HEADER, rows)}"


def _missing(found: VersionDifference) -> list[str]:
    """Return a line for each version that lacks profiles of the other."""
    return [
        f"Only {version} has {', '.join(profiles)}."
        for version, profiles in (
            (found.first, found.only_first),
            (found.second, found.only_second),
        )
        if profiles
    ]
