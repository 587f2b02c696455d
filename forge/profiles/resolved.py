"""Load a profile through the whole cascade, and report errors with their origin."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forge.errors import ConfigurationError
from forge.profiles.files import file_layers
from forge.profiles.layers import (
    Origin,
    Source,
    cascade,
    command_line_layers,
    environment_layers,
)
from forge.profiles.profile import Profile
from forge.validation import message_text

__all__ = ["ResolvedProfile", "load"]


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """A profile and where its values come from.

    Attributes:
        profile: the values.
        origins: origin of each leaf, by dotted path.
        layers: every origin of the cascade, lowest first.
    """

    profile: Profile
    origins: Mapping[str, Origin]
    layers: Sequence[Origin]

    def set_with(self, field: str) -> list[str]:
        """Return the paths set where `field` is, or where that is overridden; never defaults.

        Files are told apart; the environment is one place, and so is the command line.
        """
        least = self._rank(self.origins[field])
        return [
            path
            for path, origin in self.origins.items()
            if origin.source is not Source.DEFAULT and self._rank(origin) >= least
        ]

    def _rank(self, origin: Origin) -> tuple[Source, int]:
        parent = origin.source is Source.PARENT
        return origin.source, self.layers.index(origin) if parent else 0


def load(
    name: str,
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> ResolvedProfile:
    """Load profile `name` from `directory` through the whole cascade.

    Args:
        name: file name without `.yaml`.
        directory: the project's `profiles/`.
        environment: the process environment; only `FORGE_PROFILE_…` is used.
        overrides: `section.field=value` options of the command line.

    Raises:
        ConfigurationError: unknown profile, invalid YAML, unknown key, invalid value, a cycle.
    """
    layers = [
        *file_layers(name, directory),
        *environment_layers(environment or {}),
        *command_line_layers(overrides),
    ]
    values, origins = cascade(layers)
    for path in origins:
        _check_known(path, origins[path])
    try:
        # Strict validation in JSON mode: a list may become a tuple, but "8" is not a number.
        profile = Profile.model_validate_json(json.dumps({**values, "name": name}, default=str))
    except ValidationError as error:
        raise _explain(name, error, origins) from None
    return ResolvedProfile(profile, origins, [layer.origin for layer in layers])


def _check_known(path: str, origin: Origin) -> None:
    model: Any = Profile
    walked: list[str] = []
    for part in path.split("."):
        fields = getattr(model, "model_fields", None)
        if fields is None:
            return  # below a leaf: pydantic reports the error
        if part not in fields or part == "name":
            legal = [name for name in fields if name != "name"]  # the file defines the name
            near = difflib.get_close_matches(part, legal, n=1)
            place = ".".join([*walked, part])
            hint = (
                f"did you mean {'.'.join([*walked, near[0]])!r}?"
                if near
                else f"known keys here: {', '.join(legal)}"
            )
            message = f"Unknown key {place!r} in {origin.where}"
            raise ConfigurationError(message, hint=hint)
        walked.append(part)
        model = fields[part].annotation


def _explain(
    name: str, error: ValidationError, origins: Mapping[str, Origin]
) -> ConfigurationError:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        origin = origins.get(path)
        where = f" (from {origin.where})" if origin else ""
        lines.append(f"{path}{where}: {message_text(item['msg'])}")
    return ConfigurationError(
        f"Profile {name!r} is not valid",
        why="; ".join(lines),
        hint="correct the value there; see docs/reference/profile.md",
    )
