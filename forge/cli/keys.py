"""`forge keys init|status|refresh|rotate`."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import (
    json_option,
    keys_option,
    open_project,
    place_of_store,
    print_json,
    project_option,
    store_option,
)
from forge.cli.terminal import print_table, print_text, tinted

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring
    from forge.store import Objects

__all__ = ["keys", "keys_folder", "open_keyring"]

_ROLES = ("root", "targets", "bundles", "channels", "online", "model")
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the passphrase. Default: FORGE_PASSPHRASE_FILE, "
    "FORGE_PASSPHRASE, or a prompt.",
)


def keys_folder(project_dir: Path | None, keys_dir: Path | None) -> Path:
    """Return `--keys`, else `.forge/keys` of the project."""
    return keys_dir or open_project(project_dir).work / "keys"


def open_keyring(folder: Path, passphrase_file: Path | None) -> Keyring:
    """Open the keys in `folder`; the passphrase is read when it is first needed."""
    from forge.release.keys.key_files import passphrase_source
    from forge.release.keys.keyring import Keyring

    return Keyring(folder, passphrase_source(os.environ, passphrase_file, _prompt))


def _objects(project_dir: Path | None, store_url: str | None) -> Objects:
    from forge.store import open_objects

    return open_objects(place_of_store(project_dir, store_url), environment=os.environ)


def _prompt() -> str:
    return _prompt_hidden("Passphrase of the keys")


def _new_passphrase() -> str:
    return _prompt_hidden("New passphrase", confirmation_prompt=True)


def _prompt_hidden(text: str, *, confirmation_prompt: bool = False) -> str:
    from forge.errors import UsageError

    try:
        return str(
            click.prompt(text, hide_input=True, confirmation_prompt=confirmation_prompt, err=True)
        )
    except click.Abort as stopped:
        if not isinstance(stopped.__context__, EOFError):
            raise  # Ctrl-C
        hint = "use --passphrase-file FILE, or set FORGE_PASSPHRASE_FILE"
        why = "standard input is closed, so Forge cannot prompt for it"
        raise UsageError("No passphrase for the keys", why=why, hint=hint) from None


def _default_store(project_dir: Path | None, store_url: str | None) -> str | None:
    """Return the store that must not contain the keys; outside a project there is no default."""
    from forge.errors import ConfigurationError

    try:
        return place_of_store(project_dir, store_url)
    except ConfigurationError:
        if project_dir is not None:
            raise
        return None


@click.group()
def keys() -> None:
    """Create, check, rotate and refresh the signing keys.

    \b
    forge keys init --keys ~/.config/forge/keys
    forge keys status --json
    forge keys refresh
    """  # noqa: D301


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
@_passphrase_option
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
    as_json: bool,
) -> None:
    """Create all keys and the first signed root.json.

    Private keys are encrypted with the passphrase. Devices are provisioned with root.json.

    \b
    forge keys init --keys ~/.config/forge/keys
    FORGE_PASSPHRASE_FILE=~/.forge-passphrase forge keys init
    forge keys init --key bundles=awskms:alias/forge-bundles --key model=awskms:alias/forge-model
    """  # noqa: D301
    from forge.release.keys.key_files import passphrase_source
    from forge.release.lifecycle.keys import init as make

    folder = keys_folder(project_dir, keys_dir)
    made = make(
        folder,
        passphrase=passphrase_source(os.environ, passphrase_file, _new_passphrase)(),
        now=dt.datetime.now(dt.UTC),
        root_keys=root_keys,
        threshold=threshold,
        store_url=_default_store(project_dir, store_url),
        uris=dict(_named(text) for text in key_uris),
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
@_passphrase_option
@keys_option
@store_option
@project_option
@json_option
def status(
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
    forge keys status --json   # for monitoring
    """  # noqa: D301
    from forge.errors import TrustError
    from forge.release.lifecycle.expiry import status as read_status

    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    found = read_status(_objects(project_dir, store_url), keyring, dt.datetime.now(dt.UTC))
    if as_json:
        print_json([row.model_dump(mode="json") for row in found])
    else:
        rows = [
            (row.role, str(row.version), f"{row.threshold} of {len(row.keys)}", row.expires,
             f"{row.days_left:.1f}", tinted(row.alarm))
            for row in found
        ]  # fmt: skip
        print_table(("role", "version", "keys", "expires", "days left", "alarm"), rows)
    return TrustError.exit_code if any(row.alarm == "expired" for row in found) else 0


@keys.command()
@click.option("--force", is_flag=True, help="Sign snapshot and timestamp even if they are not due.")
@_passphrase_option
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
    forge keys refresh --keys ~/.config/forge/keys --store s3://bundles/prod
    """  # noqa: D301
    from forge.release.lifecycle.keys import refresh as refresh_metadata

    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    objects = _objects(project_dir, store_url)
    signed = refresh_metadata(objects, keyring, now=dt.datetime.now(dt.UTC), force=force)
    if as_json:
        print_json({"signed": signed})
    else:
        print_text("Signed new metadata." if signed else "No metadata is due.")


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
@click.option("--revoke", is_flag=True, help="Stop accepting proofs signed with the old key.")
@_passphrase_option
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
    as_json: bool,
) -> None:
    """Replace the key of a role. Devices pick up the new key with the next update.

    \b
    forge keys rotate online
    forge keys rotate root --replace root-2
    forge keys rotate bundles --key awskms:alias/forge-bundles
    """  # noqa: D301
    from forge.release.lifecycle.keys import rotate as replace_key

    keyring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    objects = _objects(project_dir, store_url)
    now = dt.datetime.now(dt.UTC)
    # click.Choice has checked that it is one of the roles.
    name = replace_key(objects, keyring, role, now=now, replace=replace, revoke=revoke, uri=uri)  # type: ignore[arg-type]
    if as_json:
        print_json({"role": role, "key": name})
    else:
        print_text(f"Replaced the {role} key with {name}.")
