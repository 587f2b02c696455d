"""What GitHub Actions shows and passes on: the files that it names in the environment.

GITHUB_STEP_SUMMARY takes the Markdown of the job summary, GITHUB_OUTPUT the outputs of the step.

Only the environment decides, as in `forge.runners.view.choose`: elsewhere nothing is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from forge.markdown import escaped, table

__all__ = ["append", "append_text", "set_output"]

_MAX_BYTES: Final = 1024 * 1024  # GitHub drops the whole summary of a step above this


def append(
    environment: Mapping[str, str],
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> None:
    """Add a table to the job summary, if there is one. Never fails a command that succeeded."""
    append_text(environment, f"### {escaped(title)}\n\n{table(header, rows)}")


def append_text(environment: Mapping[str, str], markdown: str) -> None:
    """Add Markdown, whose texts are escaped, to the job summary. Never fails, as `append`.

    What does not fit into the summary is left out whole.
    """
    name = environment.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    text = f"{markdown}\n".encode()
    with contextlib.suppress(OSError), Path(name).open("ab") as file:
        if file.tell() + len(text) <= _MAX_BYTES:
            file.write(text)


def set_output(environment: Mapping[str, str], name: str, value: str) -> None:
    """Set an output of the step of GitHub Actions that runs this command. Never fails, as `append`.

    Args:
        environment: of this process.
        name: of the output.
        value: one line, since a line break would begin another output.
    """
    file_name = environment.get("GITHUB_OUTPUT")
    if not file_name:
        return
    line = " ".join(f"{name}={value}".splitlines())
    with contextlib.suppress(OSError), Path(file_name).open("ab") as file:
        file.write(f"{line}\n".encode())
