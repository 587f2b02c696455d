"""`forge vex`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forge.cli import completion
from forge.cli.common import json_option, keys_option, print_json, project_option, store_option
from forge.cli.keyring import keys_folder, open_keyring, passphrase_option
from forge.cli.terminal import print_text
from forge.cli.trusted import open_verified, root_option
from forge.errors import NotInStoreError, UsageError

if TYPE_CHECKING:
    from forge.bundle import Manifest
    from forge.release.component_query import ComponentQuery
    from forge.store import Objects

__all__ = ["vex"]

_STATUSES: Final = ("not_affected", "affected", "fixed", "under_investigation")  # vex.STATUSES


@click.command()
@click.argument("version", shell_complete=completion.versions)
@click.argument("vulnerability")
@click.argument("component")
@click.option("--status", type=click.Choice(_STATUSES), required=True, help="As in OpenVEX.")
@click.option(
    "--justification",
    default="",
    help="Why it is not affected, a word of OpenVEX, such as vulnerable_code_not_in_execute_path.",
)
@click.option("--note", default="", help="Why, or what to do, in words.")
@click.option(
    "--profile",
    shell_complete=completion.published_profiles,
    help="Only for this profile. Default: all that have the component.",
)
@click.option(
    "--name",
    shell_complete=completion.bundle_names,
    help="Bundle name. Default: the only bundle in the store.",
)
@passphrase_option
@keys_option
@root_option
@store_option
@project_option
@json_option
def vex(
    version: str,
    vulnerability: str,
    component: str,
    *,
    status: str,
    justification: str,
    note: str,
    profile: str | None,
    name: str | None,
    passphrase_file: Path | None,
    keys_dir: Path | None,
    root_file: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    as_json: bool,
) -> None:
    """Sign a statement that a published version is, or is not, affected by a vulnerability.

    The statement is OpenVEX, signed with the build key, and stored next to the bundle, which does
    not change. COMPONENT is as for `forge affected`, which shows the statements.

    \b
    forge vex 1.0.0 CVE-2025-53643 'pkg:pypi/aiohttp<3.13' --status not_affected \\
        --justification vulnerable_code_not_in_execute_path
    """  # noqa: D301
    from forge.release.catalog import Catalog, only_name
    from forge.release.component_query import parse_query
    from forge.release.vex import VexStatement, sign_statement

    query = parse_query(component)
    opened = open_verified(project_dir, store_url, root_file)
    objects = opened.store.objects
    catalog = Catalog(objects, opened.index)
    name = only_name(catalog, name)
    catalog.require(name, version, profile)
    profiles = [profile] if profile else catalog.profiles(name, version)
    manifests = [catalog.manifest(name, version, one) for one in profiles]
    meant = [(one, ids) for one in manifests if (ids := _component_ids(objects, one, query))]
    if not meant:
        raise UsageError(
            f"{name} {version} has no {component}",
            hint=f"to see what has it: forge affected '{component}'",
        )
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, objects)
    now = dt.datetime.now(dt.UTC)
    signed = []
    for manifest, found in meant:
        statement = VexStatement(vulnerability, status, found, justification, note)
        stored = sign_statement(objects, keyring, manifest, statement, now)
        signed.append({"profile": manifest.profile, "components": list(found), "object": stored})
    if as_json:
        print_json({"name": name, "version": version, "signed": signed})
        return
    for row in signed:
        print_text(f"{vulnerability}: {name} {version} for {row['profile']} is {status}")


def _component_ids(objects: Objects, manifest: Manifest, query: ComponentQuery) -> tuple[str, ...]:
    """Return the ids of the components of a bundle that are meant."""
    from forge.release.components import read_components
    from forge.release.vex import component_id

    components = read_components(objects, manifest)
    if components is None:
        what = f"{manifest.name} {manifest.version} for {manifest.profile}"
        raise NotInStoreError(f"{what} has no SBOM in the store")
    return tuple(dict.fromkeys(component_id(one) for one in components if query.finds(one)))
