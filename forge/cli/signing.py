"""Check for signing keys and passphrase before a run starts, not after its long steps."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from forge.errors import NoRunnerError, UsageError
from forge.plan import PlannedStep, Status
from forge.steps import Step

if TYPE_CHECKING:
    from forge.release.keys.keyring import Keyring

__all__ = ["refuse_unsigned", "signing_environment", "signing_only"]

_VARIABLE: Final = "FORGE_PASSPHRASE"
_FILE: Final = "FORGE_PASSPHRASE_FILE"
_OWN_FILES: Final = "FORGE_KEY_PASSPHRASE_FILES"


def signing_environment(
    environment: Mapping[str, str],
    keys: Path,
    rows: Callable[[], Sequence[PlannedStep]],
    published: Callable[[], bool],
    *,
    prompt: Callable[[], str] | None = None,
) -> dict[str, str]:
    """Return the environment for the steps of a run, with a passphrase if a step will sign.

    Args:
        environment: of this process.
        keys: folder of the signing keys.
        rows: returns the resolved plan; called only if keys or passphrase are missing.
        published: returns whether the store is signed; called only if the keys are missing.
        prompt: reads the passphrase. Default: prompt on the terminal, if there is one.

    Raises:
        UsageError: a step will sign, and the keys or their passphrase are missing; other users can
            open their files.
        ConfigurationError: keys.json is not valid.
    """
    from forge.release.keys.keyring import Keyring
    from forge.release.keys.passphrases import OwnPassphrases
    from forge.release.keys.places import missing_keys

    given = dict(environment)
    if given.get(_FILE):  # steps run in another folder
        given[_FILE] = str(Path(given[_FILE]).expanduser().absolute())
    own = OwnPassphrases.read(environment)
    if own.files:
        given[_OWN_FILES] = own.variable()
    has_keys, has_passphrase = (keys / "keys.json").is_file(), bool(_known(given))
    if has_keys:
        _check_private(Keyring(keys, str), [given.get(_FILE, ""), *map(str, own.files.values())])
    if has_keys and (has_passphrase or not Keyring(keys, str).asks_for_passphrase()):
        return given
    signing = [row for row in rows() if _signs(row)]
    if not signing:
        return given
    if not has_keys:
        raise missing_keys(keys, published=published())
    read_passphrase = prompt or (_prompt if sys.stdin.isatty() else None)
    if read_passphrase is not None:
        return given | {_VARIABLE: read_passphrase()}
    # An effect may have nothing to sign; if it has, it reports the missing passphrase itself.
    certain = [row for row in signing if not row.step.effect]
    if certain:
        raise UsageError(
            "No passphrase for the keys",
            why=f"step {certain[0].step.id} signs its result",
            hint=f"set {_FILE} or {_VARIABLE}, or run the command in a terminal",
        )
    return given


def signing_only(rows: Sequence[PlannedStep], chosen: Mapping[str, bool]) -> dict[str, bool]:
    """Return which steps may run if only those that sign may: no other one runs where the keys are.

    Args:
        rows: the resolved plan.
        chosen: which steps were chosen.

    Raises:
        NoRunnerError: the result of another chosen step is not in the store.
    """
    for row in rows:
        if chosen[row.step.id] and not _has_keys(row.step) and row.status is not Status.HIT:
            raise _not_built(row.step, row.reason)
    return {row.step.id: chosen[row.step.id] and _has_keys(row.step) for row in rows}


def refuse_unsigned(
    outcomes: Sequence[tuple[Step, Status, str]], chosen: Mapping[str, bool]
) -> None:
    """Raise NoRunnerError if a signing step did not run: what it signs was deleted during the run.

    Args:
        outcomes: each step with its status and the reason.
        chosen: which steps could run.
    """
    for step, status, reason in outcomes:
        if chosen[step.id] and status is Status.SKIPPED:
            raise _not_built(step, reason)


def _not_built(step: Step, reason: str) -> NoRunnerError:
    return NoRunnerError(
        f"Step {step.id} has no stored result: {reason}",
        why="--sign-only signs and publishes what is stored and runs no other step",
        hint=f"build it {_where(step)}, where no keys are, with this store: --only '{step.id}'",
    )


def _where(step: Step) -> str:
    """Return which job should have made a result."""
    labels = f" with the labels {', '.join(step.labels)}" if step.labels else ""
    return f"in a job on {step.platform or 'any platform'}{labels}"


def _check_private(keyring: Keyring, passphrases: Sequence[str]) -> None:
    """Refuse files that other users can open now, and not when the first step signs."""
    from forge.release.keys.model import check_private

    for path in [*keyring.publishing_files(), *map(Path, filter(None, passphrases))]:
        with contextlib.suppress(FileNotFoundError):  # reading it reports that
            check_private(path, path.stat())


def _known(environment: Mapping[str, str]) -> str:
    return environment.get(_FILE) or environment.get(_VARIABLE) or ""


def _signs(row: PlannedStep) -> bool:
    return row.status not in {Status.HIT, Status.SKIPPED} and _has_keys(row.step)


def _has_keys(step: Step) -> bool:
    return _VARIABLE in step.secrets


def _prompt() -> str:
    return str(click.prompt("Passphrase of the signing keys", hide_input=True, err=True))
