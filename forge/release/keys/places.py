"""Where a project's keys folder is: outside the checkout, where no clean-up deletes it.

FORGE_KEYS, --keys                     a folder that is named
PROJECT/.forge/keys                    where earlier versions made it, if it is there
~/.config/forge/keys/NAME              else; NAME is the name of the project's folder
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError, ForgeError, UsageError
from forge.store.backends.open import local_folder

__all__ = ["WORK", "KeysPlace", "check_folder", "default_folder", "find_folder", "missing_keys"]

WORK: Final = ".forge"  # Project.work; its other contents can be made again
_GIT_TIMEOUT_S: Final = 10


@dataclass(frozen=True, slots=True)
class KeysPlace:
    """A keys folder, which need not exist.

    Attributes:
        folder: its path.
        in_checkout: whether it is where earlier versions made it.
    """

    folder: Path
    in_checkout: bool


def default_folder(project: Path, environment: Mapping[str, str]) -> Path:
    """Return `forge/keys/NAME` in the user's configuration folder.

    Args:
        project: folder of the project, which gives NAME.
        environment: XDG_CONFIG_HOME, if it is an absolute path, else HOME.

    Raises:
        ConfigurationError: the user has no home folder.
    """
    base = environment.get("XDG_CONFIG_HOME", "")
    config = Path(base) if Path(base).is_absolute() else _home(environment) / ".config"
    return config / "forge" / "keys" / (project.resolve().name or "project")


def find_folder(project: Path, environment: Mapping[str, str]) -> KeysPlace:
    """Return the keys folder of a project: that in the checkout if it is there, else the default.

    Raises ConfigurationError: the user has no home folder.
    """
    old = project / WORK / "keys"
    if (old / "keys.json").is_file():
        return KeysPlace(old, in_checkout=True)
    return KeysPlace(default_folder(project, environment), in_checkout=False)


def missing_keys(folder: Path, *, published: bool) -> UsageError:
    """Return the error of a folder without keys.

    Args:
        folder: where they should be.
        published: whether the store has a root already: devices trust that one only.
    """
    if published:
        return UsageError(
            f"There are no keys in {folder}",
            why="the store is signed with keys that another machine has; devices refuse new ones",
            hint="on that machine: forge keys backup FILE; here: "
            f"forge keys restore FILE --keys {folder}",
        )
    return UsageError(
        f"There are no keys in {folder}",
        why="keys.json does not exist",
        hint=f"the first release: forge keys init --keys {folder}; keys that exist elsewhere: "
        f"forge keys restore FILE --keys {folder}",
    )


def check_folder(folder: Path, store_url: str | None = None, *, disposable: bool = False) -> None:
    """Refuse a keys folder that would be published, or that a clean-up deletes.

    Args:
        folder: the keys folder; it need not exist.
        store_url: URL of the store; None if it is not known.
        disposable: the keys may be lost: allow a checkout's ignored folder.

    Raises:
        UsageError: the folder is inside the store, inside a git checkout or Forge's working folder,
            or git cannot tell.
        ForgeError: git does not answer.
    """
    resolved = folder.resolve()
    store = local_folder(store_url) if store_url else None
    if store is not None and _inside(resolved, store.resolve()):
        raise UsageError(
            f"Keys must not be inside the store: {folder}",
            why="everything in a store is readable by every device",
            hint="choose a folder outside it, for example ~/.config/forge/keys",
        )
    parent = resolved
    while not parent.is_dir():
        parent = parent.parent
    tracked = _git_would_track(parent, resolved / "online.pem")
    if tracked:
        raise UsageError(
            f"Keys must not be tracked by git: {folder}",
            why="it is in a git checkout and no ignore rule covers it",
            hint="choose a folder outside the checkout; the default is ~/.config/forge/keys/NAME",
        )
    if disposable:
        return
    if WORK in resolved.parts or (tracked is False and _is_cleaned(parent)):
        raise UsageError(
            f"Keys must not be in a checkout: {folder}",
            why="'git clean' and 'make clean' delete what git ignores",
            hint="choose a folder outside it, the default is ~/.config/forge/keys/NAME; for keys "
            "that may be lost: --disposable",
        )


def _home(environment: Mapping[str, str]) -> Path:
    if home := environment.get("HOME"):
        return Path(home)
    try:
        return Path.home()
    except RuntimeError:  # a user id without an account
        hint = "set FORGE_KEYS to the folder of the keys"
        raise ConfigurationError("This user has no home folder", hint=hint) from None


def _inside(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _is_cleaned(folder: Path) -> bool:
    """Return whether the checkout of `folder` is one to clean; a home folder in git is not."""
    top = _git(folder, "rev-parse", "--show-toplevel").stdout.strip()
    home = Path(os.environ.get("HOME") or "/").resolve()
    return not _inside(home, Path(top).resolve())


def _git_would_track(folder: Path, path: Path) -> bool | None:
    """Return whether git would track the file; None: it is in no checkout."""
    try:
        result = _git(folder, "check-ignore", "--quiet", "--", str(path))
    except FileNotFoundError:
        return None  # git is not installed: nothing here is tracked
    if result.returncode in {0, 1}:  # git-check-ignore(1): 0 is ignored, 1 is not, 128 is an error
        return result.returncode == 1
    if "not a git repository" in result.stderr:
        return None
    raise UsageError(
        f"Cannot determine whether git would track {folder}",
        why=result.stderr.strip()[-300:] or f"git exited with {result.returncode}",
        hint="repair that checkout, or choose a folder outside it",
    )


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without this git exits with 128 in a checkout of another owner, as outside any checkout.
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    try:
        return subprocess.run(
            command, check=False, capture_output=True, text=True,
            env={**os.environ, "LC_ALL": "C"}, timeout=_GIT_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ForgeError(f"git did not answer in {_GIT_TIMEOUT_S} s", why=str(folder)) from None
