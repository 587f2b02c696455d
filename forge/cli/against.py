"""`forge plan --against CHANNEL`: what a change would build again, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from forge.cli import summary
from forge.cli.common import print_json
from forge.cli.terminal import print_table, print_text, print_title, tinted
from forge.errors import UsageError, not_found
from forge.markdown import table as markdown_table
from forge.plan import Difference, StepComparison, StepMatch

if TYPE_CHECKING:
    from forge.cli.trusted import OpenedStore

__all__ = ["PublishedChannel", "published_channel", "show_comparison"]

_HEADER: Final = ("step", "compared", "why")
_MOST_FIELDS: Final = 5
_MOST_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True)
class PublishedChannel:
    """The version that a channel points to.

    Attributes:
        name: name of the bundle.
        channel: name of the channel.
        version: the version.
        keys: key digest of each step it was built by, for the profiles of the plan.
        missing: profiles of the plan that the version does not have.
    """

    name: str
    channel: str
    version: str
    keys: Mapping[str, str]
    missing: tuple[str, ...]


def published_channel(
    verified: OpenedStore, name: str | None, channel: str, profiles: Sequence[str]
) -> PublishedChannel:
    """Return the version that a channel points to.

    Args:
        verified: the store.
        name: name of the bundle; None: the only one.
        channel: name of the channel.
        profiles: those of the plan.

    Raises:
        NotFoundError: there is no such channel.
        UsageError: the bundle is not published.
    """
    from forge.release.catalog import Catalog, only_name

    catalog = Catalog(verified.store.objects, verified.index)
    name = only_name(catalog, name)
    channels = catalog.channels(name)
    if channel not in channels:
        raise not_found(f"{name} has no channel {channel!r}", channel, channels)
    version = channels[channel]
    published = catalog.profiles(name, version)
    keys: dict[str, str] = {}
    for one in profiles:
        if one in published:
            manifest = catalog.manifest(name, version, one)
            keys |= {link.step: link.key for link in manifest.chain}
    missing = tuple(one for one in profiles if one not in published)
    return PublishedChannel(name, channel, version, keys, missing)


def show_comparison(
    channel: PublishedChannel,
    found: Sequence[StepComparison],
    *,
    as_json: bool,
    markdown: bool,
) -> None:
    """Print which steps differ from those of the channel's version. Raises UsageError."""
    if as_json and markdown:
        raise UsageError("--markdown and --json exclude each other", hint="use one of them")
    title = f"Against {channel.channel}: {channel.name} {channel.version}"
    differ = [one for one in found if one.match is not StepMatch.SAME]
    rows = [(one.step, one.match.value, _why(one)) for one in differ]
    lines = [_count(found, differ), *(f"{one} is not in that version." for one in channel.missing)]
    table = ["", markdown_table(_HEADER, rows)] if rows else []
    text = "\n".join([f"### {title}", "", *lines, *table])
    summary.append(os.environ, title, _HEADER, rows)
    if as_json:
        print_json(
            {
                "name": channel.name,
                "channel": channel.channel,
                "version": channel.version,
                "missing_profiles": list(channel.missing),
                "steps": [_json(one) for one in found],
            }
        )
    elif markdown:
        click.echo(text)
    else:
        print_title(title)
        shown = [(step, tinted(status), why) for step, status, why in rows]
        if shown:
            print_table(_HEADER, shown)
        for line in lines:
            print_text(line)


def _count(found: Sequence[StepComparison], differ: Sequence[StepComparison]) -> str:
    if not differ:
        return f"All {len(found)} steps are those of that version."
    depend = sum(one.match is StepMatch.DEPENDS for one in differ)
    text = f"{len(differ) - depend} of {len(found)} steps differ from those of that version"
    return text + (f"; for {depend} more, a result before them decides." if depend else ".")


def _why(one: StepComparison) -> str:
    if not one.differences:
        return one.reason
    shown = ", ".join(_field(each) for each in one.differences[:_MOST_FIELDS])
    left = len(one.differences) - _MOST_FIELDS
    return f"{shown} and {left} more" if left > 0 else shown


def _field(one: Difference) -> str:
    if one.stored is None or one.wanted is None:
        return f"{one.field} {'added' if one.stored is None else 'removed'}"
    return f"{one.field} {_short(one.stored)} → {_short(one.wanted)}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _json(one: StepComparison) -> dict[str, object]:
    return {
        "step": one.step,
        "compared": one.match.value,
        "reason": one.reason,
        "differences": [
            {"field": each.field, "stored": each.stored, "wanted": each.wanted}
            for each in one.differences
        ],
    }
