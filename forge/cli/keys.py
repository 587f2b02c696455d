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
    print_table,
    project_option,
    store_option,
)

if TYPE_CHECKING:
    from forge.release.keyring import Keyring
    from forge.store import Objects

__all__ = ["keys", "keys_folder", "open_keyring"]

_ROLES = ("root", "targets", "bundles", "channels", "online", "model")
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the passphrase. Else FORGE_PASSPHRASE_FILE, FORGE_PASSPHRASE, "
    "or a prompt.",
)


def keys_folder(project_dir: Path | None, keys_dir: Path | None) -> Path:
    """`--keys`, else `.forge/keys` of the project."""
    return keys_dir or open_project(project_dir).work / "keys"


def open_keyring(folder: Path, passphrase_file: Path | None) -> Keyring:
    """The keys in `folder`; the passphrase is asked for when it is first needed."""
    from forge.release.keyring import Keyring
    from forge.release.private_keys import passphrase_source

    return Keyring(folder, passphrase_source(os.environ, passphrase_file, _prompt))


def _objects(project_dir: Path | None, store_url: str | None) -> Objects:
    from forge.store import open_objects

    return open_objects(place_of_store(project_dir, store_url), environment=os.environ)


def _prompt() -> str:
    return _asked("Passphrase of the keys")


def _new_passphrase() -> str:
    return _asked("New passphrase", confirmation_prompt=True)


def _asked(text: str, *, confirmation_prompt: bool = False) -> str:
    from forge.errors import UsageError

    try:
        return str(
            click.prompt(text, hide_input=True, confirmation_prompt=confirmation_prompt, err=True)
        )
    except click.Abort as stopped:
        if not isinstance(stopped.__context__, EOFError):
            raise  # Ctrl-C
        hint = "give --passphrase-file FILE, or set FORGE_PASSPHRASE_FILE"
        why = "standard input has ended, so nobody can be asked"
        raise UsageError("No passphrase for the keys", why=why, hint=hint) from None


def _default_store(project_dir: Path | None, store_url: str | None) -> str | None:
    """The store that keys must not lie in; outside a project there is no default one."""
    from forge.errors import ConfigurationError

    try:
        return place_of_store(project_dir, store_url)
    except ConfigurationError:
        if project_dir is not None:
            raise
        return None


@click.group()
def keys() -> None:
    """Make, check, rotate and refresh the signing keys.

    \b
    forge keys init --keys ~/.config/forge/keys
    forge keys status --json
    forge keys refresh
    """  # noqa: D301


@keys.command()
@click.option("--root-keys", type=int, default=3, show_default=True, help="How many root keys.")
@click.option(
    "--threshold",
    type=int,
    default=2,
    show_default=True,
    help="How many root keys must sign a root.",
)
@click.option(
    "--key",
    "elsewhere",
    multiple=True,
    metavar="NAME=URI",
    help="A key that a KMS or HSM holds, for example bundles=awskms:alias/forge-bundles.",
)
@_passphrase_option
@keys_option
@store_option
@project_option
@json_option
def init(
    root_keys: int,
    threshold: int,
    elsewhere: tuple[str, ...],
    passphrase_file: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Make every key, encrypted, and the first signed root.json, which devices trust.

    \b
    forge keys init --keys ~/.config/forge/keys
    FORGE_PASSPHRASE_FILE=~/.forge-passphrase forge keys init
    forge keys init --key bundles=awskms:alias/forge-bundles --key model=awskms:alias/forge-model
    """  # noqa: D301
    from forge.release.keys import init as make
    from forge.release.private_keys import passphrase_source

    folder = keys_folder(project_dir, keys_dir)
    made = make(
        folder,
        passphrase=passphrase_source(os.environ, passphrase_file, _new_passphrase)(),
        now=dt.datetime.now(dt.UTC),
        root_keys=root_keys,
        threshold=threshold,
        store_url=_default_store(project_dir, store_url),
        uris=dict(_named(text) for text in elsewhere),
    )
    rows = [(entry.name, entry.role, entry.keyid[:12]) for entry in made.keys]
    if as_json:
        listed = [{"name": name, "role": role, "keyid": keyid} for name, role, keyid in rows]
        print_json({"folder": str(folder), "root": str(folder / "root.json"), "keys": listed})
        return
    print_table(("key", "role", "id"), rows)
    click.echo(f"Devices are provisioned with {folder}/root.json.")
    click.echo("Move root-*.pem and targets.pem offline; publishing needs none of them.")


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
    """Show when each role must be signed again; exit code 7 when a device would refuse already.

    \b
    forge keys status
    forge keys status --json   # for an alarm
    """  # noqa: D301
    from forge.errors import TrustError
    from forge.release.status import status as read_status

    ring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    found = read_status(_objects(project_dir, store_url), ring, dt.datetime.now(dt.UTC))
    if as_json:
        print_json([row.model_dump(mode="json") for row in found])
    else:
        rows = [
            (row.role, str(row.version), f"{row.threshold} of {len(row.keys)}", row.expires,
             f"{row.days_left:.1f}", row.alarm)
            for row in found
        ]  # fmt: skip
        print_table(("role", "version", "keys", "expires", "days left", "alarm"), rows)
    return TrustError.exit_code if any(row.alarm == "expired" for row in found) else 0


@keys.command()
@click.option("--force", is_flag=True, help="Sign snapshot and timestamp even if they are fresh.")
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
    """Sign anew what is past half its life; run it daily.

    \b
    forge keys refresh
    forge keys refresh --keys ~/.config/forge/keys --store s3://bundles/prod
    """  # noqa: D301
    from forge.release.keys import refresh as sign_anew

    ring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    objects = _objects(project_dir, store_url)
    signed = sign_anew(objects, ring, now=dt.datetime.now(dt.UTC), force=force)
    if as_json:
        print_json({"signed": signed})
    else:
        click.echo("signed anew" if signed else "nothing is due")


def _named(text: str) -> tuple[str, str]:
    from forge.errors import UsageError

    name, equals, uri = text.partition("=")
    if not (name and equals and uri):
        hint = "--key bundles=awskms:alias/forge-bundles"
        raise UsageError(f"{text!r} is not NAME=URI", hint=hint)
    return name, uri


@keys.command()
@click.argument("role", type=click.Choice(_ROLES))
@click.option("--key", "uri", metavar="URI", help="A key that a KMS or HSM holds, not a new file.")
@click.option("--replace", metavar="NAME", help="Which root key, for example root-2.")
@click.option("--revoke", is_flag=True, help="Do not believe proofs of the old key any more.")
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
    """Replace a role's key; devices follow by themselves.

    \b
    forge keys rotate online
    forge keys rotate root --replace root-2
    forge keys rotate bundles --key awskms:alias/forge-bundles
    """  # noqa: D301
    from forge.release.keys import rotate as replace_key

    ring = open_keyring(keys_folder(project_dir, keys_dir), passphrase_file)
    objects = _objects(project_dir, store_url)
    now = dt.datetime.now(dt.UTC)
    # click.Choice has checked that it is one of the roles.
    name = replace_key(objects, ring, role, now=now, replace=replace, revoke=revoke, uri=uri)  # type: ignore[arg-type]
    if as_json:
        print_json({"role": role, "key": name})
    else:
        click.echo(f"{role}: new key {name}")
