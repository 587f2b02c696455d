"""`forge keys init|status|refresh|rotate`; key_folder.py and builder_keys.py have the others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli import builder_keys, key_folder
from forge.cli.common import (
    json_option,
    keys_option,
    place_of_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.confirm import confirm, yes_option
from forge.cli.keyring import (
    default_store,
    keys_folder,
    new_passphrase,
    open_keyring,
    open_objects_of,
    own_passphrases,
    passphrase_option,
)
from forge.cli.terminal import print_table, print_text, tinted

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import OwnPassphrases

__all__ = ["keys"]

_ROLES = ("root", "targets", "bundles", "channels", "online", "model")


@click.group()
def keys() -> None:
    """Create, check, rotate, refresh, move and back up the signing keys.

    \b
    forge keys init
    forge keys status --json
    forge keys refresh
    """  # noqa: D301


for _command in (
    key_folder.move,
    key_folder.backup,
    key_folder.restore,
    key_folder.passphrase,
    builder_keys.builder,
):
    keys.add_command(_command)


@keys.command()
@click.option("--root-keys", type=int, default=3, show_default=True, help="Number of root keys.")
@click.option(
    "--threshold",
    type=int,
    default=2,
    show_default=True,
    help="Number of root keys that must sign root.json.",
)
@click.option(
    "--key",
    "key_uris",
    multiple=True,
    metavar="NAME=URI",
    help="Use a key in a KMS or HSM, e.g. bundles=awskms:alias/forge-bundles. Repeatable.",
)
@click.option(
    "--root-passphrases",
    is_flag=True,
    help="Prompt for a passphrase of its own for each root key; without a terminal: "
    "FORGE_KEY_PASSPHRASE_FILES=root-1=FILE:root-2=FILE.",
)
@click.option(
    "--new-root",
    is_flag=True,
    help="Create keys though the store is signed already: its devices refuse what they sign.",
)
@click.option(
    "--disposable",
    is_flag=True,
    help="Allow a folder that git ignores, and that 'git clean' deletes.",
)
@passphrase_option
@keys_option
@store_option
@project_option
@json_option
def init(
    root_keys: int,
    threshold: int,
    key_uris: tuple[str, ...],
    passphrase_file: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    root_passphrases: bool,
    new_root: bool,
    disposable: bool,
    as_json: bool,
) -> None:
    """Create all keys and the first signed root.json.

    The folder is ~/.config/forge/keys/NAME, NAME being the project's folder. Private keys are
    encrypted with the passphrase: 15 characters or more, and not the user's or the project's name
    (NIST SP 800-63B-4). Devices are provisioned with root.json.

    \b
    forge keys init
    FORGE_PASSPHRASE_FILE=~/.forge-passphrase forge keys init
    forge keys init --key bundles=awskms:alias/forge-bundles --key model=awskms:alias/forge-model
    """  # noqa: D301
    from forge.release.keys.folder_files import check_new
    from forge.release.keys.passphrases import passphrase_source
    from forge.release.keys.places import check_folder
    from forge.release.lifecycle.keys import init as make

    folder = keys_folder(project_dir, keys_dir)
    store = default_store(project_dir, store_url)
    check_new(folder)
    check_folder(folder, store, disposable=disposable)
    if store and not new_root:
        _check_unsigned(store, folder)
    own = own_passphrases()
    passphrase = passphrase_source(os.environ, passphrase_file, new_passphrase)()
    if root_passphrases:
        own = _enter_root_passphrases(own, root_keys)
    made = make(
        folder,
        passphrase=passphrase,
        now=dt.datetime.now(dt.UTC),
        root_keys=root_keys,
        threshold=threshold,
        store_url=store,
        uris=dict(_named(text) for text in key_uris),
        own=own,
        names=[folder.name, Path.cwd().name],
        disposable=disposable,
    )
    rows = [(entry.name, entry.role, entry.keyid[:12]) for entry in made.keys]
    if as_json:
        listed = [{"name": name, "role": role, "keyid": keyid} for name, role, keyid in rows]
        print_json({"folder": str(folder), "root": str(folder / "root.json"), "keys": listed})
        return
    print_table(("key", "role", "id"), rows)
    print_text(f"Provision devices with {folder}/root.json.")
    print_text("Move root-*.pem and targets.pem offline: publishing does not use them.")


@keys.command()
@click.option(
    "--fail-on",
    type=click.Choice(["expired", "warning"]),
    default="expired",
    show_default=True,
    help="Exit with 7 from this alarm on: when a role has expired, or when less than a quarter of "
    "its validity is left.",
)
@passphrase_option
@keys_option
@store_option
@project_option
@json_option
def status(
    fail_on: str,
    passphrase_file: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> int:
    """Show when the metadata of each role expires. Exits with 7 if any has expired.

    \b
    forge keys status
    forge keys status --fail-on warning   # for a daily job
    forge keys status --json              # for monitoring
    """  # noqa: D301
    from forge.errors import TrustError
    from forge.release.lifecycle.expiry import status as read_status

    objects = open_objects_of(project_dir, store_url)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, objects)
    found = read_status(objects, keyring, dt.datetime.now(dt.UTC))
    if as_json:
        print_json([row.model_dump(mode="json") for row in found])
    else:
        rows = [
            (row.role, str(row.version), f"{row.threshold} of {len(row.keys)}", row.expires,
             f"{row.days_left:.1f}", tinted(row.alarm))
            for row in found
        ]  # fmt: skip
        print_table(("role", "version", "keys", "expires", "days left", "alarm"), rows)
    if fail_on == "warning" and not any(row.role == "timestamp" for row in found):
        raise TrustError(
            "Nothing is published in this store, so no signature of it expires",
            hint="check --store or FORGE_STORE: a mistyped prefix is an empty store",
        )
    failing = {"expired", fail_on}
    return TrustError.exit_code if any(row.alarm in failing for row in found) else 0


@keys.command()
@click.option("--force", is_flag=True, help="Sign snapshot and timestamp even if they are not due.")
@passphrase_option
@keys_option
@store_option
@project_option
@json_option
def refresh(
    passphrase_file: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Sign metadata again that is past half of its validity. Run it daily.

    \b
    forge keys refresh
    forge keys refresh --keys ~/release-keys --store s3://bundles/prod
    """  # noqa: D301
    from forge.release.lifecycle.keys import refresh as refresh_metadata

    objects = open_objects_of(project_dir, store_url)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, objects)
    signed = refresh_metadata(objects, keyring, now=dt.datetime.now(dt.UTC), force=force)
    if as_json:
        print_json({"signed": signed})
    else:
        print_text("Signed new metadata." if signed else "No metadata is due.")


