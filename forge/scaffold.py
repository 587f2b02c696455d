"""Write a new project: the folders of this repository, and a few files of a template."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import forge
from forge.errors import ForgeError, UsageError

__all__ = ["CI", "origin", "write"]

_PACKAGE: Final = Path(forge.__file__).parent
# Path in the new project → path in the repository, or below `forge/template/` in the wheel.
_CONTENT: Final[dict[str, str]] = {
    "pipelines": "pipelines",
    "stages": "stages",
    "profiles": "profiles",
    "dockerfiles": "dockerfiles",
    "references": "references",
    "deploy/container": "deploy/container",
    "deploy/kubernetes": "deploy/kubernetes",
    "artifacts/schema": "artifacts/schema",
    "scripts/install-forge": "scripts/install-forge",
    "requirements.lock": "requirements.lock",
    "tests": "forge/template/tests",
    ".gitattributes": "forge/template/gitattributes",
    ".gitignore": "forge/template/gitignore",
    "README.md": "forge/template/README.md",
}
_CI: Final[dict[str, dict[str, str]]] = {
    "github": {
        ".github/workflows/release.yml": ".github/workflows/release.yml",
        ".github/workflows/images.yml": ".github/workflows/images.yml",
        ".github/workflows/promote.yml": ".github/workflows/promote.yml",
        ".github/workflows/refresh.yml": ".github/workflows/refresh.yml",
        ".github/workflows/check.yml": "forge/template/check.yml",
    },
    "gitlab": {
        ".gitlab-ci.yml": "forge/template/gitlab/ci.yml",
        ".gitlab/cell.yml": "forge/template/gitlab/cell.yml",
    },
    "none": {},
}
CI: Final = tuple(_CI)


def write(directory: Path, ci: str = "github") -> list[str]:
    """Write a project to a new or empty folder.

    Args:
        directory: the folder.
        ci: service whose workflows it gets, one of CI.

    Returns:
        The files written, relative to `directory`, sorted.

    Raises:
        UsageError: the folder is not empty; it is not changed.
        ForgeError: the folder cannot be written.
    """
    try:
        if directory.exists() and any(directory.iterdir()):
            hint = "choose a new folder; forge init never overwrites"
            raise UsageError(f"{directory} is not empty", hint=hint)
        for name, shipped in (_CONTENT | _CI[ci]).items():
            _copy(origin(shipped), directory / name)
    except OSError as error:
        raise ForgeError(f"Could not write a project to {directory}", why=str(error)) from None
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(path.relative_to(directory).as_posix() for path in files)


def origin(name: str) -> Path:
    """Return the source of a part of a new project: in the wheel, or in the repository checkout."""
    shipped = _PACKAGE / "template" / name.removeprefix("forge/template/")
    return shipped if shipped.exists() else _PACKAGE.parent / name


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    else:
        shutil.copyfile(source, target)
        if target.parent.name == "scripts":
            target.chmod(0o755)  # some installers of wheels do not keep the mode
