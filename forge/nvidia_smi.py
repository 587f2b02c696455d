"""Find nvidia-smi, and tell the rows that it prints from everything else that it says.

Its exit code says little about its rows: 14 is a warning after complete rows, 15 and 255 mean that
one GPU is lost while the rows of the others are good. So a row counts by its form, with any
exit code. Any other line is a note.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

__all__ = [
    "FOLDERS",
    "NAME",
    "ROWS_ARE_GOOD",
    "Row",
    "SmiAnswer",
    "is_gpu_row",
    "is_unknown",
    "is_unsupported",
    "known",
    "libraries",
    "locate",
    "read_rows",
]

NAME: Final = "nvidia-smi"
# Where it is if not on PATH: WSL2, GKE's containers, GKE's nodes, NixOS.
FOLDERS: Final = (
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/bin",
    "/home/kubernetes/bin/nvidia",
    "/home/kubernetes/bin/nvidia/bin",
    "/run/opengl-driver/bin",
    "/run/current-system/sw/bin",
)
# Exit codes with which the rows are good: a warning, and another GPU that is lost.
ROWS_ARE_GOOD: Final = (14, 15)
Row: TypeAlias = tuple[str, ...]

_UNSUPPORTED: Final = frozenset({"N/A", "[N/A]", "Not Supported", "[Not Supported]"})
_BRACKETS: Final = re.compile(r"\[.*\]")
_ERRORS: Final = frozenset({"ERR!", "Unknown Error", "Unknown", "Insufficient Permissions"})
_VERSION: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")
_LEAST_CELLS: Final = 3
_MAX_NOTE: Final = 300
_MEANINGS: Final[Mapping[int, str]] = {
    14: "a warning, the rows are good",
    15: "the rows of the other GPUs are good",
    18: "the driver was updated: reboot, or load its kernel modules again",
}


@dataclass(frozen=True, slots=True)
class SmiAnswer:
    """What one call of nvidia-smi said.

    Attributes:
        rows: the cells of each row, as printed.
        note: what else it said, with the exit code; or why there are no rows. Empty: nothing.
    """

    rows: tuple[Row, ...] = ()
    note: str = ""


def locate(folders: Sequence[str] = FOLDERS) -> str | None:
    """Return the path of nvidia-smi: on PATH, else in the known folders; None if it is nowhere."""
    return shutil.which(NAME) or next(
        (found for folder in folders if (found := shutil.which(NAME, path=folder))), None
    )


def libraries(program: str) -> str | None:
    """Return the folder of the driver's libraries next to a program that is not on PATH.

    GKE mounts both below one folder that no linker knows.
    """
    folder = Path(program).parent.parent / "lib64"
    return str(folder) if "nvidia" in folder.parts and folder.is_dir() else None


def read_rows(
    output: str, errors: str, code: int, problem: str, is_row: Callable[[Row], bool]
) -> SmiAnswer:
    """Tell the rows of an answer from the rest. Pure.

    Args:
        output: standard output, CSV.
        errors: standard error; nothing in it is a row.
        code: exit code.
        problem: why there is no exit code, such as a timeout; empty otherwise.
        is_row: whether cells are a row of this query.
    """
    rows, rest = [], []
    for line in output.splitlines():
        cells = _cells(line)
        if is_row(cells):
            rows.append(cells)
        elif line.strip():
            rest.append(line.strip())
    rest += [line.strip() for line in errors.splitlines() if line.strip()]
    return SmiAnswer(tuple(rows), _note(rest, code, problem))


def is_gpu_row(cells: Row) -> bool:
    """Whether cells are name, memory.total, driver_version, …: the driver must be a version.

    A sentence with commas is none: `Warning: …, see nvidia-persistenced, or pass -pm 1, now`.
    """
    if len(cells) < _LEAST_CELLS or not all(cells[:_LEAST_CELLS]):
        return False
    _, memory, driver = cells[:_LEAST_CELLS]
    return (memory.isdecimal() or known(memory) is None) and (
        _VERSION.fullmatch(driver) is not None or known(driver) is None
    )


def known(cell: str) -> str | None:
    """Return a cell's value; None if nvidia-smi does not know it: `[…]`, `ERR!`, `N/A`."""
    value = cell.strip()
    return None if not value or is_unsupported(value) or is_unknown(value) else value


def is_unsupported(cell: str) -> bool:
    """Whether the GPU has no such property, as an integrated one has no memory of its own."""
    return cell.strip() in _UNSUPPORTED


def is_unknown(cell: str) -> bool:
    """Whether the GPU has the property, and it cannot be read now."""
    value = cell.strip()
    return value in _ERRORS or (_BRACKETS.fullmatch(value) is not None and not is_unsupported(cell))


def _cells(line: str) -> Row:
    try:
        found = next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error:
        return ()
    return tuple(cell.strip() for cell in found)


def _note(rest: Sequence[str], code: int, problem: str) -> str:
    said = rest[0][:_MAX_NOTE] if rest else ""
    if code:
        meaning = _MEANINGS.get(code)
        return f"exit code {code}: {said or 'no output'}" + (f" ({meaning})" if meaning else "")
    return problem or said
