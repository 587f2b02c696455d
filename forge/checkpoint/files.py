"""The files of a checkpoint that its URL selects."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["is_selected", "selected"]


def selected(source: Path, globs: Sequence[str]) -> dict[str, Path]:
    """Return the selected files of a folder, or a single file, by their names in the checkpoint.

    A single file loses its folder. The result is empty if nothing matches.
    """
    if source.is_file():
        return {source.name: source}
    names = {name: path for name, path in _files(source) if is_selected(name, globs)}
    if len(names) == 1:
        (path,) = names.values()
        return {path.name: path}
    return names


def is_selected(name: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs matches a name; without globs everything is selected."""
    return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path
