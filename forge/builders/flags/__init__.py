"""Specifications of NVIDIA's command lines, and validation of a command against them. Pure.

There is one YAML file per tool. Without this check, a misspelt flag would be found only by the tool
itself, after waiting hours for a runner with the right GPU.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.errors import ConfigurationError

__all__ = ["Tool", "ToolOption", "check_argv", "load"]

_PLACEHOLDER: Final = "${"


class ToolOption(BaseModel):
    """One option of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flag", "int", "float", "str"]
    choices: tuple[str, ...] = ()
    required: bool = False


class Tool(BaseModel):
    """A command line; `positionals` maps names to allowed values (empty: any value)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    version: str
    positionals: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    options: Mapping[str, ToolOption]


def load(name: str) -> Tool:
    """Load the tool of `<name>.yaml`. Raises ConfigurationError."""
    import yaml

    path = resources.files(__name__) / f"{name}.yaml"
    try:
        return Tool.model_validate(yaml.safe_load(path.read_bytes()))
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{path} is not valid", why=str(error)) from None


def check_argv(tool: Tool, arguments: Sequence[str]) -> None:
    """Check the arguments of a tool, without the name of the program.

    A placeholder `${…}` is accepted for any value. Raises ConfigurationError that names the nearest
    flag, or the allowed values.
    """
    words = list(arguments)
    positionals: list[str] = []
    seen: set[str] = set()
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            positionals.append(word)
            continue
        name, separator, value = word.partition("=")
        option = _option(tool, name)
        seen.add(name)
        if option.kind == "flag":
            continue
        if not separator:
            if not words or words[0].startswith("--"):
                raise _wrong(tool, f"{name} has no value")
            value = words.pop(0)
        _check_value(tool, name, option, value)
    _check_positionals(tool, positionals)
    needed = [name for name, option in tool.options.items() if option.required]
    if missing := [name for name in needed if name not in seen]:
        raise _wrong(tool, f"missing: {', '.join(missing)}")


def _option(tool: Tool, name: str) -> ToolOption:
    if name in tool.options:
        return tool.options[name]
    # `--max-input-len` for `--max_input_len` is the most common error, because the tools differ.
    plain = {_plain(known): known for known in tool.options}
    near = difflib.get_close_matches(_plain(name), plain, n=1)
    hint = f"did you mean {plain[near[0]]}?" if near else f"options: {', '.join(tool.options)}"
    raise _wrong(tool, f"unknown option {name}", hint)


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _check_value(tool: Tool, name: str, option: ToolOption, value: str) -> None:
    if _PLACEHOLDER in value:
        return
    if option.choices and value not in option.choices:
        near = difflib.get_close_matches(value, option.choices, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise _wrong(
            tool, f"{name} must be one of {', '.join(option.choices)}, not {value!r}", hint
        )
    convert: Any = {"int": int, "float": float, "str": str}[option.kind]
    try:
        convert(value)
    except ValueError:
        raise _wrong(tool, f"{name} takes {option.kind}, not {value!r}") from None


def _check_positionals(tool: Tool, given: Sequence[str]) -> None:
    if len(given) != len(tool.positionals):
        names = " ".join(name.upper() for name in tool.positionals) or "none"
        why = f"its positional arguments are {names}, given: {' '.join(given) or 'none'}"
        raise _wrong(tool, why)
    for value, (name, choices) in zip(given, tool.positionals.items(), strict=True):
        if choices and value not in choices:
            raise _wrong(tool, f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _wrong(tool: Tool, why: str, hint: str = "") -> ConfigurationError:
    message = f"{tool.tool} {tool.version} does not accept this command"
    return ConfigurationError(message, why=why, hint=hint)
