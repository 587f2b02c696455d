"""Find the passphrase of the signing keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from forge.errors import UsageError
from forge.release.keys.model import read_capped

__all__ = ["passphrase_source"]


def passphrase_source(
    environment: Mapping[str, str],
    file: Path | None = None,
    prompt: Callable[[], str] | None = None,
) -> Callable[[], str]:
    """Return a function that reads the passphrase from `file`, the environment or `prompt`.

    The passphrase is never taken from the command line, which other users can read.

    Args:
        environment: searched for FORGE_PASSPHRASE_FILE and FORGE_PASSPHRASE.
        file: a file whose first line is the passphrase; takes precedence over `environment`.
        prompt: asks the user; None where there is no terminal.

    Returns:
        A function that returns the passphrase. It raises UsageError if there is none or its file
        cannot be read.
    """

    def ask() -> str:
        path = file or environment.get("FORGE_PASSPHRASE_FILE")
        if path:
            text = read_capped(Path(path)).decode(errors="replace").split("\n", 1)[0].rstrip("\r")
        else:
            text = environment.get("FORGE_PASSPHRASE", "") or (prompt() if prompt else "")
        if not text:
            raise UsageError(
                "No passphrase for the keys",
                hint="set FORGE_PASSPHRASE_FILE or FORGE_PASSPHRASE, or run in a terminal",
            )
        return text

    return ask