def _check_unsigned(store: str, folder: Path) -> None:
    """Refuse to make a second root for a store. One that cannot be reached is not checked."""
    from forge.errors import ConfigurationError, StoreError, UsageError
    from forge.release.repository.unverified_index import has_root
    from forge.store import open_objects

    try:
        signed = has_root(open_objects(store, environment=os.environ))
    except (StoreError, ConfigurationError) as error:
        print_text(f"Not checked whether the store {store} has keys: {error.what}", out=sys.stderr)
        return
    if signed:
        raise UsageError(
            f"The store {store} is signed with other keys",
            why="devices trust their root only, and would refuse releases of a new one",
            hint="where those keys are: forge keys backup FILE; here: "
            f"forge keys restore FILE --keys {folder}; for a new root all the same: --new-root",
        )


def _confirm_revocation(store_url: str, keyring: Keyring, role: str, *, yes: bool) -> None:
    """Show what a revocation ends, and ask."""
    from forge.errors import UsageError
    from forge.release.revocation import ended_versions
    from forge.store import open_store

    if role not in {"bundles", "model"}:
        why = f"devices stop accepting the old {role} key with every rotation"
        raise UsageError(f"--revoke is for bundles and model, not for {role}", why=why)
    ended = ended_versions(open_store(store_url, environment=os.environ), keyring.proof_keys())
    if not ended:
        return
    channels = sorted({f"{one.name} {channel}" for one in ended for channel in one.channels})
    confirm(
        f"Revoke the {role} key and end these {len(ended)} versions?",
        [
            "No device could install these versions any more:",
            *(f"  {one}" for one in ended),
            f"Channels without an installable version: {', '.join(channels) or 'none'}",
        ],
        yes=yes,
    )


def _enter_root_passphrases(own: OwnPassphrases, root_keys: int) -> OwnPassphrases:
    """Prompt for the passphrase of each root key that has no file of one."""
    names = [f"root-{number}" for number in range(1, root_keys + 1)]
    left = [name for name in names if name not in own.files]
    entered = {name: new_passphrase(f"New passphrase of {name}") for name in left}
    return dataclasses.replace(own, entered=entered)


def _named(text: str) -> tuple[str, str]:
    from forge.errors import UsageError

    name, equals, uri = text.partition("=")
    if not (name and equals and uri):
        hint = "use NAME=URI, for example --key bundles=awskms:alias/forge-bundles"
        raise UsageError(f"{text!r} is not a valid key", hint=hint)
    return name, uri


@keys.command()
@click.argument("role", type=click.Choice(_ROLES), metavar="ROLE")
@click.option(
    "--key", "uri", metavar="URI", help="Use a key in a KMS or HSM instead of a new file."
)
@click.option("--replace", metavar="NAME", help="Root key to replace, e.g. root-2.")
@click.option(
    "--revoke",
    is_flag=True,
    help="For bundles and model: stop accepting proofs signed with the old key. Lists the versions "
    "and channels that this ends, and asks.",
)
@yes_option
@passphrase_option
@keys_option
@store_option
@project_option
@json_option
def rotate(
    role: str,
    uri: str | None,
    replace: str | None,
    passphrase_file: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    revoke: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Replace the key of a role. Devices pick up the new key with the next update.

    \b
    forge keys rotate online
    forge keys rotate root --replace root-2
    forge keys rotate bundles --revoke
    forge keys rotate bundles --key awskms:alias/forge-bundles
    """  # noqa: D301
    from forge.release.lifecycle.keys import rotate as replace_key

    objects = open_objects_of(project_dir, store_url)
    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file, objects)
    now = dt.datetime.now(dt.UTC)
    if revoke:
        _confirm_revocation(place_of_store(project_dir, store_url), keyring, role, yes=yes)
    # click.Choice has checked that it is one of the roles.
    name = replace_key(objects, keyring, role, now=now, replace=replace, revoke=revoke, uri=uri)  # type: ignore[arg-type]
    if as_json:
        print_json({"role": role, "key": name})
    else:
        print_text(f"Replaced the {role} key with {name}.")
