"""Commands `forge bundle`, `forge channel`, `forge channels` and `forge promote`."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forge.accuracy.receipt import accuracy_text
from forge.bundle import Manifest, check_name
from forge.cli import completion, summary
from forge.cli.common import (
    bytes_text,
    json_option,
    keys_option,
    open_named_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.compare import compare
from forge.cli.confirm import confirm, confirm_new_channel, yes_option
from forge.cli.export import export, pull, verify
from forge.cli.keyring import keys_folder, open_keyring, passphrase_option
from forge.cli.terminal import print_table, print_text, print_title
from forge.release.catalog import Catalog, only_name
from forge.release.repository.unverified_index import check_timestamp
from forge.smoke.result import Level, Result, figures, interval

if TYPE_CHECKING:
    from forge.bundle import Fallback

__all__ = ["bundle", "channel", "channels", "promote"]

_name_option = click.option(
    "--name",
    shell_complete=completion.bundle_names,
    help="Bundle name. Default: the only bundle in the store.",
)


@click.group()
def bundle() -> None:
    """List, show, compare, export and yank published bundles.

    \b
    forge bundle list
    forge bundle show 1.0.0 --profile development
    forge bundle export smollm2 1.0.0 --profile development -o smollm2.forge
    """  # noqa: D301


for _command in (compare, export, verify, pull):
    bundle.add_command(_command)


@bundle.command("list")
@store_option
@project_option
@json_option
def list_bundles(store_url: str | None, project_dir: Path | None, *, as_json: bool) -> None:
    """List published bundles with their versions, profiles and channels.

    \b
    forge bundle list
    forge bundle list --store s3://bundles/prod --json
    """  # noqa: D301
    objects = open_named_store(project_dir, store_url).objects
    check_timestamp(objects)
    catalog = Catalog(objects)
    rows = []
    for name in catalog.names():
        pointing = catalog.channels(name)
        for version in catalog.versions(name):
            on = [channel for channel, target in pointing.items() if target == version]
            yanked = catalog.yanked(name, version)
            rows.append((name, version, catalog.profiles(name, version), on, yanked))
    if as_json:
        keys = ("name", "version", "profiles", "channels", "yanked")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    table = [
        (name, version, ", ".join(profiles), ", ".join(on) or ("(yanked)" if yanked else ""))
        for name, version, profiles, on, yanked in rows
    ]
    nothing = f"No bundle is published in {objects.url}. Publish one: forge run release"
    print_table(("bundle", "version", "profiles", "channels"), table, empty=nothing)


@bundle.command()
@click.argument("version", shell_complete=completion.versions)
@click.option(
    "--profile", shell_complete=completion.published_profiles, help="Show this profile only."
)
@_name_option
@store_option
@project_option
@json_option
def show(
    version: str,
    profile: str | None,
    name: str | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Show size, requirements, accuracy and benchmark of a version.

    The benchmark has 95 % intervals over its runs.

    \b
    forge bundle show 1.0.0
    forge bundle show 1.0.0 --profile development --json
    """  # noqa: D301
    catalog = Catalog(open_named_store(project_dir, store_url).objects)
    name = only_name(catalog, name)
    catalog.require(name, version, profile)
    profiles = [profile] if profile else catalog.profiles(name, version)
    manifests = [catalog.manifest(name, version, one) for one in profiles]
    if as_json:
        print_json([_document(catalog, manifest) for manifest in manifests])
        return
    for manifest in manifests:
        tree = f"{manifest.tree.digest[:12]} {bytes_text(manifest.tree.size)}"
        runtime = ", ".join(f"{k} {v}" for k, v in manifest.fit.runtime.items())
        receipt, signature = catalog.accuracy(manifest), catalog.signature(manifest)
        print_title(f"{name} {version} for {manifest.profile}")
        rows = [
            ("tree", f"{tree} in {manifest.tree.files} files"),
            ("published", manifest.created),
            ("platform", manifest.fit.platform),
            ("runtime", runtime or "—"),
            ("checkpoint signed", signature.text if signature else "not checked"),
            ("requires", f"{manifest.fit.memory_mib} MiB memory"),
            ("accuracy", accuracy_text(receipt) if receipt else "published without a receipt"),
            *_measured(manifest, catalog.performance(manifest)),
            *((f"link {link.step}", link.key[:12]) for link in manifest.chain),
        ]
        print_table(("", ""), rows)


def _document(catalog: Catalog, manifest: Manifest) -> dict[str, Any]:
    """Return the manifest, and the predicates next to it; null: published without them."""
    measured = {
        "accuracy": catalog.accuracy(manifest),
        "performance": catalog.performance(manifest),
        "checkpoint_signature": catalog.signature(manifest),
    }
    shown = {name: one.model_dump(mode="json") if one else None for name, one in measured.items()}
    return {**manifest.model_dump(mode="json"), **shown}


def _measured(manifest: Manifest, result: Result | None) -> list[tuple[str, str]]:
    """Return a row for each concurrency; one row of means for a bundle without the predicate."""
    smoke = manifest.smoke
    machine = f"{smoke.peak_rss_mib:.0f} MiB on {smoke.machine}"
    if result is None:
        means = f"TTFT {smoke.ttft_ms_p50:.0f} ms, {smoke.output_tokens_per_s:.1f} tokens/s"
        return [("measured", f"{means}, {machine}")]
    rows = [(f"measured at {one.concurrency}", _figures(one)) for one in result.levels]
    throttled = {None: "not known", True: "yes", False: "no"}[result.conditions.throttled]
    reasons = ", ".join(result.conditions.throttle_reasons)
    return [
        *rows,
        ("measured on", f"{machine}; throttled: {throttled}{reasons and f' ({reasons})'}"),
    ]


