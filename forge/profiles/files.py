"""Profile files: list them, and read the chain of files that a profile extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from forge.errors import ConfigurationError, not_found
from forge.profiles.layers import Layer, Origin, Source, parse_yaml
from forge.profiles.profile import NAME

__all__ = ["file_layers", "names"]

_MAX_YAML_BYTES: Final = 256 * 1024


def names(directory: Path) -> list[str]:
    """Return the names of the profiles in a folder, sorted, without `defaults`.

    Raises ConfigurationError if the folder does not exist.
    """
    if not directory.is_dir():
        message = f"No profiles folder at {directory}"
        raise ConfigurationError(
            message, hint="run the command in a Forge project, or use --project DIR"
        )
    files = (path for path in directory.glob("*.yaml") if path.is_file())
    return sorted(path.stem for path in files if path.stem != "defaults")


def file_layers(name: str, directory: Path) -> list[Layer]:
    """Return a layer for each file from `defaults.yaml` to `NAME.yaml`, lowest first.

    Raises:
        NotFoundError: there is no profile `name`.
        ConfigurationError: a file that it extends is missing, a file is not a YAML mapping, or a
            profile extends itself.
    """
    chain: list[tuple[str, dict[str, Any]]] = []
    current: str | None = name
    while current is not None:
        if current in [link for link, _ in chain]:
            path = " → ".join([*(link for link, _ in chain), current])
            message = f"Profile {name!r} extends itself"
            raise ConfigurationError(message, why=path, hint=f"edit profiles/{chain[-1][0]}.yaml")
        values = _read(current, directory, chain[-1][0] if chain else None)
        extends = values.pop("extends", None if current == "defaults" else "defaults")
        chain.append((current, values))
        current = None if extends is None else str(extends)
    return [
        Layer(Origin(_rank(link, name), f"{directory.name}/{link}.yaml"), values)
        for link, values in reversed(chain)
    ]


def _rank(link: str, name: str) -> Source:
    if link == name:
        return Source.PROFILE
    return Source.DEFAULT if link == "defaults" else Source.PARENT


def _read(name: str, directory: Path, child: str | None) -> dict[str, Any]:
    path = directory / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        known = [*names(directory), "defaults"]
        what = f"No profile {name!r}"
        if child is None:
            raise not_found(what, name, known, why=f"{path} does not exist")
        error = not_found(what, name, known)
        raise ConfigurationError(what, why=f"profiles/{child}.yaml extends it", hint=error.hint)
    if path.stat().st_size > _MAX_YAML_BYTES:
        raise ConfigurationError(f"{path} is larger than {_MAX_YAML_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} is not a YAML mapping")
    return values
