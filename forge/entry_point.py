"""Run the command of a step: print errors to standard error and return their exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from forge.errors import ForgeError, StoreError

__all__ = ["exit_code"]


def exit_code(
    command: Callable[[], object], *, disk: str = "", disk_code: int = StoreError.exit_code
) -> int:
    """Run `command` and return the exit code.

    Args:
        command: the command.
        disk: message for a disk failure; empty: only the error.
        disk_code: exit code of a disk failure.
    """
    try:
        command()
    except ForgeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"Error: {disk}: {error}\n" if disk else f"Error: {error}\n")
        return disk_code
    return 0
