"""Which profiles a command is about: those of --profile, of forge.yaml, or all."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from forge import profiles
from forge.errors import ConfigurationError, not_found
from forge.project import Project
from forge.runners.project_file import FILE, read_project_file

__all__ = ["chosen_profiles"]


def chosen_profiles(project: Project, wanted: Sequence[str]) -> list[str]:
    """Return the names of profiles, each once, in order.

    Args:
        project: the project.
        wanted: names of --profile, in which `*` matches any letters; none: those of forge.yaml,
            and all profiles where it names none.

    Raises:
        NotFoundError: nothing matches a name with `*`.
        ConfigurationError: forge.yaml is not valid, or names a profile that does not exist.
    """
    known = profiles.names(project.profiles)
    if not wanted:
        return _by_default(project, known)
    found = [fnmatch.filter(known, name) if "*" in name else [name] for name in wanted]
    for name, matched in zip(wanted, found, strict=True):
        if not matched:
            raise not_found(f"No profile matches {name!r}", name, known)
    return list(dict.fromkeys(name for matched in found for name in matched))


def _by_default(project: Project, known: Iterable[str]) -> list[str]:
    names = read_project_file(project.root).profiles
    if names is None:
        return list(known)
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigurationError(
            f"{project.root / FILE} names profiles that do not exist: {', '.join(missing)}",
            hint=f"known: {', '.join(known)}",
        )
    return list(dict.fromkeys(names))
