"""`forge keys move|backup|restore|passphrase`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from forge.cli.common import (
    json_option,
    keys_option,
    open_project,
    print_json,
    project_option,
    store_option,
)
from forge.cli.keyring import (
    default_store,
    keys_folder,
    new_passphrase,
    own_passphrases,
    passphrase_option,
)
from forge.cli.terminal import print_text

__all__ = ["backup", "move", "passphrase", "restore"]


@click.command()
@click.option(
    "--to",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder. Default: ~/.config/forge/keys/NAME, NAME being the project's folder.",
)
@keys_option
@store_option
@project_option
@json_option
def move(
    target: Path | None,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Move the keys out of the checkout. Never overwrites; safe to repeat.

    Copies the folder, syncs and compares the copy, and only then deletes the old one.

    \b
    forge keys move
    forge keys move --to /media/stick/keys
    """  # noqa: D301
    from forge.errors import UsageError
    from forge.release.keys.move import move_keys
    from forge.release.keys.places import default_folder

    project = open_project(project_dir)
    source = keys_dir or project.work / "keys"
    folder = target or default_folder(project.root, os.environ)
    if source.resolve() == folder.resolve():
        raise UsageError(f"The keys are in {folder} already", hint="name another folder with --to")
    moved = move_keys(source, folder, default_store(project_dir, store_url))
    if as_json:
        print_json({"from": str(source), "to": str(folder), "moved": moved})
        return
    print_text(f"Moved the keys to {folder}" if moved else f"The keys are in {folder} already.")
    if target:
        print_text(f"To use them: export FORGE_KEYS={folder}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@keys_option
@store_option
@project_option
@json_option
def backup(
    file: Path,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Write all keys and their metadata to one new file, for `forge keys restore`.

    Private keys stay encrypted with their passphrases, which are not in the file.

    \b
    forge keys backup /media/stick/keys.tar
    """  # noqa: D301
    from forge.release.keys.backup import backup_keys

    folder = keys_folder(project_dir, keys_dir)
    left_out = backup_keys(folder, file, default_store(project_dir, store_url))
    if as_json:
        print_json({"folder": str(folder), "file": str(file), "left_out": left_out})
        return
    print_text(f"Wrote the keys in {folder} to {file}")
    if left_out:
        print_text(f"Not in it, because they are not in the folder: {', '.join(left_out)}")
    print_text("Keep the passphrase elsewhere: both together sign releases.")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@keys_option
@store_option
@project_option
@json_option
def restore(
    file: Path,
    keys_dir: Path | None,
    store_url: str | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Create the keys folder from a file of `forge keys backup`. Never overwrites.

    \b
    forge keys restore /media/stick/keys.tar
    """  # noqa: D301
    from forge.release.keys.backup import restore_keys

    folder = keys_folder(project_dir, keys_dir)
    made = restore_keys(file, folder, default_store(project_dir, store_url))
    names = [entry.name for entry in made.keys]
    if as_json:
        print_json({"folder": str(folder), "keys": names})
        return
    print_text(f"Restored the keys in {folder}: {', '.join(names)}")
    print_text("Next: forge keys status")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the new passphrase. Default: a prompt.",
)
@passphrase_option
@keys_option
@project_option
@json_option
def passphrase(
    names: tuple[str, ...],
    new_passphrase_file: Path | None,
    passphrase_file: Path | None,
    keys_dir: Path | None,
    project_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Change the passphrase of key files: of all, or of those named.

    Also encrypts files of earlier versions with scrypt. Files that have the new passphrase already
    are left as they are, so that it is safe to repeat.

    \b
    forge keys passphrase
    forge keys passphrase root-2      # a passphrase of its own, for who holds this key
    """  # noqa: D301
    from forge.cli.keyring import prompt_hidden
    from forge.release.keys.change import change_passphrase
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import passphrase_source

    folder = keys_folder(project_dir, keys_dir)
    old = passphrase_source(
        os.environ, passphrase_file, lambda: prompt_hidden("Present passphrase")
    )
    keyring = Keyring(folder, old, own_passphrases())
    new = passphrase_source({}, new_passphrase_file, new_passphrase)()
    changed = change_passphrase(keyring, names, new, [folder.name])
    if as_json:
        print_json({"folder": str(folder), "changed": changed})
    else:
        print_text(f"Changed the passphrase of {', '.join(changed) or 'no key: all have it'}")
