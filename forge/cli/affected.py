"""`forge affected`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli import completion
from forge.cli.common import json_option, print_json, project_option, store_option
from forge.cli.terminal import print_table, print_text, tinted
from forge.cli.trusted import open_verified, root_option

if TYPE_CHECKING:
    from forge.release.affected import AffectedBundle, AffectedResult

__all__ = ["affected"]

_HEADER = ("bundle", "version", "profile", "channels", "component", "found", "statements")


@click.command()
@click.argument("component")
@click.option(
    "--channel",
    shell_complete=completion.channel_names,
    help="Show only what this channel points to. Default: every published version.",
)
@root_option
@store_option
@project_option
@json_option
def affected(
    component: str,
    channel: str | None,
    root_file: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """List the published bundles that have a component, by their SBOMs.

    COMPONENT is a package URL with a version or a range, a name, or a SHA-256 of a file, a wheel,
    an image or a tree. Signatures are verified. Needs no network apart from the store.

    \b
    forge affected 'pkg:pypi/aiohttp<3.13'
    forge affected openvino --channel stable
    forge affected sha256:0f3c2a9144b1 --json
    """  # noqa: D301
    from forge.release.affected import find_affected
    from forge.release.component_query import parse_query
    from forge.store.backends.open import cache_folder

    query = parse_query(component)
    opened = open_verified(project_dir, store_url, root_file)
    result = find_affected(opened.store.objects, opened.index, query, cache_folder(os.environ))
    if channel:
        result = result.on_channel(channel)
    if as_json:
        print_json(asdict(result))
    else:
        _show(component, result)


def _show(component: str, result: AffectedResult) -> None:
    rows = [
        (
            one.name,
            one.version,
            one.profile,
            _channels(one),
            _component(one),
            tinted(_certain(one)),
            _statements(one),
        )
        for one in result.found
    ]
    read = result.looked_at - len(result.unread)
    nothing = f"{component} is in none of {read} SBOMs, one for each profile of each version."
    print_table(
        _HEADER,
        rows,
        optional=("statements",) if not _said(result) else (),
        group="bundle",
        empty=nothing,
    )
    if result.unread:
        print_text("")
        unread = [
            (one.name, one.version, one.profile, ", ".join(one.channels), one.reason)
            for one in result.unread
        ]
        print_table(("bundle", "version", "profile", "channels", "components not known"), unread)


def _statements(one: AffectedBundle) -> str:
    newest = {said.vulnerability: said for said in reversed(one.statements)}
    return ", ".join(
        f"{said.vulnerability} {said.status}"
        + (f" ({reason})" if (reason := said.justification or said.note) else "")
        for said in newest.values()
    )


def _channels(one: AffectedBundle) -> str:
    return ", ".join(one.channels) or ("(yanked)" if one.yanked else "")


def _component(one: AffectedBundle) -> str:
    found = one.component
    name = found.purl or " ".join(filter(None, (found.name, found.version)))
    return name if found.purl or found.kind == "library" else f"{found.kind} {name}"


def _said(result: AffectedResult) -> bool:
    return any(one.statements for one in result.found)


def _certain(one: AffectedBundle) -> str:
    return "yes" if one.certain else "version not comparable"
