"""Keys and passphrase are asked for before the long work, not after it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from forge.errors import UsageError
from forge.plan import Planned, Status

__all__ = ["signing_environment"]

_VARIABLE: Final = "FORGE_PASSPHRASE"
_FILE: Final = "FORGE_PASSPHRASE_FILE"


def signing_environment(
    environment: Mapping[str, str],
    keys: Path,
    rows: Callable[[], Sequence[Planned]],
    prompt: Callable[[], str] | None = None,
) -> dict[str, str]:
    """The environment for the steps of a run, with a passphrase where one will be needed.

    Args:
        environment: of this process.
        keys: folder of the signing keys.
        rows: the resolved plan; asked for only where something is missing.
        prompt: asks a person; None: the terminal's, if there is one.

    Raises:
        UsageError: a step will sign, and there are no keys or no passphrase for them.
        ConfigurationError: keys.json is not valid.
    """
    from forge.release.keyring import Keyring

    given = dict(environment)
    if given.get(_FILE):
        given[_FILE] = str(Path(given[_FILE]).expanduser().absolute())  # steps run elsewhere
    has_keys, has_passphrase = (keys / "keys.json").is_file(), bool(_known(given))
    if has_keys and (has_passphrase or not Keyring(keys, str).asks_for_passphrase()):
        return given
    signing = [row for row in rows() if _signs(row)]
    if not signing:
        return given
    if not has_keys:
        raise UsageError(
            f"There are no signing keys in {keys}",
            why=f"step {signing[0].step.id} needs them",
            hint=f"forge keys init --keys {keys}",
        )
    ask = prompt or (_ask if sys.stdin.isatty() else None)
    if ask is not None:
        return given | {_VARIABLE: ask()}
    # An effect may find that there is nothing to sign; it says itself what it lacks.
    certain = [row for row in signing if not row.step.effect]
    if certain:
        raise UsageError(
            "No passphrase for the keys",
            why=f"step {certain[0].step.id} will sign",
            hint=f"set {_FILE} or {_VARIABLE}, or run it in a terminal",
        )
    return given


def _known(environment: Mapping[str, str]) -> str:
    return environment.get(_FILE) or environment.get(_VARIABLE) or ""


def _signs(row: Planned) -> bool:
    return row.status not in {Status.HIT, Status.SKIPPED} and _VARIABLE in row.step.secrets


def _ask() -> str:
    return str(click.prompt("Passphrase of the signing keys", hide_input=True, err=True))
