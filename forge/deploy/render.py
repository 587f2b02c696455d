"""Render, compare and write the files of the overlays."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal

from forge.deploy.overlay import Overlay
from forge.errors import ConfigurationError
from forge.files import write_durably

__all__ = ["BASE", "OVERLAYS", "FileState", "compare", "render", "write"]

OVERLAYS: Final = "overlays"
BASE: Final = "base"
_FILES: Final = ("kustomization.yaml", "deployment.yaml", "slots.yaml")
FileState = Literal["same", "differs", "missing", "left over"]


def render(overlays: Iterable[Overlay]) -> dict[str, str]:
    """Return the text of each file by path below the folder with `base` and `overlays`. Pure."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forge.deploy"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML; every text is quoted as JSON
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return {
        f"{OVERLAYS}/{one.profile}/{name}": environment.get_template(f"{name}.j2").render(it=one)
        for one in overlays
        for name in _FILES
    }


def compare(folder: Path, wanted: Mapping[str, str]) -> dict[str, FileState]:
    """Return the state of each file, including those of removed profiles.

    Raises ConfigurationError: a file cannot be read.
    """
    try:
        found = {path: _state(folder / path, text) for path, text in wanted.items()}
        for path in sorted((folder / OVERLAYS).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in found:
                found[name] = "left over"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{folder} cannot be read", why=str(error)) from None
    return found


def write(folder: Path, wanted: Mapping[str, str]) -> None:
    """Write files that differ or are missing, and delete the overlays of removed profiles.

    Raises ConfigurationError: the folder has no base, or cannot be written.
    """
    if not (folder / BASE / "kustomization.yaml").is_file():
        message = f"No {BASE}/kustomization.yaml in {folder}"
        hint = "copy the base from deploy/kubernetes of a new project: forge init DIR"
        raise ConfigurationError(message, hint=hint)
    states = compare(folder, wanted)
    kept = {Path(path).parent.name for path in wanted}
    try:
        for path, state in states.items():
            if state == "left over" and Path(path).parts[1] not in kept:
                shutil.rmtree(folder / OVERLAYS / Path(path).parts[1], ignore_errors=True)
            elif state == "left over":
                (folder / path).unlink()
            elif state != "same":
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                write_durably(folder / path, wanted[path].encode())
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written", why=str(error)) from None


def _state(path: Path, text: str) -> FileState:
    try:
        return "same" if path.read_text(encoding="utf-8") == text else "differs"
    except FileNotFoundError:
        return "missing"