def _figures(level: Level) -> str:
    extra = (
        ("goodput", level.goodput, "requests/s"),
        ("energy", level.energy_per_output_token, "J/token"),
        ("power", level.average_power, "W"),
    )
    more = [f"{name} {interval(one, unit)}" for name, one, unit in extra if one is not None]
    return ", ".join([figures(level), *more])


@bundle.command()
@click.argument("version")
@yes_option
@passphrase_option
@_name_option
@keys_option
@store_option
@project_option
@json_option
def yank(
    version: str,
    passphrase_file: Path | None,
    name: str | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Mark a version, so that no channel can point to it again. Cannot be taken back.

    Its number stays taken, and garbage collection deletes its files. Devices that have it keep it.

    \b
    forge bundle yank 1.4.1
    """  # noqa: D301
    from forge.release.withdraw import yank as mark

    store = open_named_store(project_dir, store_url)
    name = only_name(Catalog(store.objects), name)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, store.objects)
    confirm(f"Yank {name} {version}?", ["No channel can point to it again."], yes=yes)
    profiles = mark(store, keyring, name, version, now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({"name": name, "version": version, "profiles": profiles})
    else:
        done = f"for {', '.join(profiles)}" if profiles else "before"
        print_text(f"Yanked {name} {version} {done}")


@click.group()
def channel() -> None:
    """Remove channels; `forge channels` lists them and `forge promote` moves them.

    \b
    forge channel rm beta
    """  # noqa: D301


@channel.command()
@click.argument("channel_name", metavar="CHANNEL")
@yes_option
@passphrase_option
@_name_option
@keys_option
@store_option
@project_option
@json_option
def rm(
    channel_name: str,
    passphrase_file: Path | None,
    name: str | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove a channel. Devices that follow it keep what they have and get no updates.

    \b
    forge channel rm beta
    """  # noqa: D301
    from forge.release.withdraw import remove_channel

    store = open_named_store(project_dir, store_url)
    catalog = Catalog(store.objects)
    name = only_name(catalog, name)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, store.objects)
    if version := catalog.channels(name).get(channel_name):
        effect = f"{channel_name} points to {version}. Devices that follow it get no updates."
        confirm(f"Remove the channel {channel_name} of {name}?", [effect], yes=yes)
    version = remove_channel(store, keyring, name, channel_name, now=dt.datetime.now(dt.UTC))
    if as_json:
        print_json({"name": name, "channel": channel_name, "version": version})
    else:
        print_text(f"Removed {name} {channel_name}, which pointed to {version}")


@click.command()
@_name_option
@store_option
@project_option
@json_option
def channels(
    name: str | None, store_url: str | None, project_dir: Path | None, *, as_json: bool
) -> None:
    """List channels and the version each points to.

    \b
    forge channels
    forge channels --store s3://bundles/prod --json
    """  # noqa: D301
    objects = open_named_store(project_dir, store_url).objects
    check_timestamp(objects)
    catalog = Catalog(objects)
    names = [only_name(catalog, name)] if name else catalog.names()
    rows = [(one, *pair) for one in names for pair in catalog.channels(one).items()]
    if as_json:
        print_json([{"name": n, "channel": c, "version": v} for n, c, v in rows])
        return
    nothing = f"No channel in {objects.url}. Point one at a version: forge promote VERSION CHANNEL"
    print_table(("bundle", "channel", "version"), rows, empty=nothing)


@click.command()
@click.argument("version", shell_complete=completion.versions)
@click.argument("channel", shell_complete=completion.channel_names)
@click.option("--force", is_flag=True, help="Allow a lower version than the current one.")
@yes_option
@click.option(
    "--fallback",
    type=click.Choice(("without-gpu", "never")),
    help="Where devices install `development` without being told to: on machines of its platform "
    "that have no GPU, or nowhere. Default: as the channel says; without-gpu for a new one.",
)
@passphrase_option
@_name_option
@keys_option
@store_option
@project_option
@json_option
def promote(
    version: str,
    channel: str,
    passphrase_file: Path | None,
    name: str | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    force: bool,
    yes: bool,
    fallback: Fallback | None,
    as_json: bool,
) -> None:
    """Point a channel at a published version. Uses the channels key and the online key only.

    Asks before it creates a channel, because a mistyped name would create one.

    \b
    forge promote 1.4.0 stable
    forge promote 1.3.0 stable --force      # roll back
    forge promote 1.4.0 plant --fallback never
    """  # noqa: D301
    from forge.release.publish import promote as move

    store = open_named_store(project_dir, store_url)
    catalog = Catalog(store.objects)
    name = only_name(catalog, name)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, store.objects)
    if version in catalog.versions(name):  # else it is refused in any case
        confirm_new_channel(check_name(channel, "Channel"), name, list(catalog.channels(name)),
                            version, yes=yes)  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    before = move(store, keyring, name, version, channel, now=now, force=force, fallback=fallback)
    row = (name, channel, before or "—", version)
    summary.append(os.environ, "Promotion", ("bundle", "channel", "was", "is"), [row])
    if as_json:
        print_json({"name": name, "channel": channel, "version": version, "before": before})
    else:
        was = f" (was {before})" if before and before != version else ""
        print_text(f"{name} {channel} → {version}{was}")
