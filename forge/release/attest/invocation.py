"""What a release was planned from: the commit, the pipeline and its parameters.

It is part of the key of the steps that sign, so that the provenance of a version states the commit
of that version and not the one of an earlier run.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue

__all__ = ["Invocation", "SourceCommit", "read_source"]

_GIT_TIMEOUT_S: Final = 10
_SCP = re.compile(r"(?:[^@/]+@)?([a-z0-9.-]+):(?!/)(.+)", re.IGNORECASE)  # git@host:owner/name.git


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceCommit(_Document):
    """The commit of a checkout.

    Attributes:
        repository: URI of the repository without credentials; empty: it has no remote one.
        commit: SHA-1 or SHA-256 of the commit.
        modified: whether files of the checkout differ from the commit, or git cannot tell.
    """

    repository: str
    commit: str = Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")
    modified: bool


class Invocation(_Document):
    """A call of a pipeline.

    Attributes:
        pipeline: its name.
        parameters: its options; without paths of this machine.
        source: where the project is a git checkout, its commit.
    """

    pipeline: str
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    source: SourceCommit | None = None

    @classmethod
    def of(
        cls,
        pipeline: str,
        options: Mapping[str, object],
        overrides: tuple[str, ...],
        source: SourceCommit | None,
    ) -> Invocation:
        """Return the invocation of a pipeline with options and overrides of profile fields."""
        parameters: dict[str, JsonValue] = {
            name: _public(value) for name, value in sorted(options.items()) if value is not None
        }
        if overrides:
            parameters["set"] = [*overrides]
        return cls(pipeline=pipeline, parameters=parameters, source=source)


def read_source(root: Path, environment: Mapping[str, str]) -> SourceCommit | None:
    """Return the commit of the project's checkout; None: it is none, or git is not installed.

    Args:
        root: the project's folder.
        environment: in a job of GitHub Actions, names the repository.
    """
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    known = f"{server}/{name}" if server and name else ""
    commit = _git(root, "rev-parse", "HEAD") or ""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        return None
    # Below `root` only: a project may be a folder of a larger repository.
    changed = _git(root, "status", "--porcelain", "--", ".")
    remote = _git(root, "config", "--get", "remote.origin.url") or ""
    return SourceCommit(
        repository=known or _public_uri(remote), commit=commit, modified=changed != ""
    )


def _public(value: object) -> str | bool | int | float:
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    if text.startswith("file:"):  # a path of this machine says nothing elsewhere
        path, mark, rest = text.partition("#")
        return f"file:{Path(path.removeprefix('file:')).name}{mark}{rest}"
    return Path(text).name if Path(text).is_absolute() else text


def _public_uri(url: str) -> str:
    """Return the URI of a remote repository without credentials; empty for a path."""
    if "://" not in url:
        found = _SCP.fullmatch(url)
        return f"https://{found[1]}/{found[2]}" if found else ""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port and parts.scheme in {"http", "https"} else ""
    except ValueError:
        return ""
    if parts.scheme not in {"https", "http", "ssh", "git"} or not parts.hostname:
        return ""
    scheme = "http" if parts.scheme == "http" else "https"
    return f"{scheme}://{parts.hostname}{port}{parts.path}"


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints; None if it fails."""
    # Without this git refuses a checkout of another owner, as one that is mounted in a container.
    command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
