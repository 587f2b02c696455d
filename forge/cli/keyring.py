"""Find and open the keys of a project, and prompt for passphrases."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import open_project, place_of_store
from forge.cli.terminal import print_text

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import OwnPassphrases
    from forge.store import Objects

__all__ = [
    "default_store",
    "keys_folder",
    "new_passphrase",
    "open_keyring",
    "open_objects_of",
    "own_passphrases",
    "passphrase_option",
    "prompt_hidden",
    "say_where_keys_are",
]

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the passphrase. Default: FORGE_PASSPHRASE_FILE, "
    "FORGE_PASSPHRASE, or a prompt.",
)


def keys_folder(project_dir: Path | None, keys_dir: Path | None) -> Path:
    """Return `--keys`, else the folder of the project, and say if it is in the checkout."""
    if keys_dir:
        return keys_dir
    from forge.release.keys.places import find_folder

    place = find_folder(open_project(project_dir).root, os.environ)
    if place.in_checkout:
        say_where_keys_are(place.folder)
    return place.folder


def say_where_keys_are(folder: Path) -> None:
    """Print how to move keys out of the checkout."""
    print_text(
        f"The keys are in the checkout, in {_relative(folder)}, where 'git clean' deletes them. "
        "To move them: forge keys move",
        out=sys.stderr,
    )


def _relative(folder: Path) -> Path:
    """Return a folder as a user in the project sees it; a long path cannot be wrapped."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def open_keyring(folder: Path, passphrase_file: Path | None, objects: Objects) -> Keyring:
    """Open the keys in `folder`; passphrases are read when they are first needed.

    Raises:
        UsageError: there are none; the hint depends on whether `objects` are signed already.
        ConfigurationError: keys.json is not valid.
    """
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import passphrase_source
    from forge.release.keys.places import missing_keys
    from forge.release.repository.unverified_index import has_root

    if not (folder / "keys.json").is_file():
        raise missing_keys(folder, published=has_root(objects))
    source = passphrase_source(os.environ, passphrase_file, _prompt)
    return Keyring(folder, source, own_passphrases())


def own_passphrases() -> OwnPassphrases:
    """Return the passphrases of single keys: FORGE_KEY_PASSPHRASE_FILES, else a prompt."""
    from forge.release.keys.passphrases import OwnPassphrases

    return OwnPassphrases.read(os.environ, _prompt_own if sys.stdin.isatty() else None)


def open_objects_of(project_dir: Path | None, store_url: str | None) -> Objects:
    """Open the objects of `--store`, else of `artifacts/` of the project."""
    from forge.store import open_objects

    return open_objects(place_of_store(project_dir, store_url), environment=os.environ)


def default_store(project_dir: Path | None, store_url: str | None) -> str | None:
    """Return the store that must not contain the keys; outside a project there is no default."""
    from forge.errors import ConfigurationError

    try:
        return place_of_store(project_dir, store_url)
    except ConfigurationError:
        if project_dir is not None:
            raise
        return None


def new_passphrase(text: str = "New passphrase") -> str:
    """Prompt twice for a new passphrase."""
    return prompt_hidden(text, confirmation_prompt=True)


def _prompt() -> str:
    return prompt_hidden("Passphrase of the keys")


def _prompt_own(name: str) -> str:
    return prompt_hidden(f"Passphrase of the key {name}")


def prompt_hidden(text: str, *, confirmation_prompt: bool = False) -> str:
    """Prompt without echo. Raises UsageError where standard input is closed."""
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
