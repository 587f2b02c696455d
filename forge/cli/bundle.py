"""`forge bundle list|show`, `forge channels`, `forge promote`."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import click

from forge.cli import summary
from forge.cli.common import (
    bytes_text,
    json_option,
    keys_option,
    open_named_store,
    print_json,
    print_table,
    project_option,
    store_option,
)
from forge.cli.keys import keys_folder, open_keyring
from forge.release.catalog import Catalog
from forge.release.index import check_timestamp

__all__ = ["bundle", "channels", "promote"]

_name_option = click.option("--name", help="Name of the bundle; default: the only one there is.")


def _only_name(catalog: Catalog, name: str | None) -> str:
    from forge.errors import UsageError

    names = catalog.names()
    if name:
        return name
    if len(names) != 1:
        found = f"there are {', '.join(names)}" if names else "nothing is published here"
        raise UsageError("Which bundle?", why=found, hint="give --name NAME")
    return names[0]


@click.group()
def bundle() -> None:
    """List and show published bundles.

    \b
    forge bundle list
    forge bundle show 1.0.0 --profile development
    """  # noqa: D301


@bundle.command("list")
@store_option
@project_option
@json_option
def list_bundles(store_url: str | None, project_dir: Path | None, *, as_json: bool) -> None:
    """List what is published: versions, profiles, and the channels that point there.

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
            rows.append((name, version, catalog.profiles(name, version), on))
    if as_json:
        print_json(
            [
                {"name": name, "version": version, "profiles": profiles, "channels": on}
                for name, version, profiles, on in rows
            ]
        )
        return
    table = [(name, version, ", ".join(ps), ", ".join(on)) for name, version, ps, on in rows]
    print_table(("bundle", "version", "profiles", "channels"), table)


@bundle.command()
@click.argument("version")
@click.option("--profile", help="Only this profile.")
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
    """Show what one version is for each profile: size, needs, measurements, where it came from.

    \b
    forge bundle show 1.0.0
    forge bundle show 1.0.0 --profile development --json
    """  # noqa: D301
    from forge.errors import UsageError

    catalog = Catalog(open_named_store(project_dir, store_url).objects)
    name = _only_name(catalog, name)
    profiles = [profile] if profile else catalog.profiles(name, version)
    if not profiles:
        known = ", ".join(catalog.versions(name)) or "none"
        raise UsageError(f"{name} {version} is not published", hint=f"versions: {known}")
    manifests = [catalog.manifest(name, version, one) for one in profiles]
    if as_json:
        print_json([manifest.model_dump(mode="json") for manifest in manifests])
        return
    for manifest in manifests:
        smoke = manifest.smoke
        tree = f"{manifest.tree.digest[:12]} {bytes_text(manifest.tree.size)}"
        measured = (
            f"TTFT {smoke.ttft_ms_p50:.0f} ms, {smoke.output_tokens_per_s:.1f} tokens/s, "
            f"{smoke.peak_rss_mib:.0f} MiB on {smoke.machine}"
        )
        runtime = ", ".join(f"{k} {v}" for k, v in manifest.fit.runtime.items())
        click.echo(click.style(f"{name} {version} for {manifest.profile}", bold=True))
        rows = [
            ("tree", f"{tree} in {manifest.tree.files} files"),
            ("published", manifest.created),
            ("platform", manifest.fit.platform),
            ("runtime", runtime or "—"),
            ("needs", f"{manifest.fit.memory_mib} MiB memory"),
            ("measured", measured),
            *((f"link {link.step}", link.key[:12]) for link in manifest.chain),
        ]
        print_table(("", ""), rows)


@click.command()
@_name_option
@store_option
@project_option
@json_option
def channels(
    name: str | None, store_url: str | None, project_dir: Path | None, *, as_json: bool
) -> None:
    """List channels and the versions they point to.

    \b
    forge channels
    forge channels --store s3://bundles/prod --json
    """  # noqa: D301
    objects = open_named_store(project_dir, store_url).objects
    check_timestamp(objects)
    catalog = Catalog(objects)
    names = [name] if name else catalog.names()
    rows = [(one, *pair) for one in names for pair in catalog.channels(one).items()]
    if as_json:
        print_json([{"name": n, "channel": c, "version": v} for n, c, v in rows])
        return
    print_table(("bundle", "channel", "version"), rows)


@click.command()
@click.argument("version")
@click.argument("channel")
@click.option("--force", is_flag=True, help="Go back to a lower version.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the passphrase of the keys.",
)
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
    as_json: bool,
) -> None:
    """Point a channel at a published version. Needs the channels key and the online key only.

    \b
    forge promote 1.4.0 stable
    forge promote 1.3.0 stable --force      # go back
    """  # noqa: D301
    from forge.release.publish import promote as move

    store = open_named_store(project_dir, store_url)
    name = _only_name(Catalog(store.objects), name)
    ring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    before = move(store, ring, name, version, channel, now=dt.datetime.now(dt.UTC), force=force)
    row = (name, channel, before or "—", version)
    summary.append(os.environ, "Promotion", ("bundle", "channel", "was", "is"), [row])
    if as_json:
        print_json({"name": name, "channel": channel, "version": version, "before": before})
    else:
        was = f" (was {before})" if before and before != version else ""
        click.echo(f"{name} {channel} → {version}{was}")
