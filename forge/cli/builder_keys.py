"""`forge keys builder new|show`: the keys that sign results of steps."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from forge.cli.common import json_option, print_json
from forge.cli.terminal import print_text

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = ["builder"]

_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the passphrase. Default: FORGE_BUILDER_PASSPHRASE_FILE, "
    "FORGE_BUILDER_PASSPHRASE, or a prompt.",
)


@click.group()
def builder() -> None:
    """Create and show the keys of trusted builders, which sign results in a shared store.

    \b
    forge keys builder new ~/builder.pem
    FORGE_BUILDER_KEY=~/builder.pem forge run release --store s3://bucket/prefix
    """  # noqa: D301


@builder.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_passphrase_option
@json_option
def new(file: Path, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Create a builder's key in a new file, and print its entry for forge.yaml.

    \b
    forge keys builder new ~/builder.pem
    """  # noqa: D301
    from forge.cli.keyring import new_passphrase
    from forge.release.keys.builder_key import builder_passphrase, new_builder_key

    passphrase = builder_passphrase(os.environ, passphrase_file, new_passphrase)()
    _show(new_builder_key(file, passphrase), file.stem, as_json=as_json)


@builder.command()
@click.argument("key", metavar="FILE|URI")
@_passphrase_option
@json_option
def show(key: str, passphrase_file: Path | None, *, as_json: bool) -> None:
    """Print the public key of a file, or of a key in a KMS or HSM, as an entry for forge.yaml.

    \b
    forge keys builder show ~/builder.pem
    forge keys builder show awskms:alias/forge-builder
    """  # noqa: D301
    from forge.cli.keyring import prompt_hidden
    from forge.release.keys.builder_key import builder_passphrase, open_builder_key

    def ask() -> str:
        return prompt_hidden("Passphrase of the builder's key")

    signer = open_builder_key(key, builder_passphrase(os.environ, passphrase_file, ask))
    name = Path(key).stem if ":" not in key else "builder"
    _show(signer.public_key, name, as_json=as_json)


def _show(key: Key, name: str, *, as_json: bool) -> None:
    from forge.trust.builders import public_pem

    pem = public_pem(key).strip()
    if as_json:
        print_json({"keyid": key.keyid, "public": pem})
        return
    lines = [
        "builders:",
        f"  {_plain(name)}:",
        '    steps: ["*"]  # those it may make',
        "    keys:",
    ]
    lines += ["      - |", *(f"        {line}" for line in pem.splitlines())]
    click.echo("\n".join(lines))
    print_text("Add this to forge.yaml of the project, and commit it.", out=sys.stderr)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", name.lower()).strip("-_")[:40] or "builder"
