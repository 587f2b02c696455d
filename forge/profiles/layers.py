"""Layers of the cascade, merged into one value with its origin for each field.

The layers of environment and command line are made here, those of files in `files`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forge.errors import ConfigurationError
from forge.validation import yaml_text

__all__ = [
    "Layer",
    "Origin",
    "Source",
    "cascade",
    "command_line_layers",
    "environment_layers",
    "parse_override",
    "parse_yaml",
]

_ENVIRONMENT_PREFIX: Final = "FORGE_PROFILE_"


class Source(enum.IntEnum):
    """Kind of origin of a value; a higher one overrides a lower one."""

    DEFAULT = 0
    PARENT = 1
    PROFILE = 2
    ENVIRONMENT = 3
    COMMAND_LINE = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of one value: its kind and the file, variable or option."""

    source: Source
    where: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the cascade: a nested mapping and its origin."""

    origin: Origin
    values: Mapping[str, Any]


def cascade(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Merge layers, lowest first, into one nested dict and the origin of every leaf.

    Mappings are merged by key; any other value, lists included, replaces the lower one.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for layer in layers:
        for path, value in _leaves(layer.values):
            node = values
            for part in path[:-1]:
                node = node.setdefault(part, {})
                if not isinstance(node, dict):
                    message = f"{layer.origin.where}: {'.'.join(path)} is not a mapping"
                    raise ConfigurationError(message)
            node[path[-1]] = value
            origins[".".join(path)] = layer.origin
    return values, origins


def environment_layers(environment: Mapping[str, str]) -> Iterator[Layer]:
    """Yield a layer for each `FORGE_PROFILE_…`. Raises ConfigurationError for invalid YAML."""
    for variable in sorted(environment):
        if not variable.startswith(_ENVIRONMENT_PREFIX):
            continue
        path = tuple(variable.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__"))
        value = parse_yaml(environment[variable], variable)
        yield Layer(Origin(Source.ENVIRONMENT, variable), _nest(path, value))


def command_line_layers(overrides: Sequence[str]) -> Iterator[Layer]:
    """Yield a layer for each `section.field=value`. Raises ConfigurationError if not valid."""
    for text in overrides:
        origin = Origin(Source.COMMAND_LINE, f"--set {text}")
        yield Layer(origin, _nest(*parse_override(text)))


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Parse `engine.precision=fp8` to (("engine", "precision"), "fp8"); the value is YAML."""
    path, separator, value = text.partition("=")
    if not separator or not path:
        message = f"--set {text!r} is not of the form section.field=value"
        raise ConfigurationError(message, hint="for example: --set engine.max_batch_size=4")
    return tuple(path.split(".")), parse_yaml(value, f"--set {text}")


def parse_yaml(text: str, where: str) -> Any:
    """Return the YAML value of `text`. Raises ConfigurationError, with `where` in its message."""
    import yaml

    from forge import yaml_loader

    try:
        return yaml_loader.load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{where} is not valid YAML", why=yaml_text(error)) from None


def _nest(path: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def _leaves(
    values: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        path = (*prefix, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path, value
