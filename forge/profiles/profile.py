"""One device SKU: its sections together, the fields a step reads of it, its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles.sections import (
    Engine,
    Hardware,
    Power,
    Requires,
    RunnerLabels,
    Section,
    Serving,
    Smoke,
    Thermal,
)

__all__ = ["NAME", "Profile", "json_schema", "select"]

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Profile(Section):
    """One device SKU."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    description: str
    unverified: tuple[str, ...] = Field(description="what nobody has seen on hardware yet")
    platform: Literal["linux/amd64", "linux/arm64"]
    hardware: Hardware
    power: Power
    thermal: Thermal
    engine: Engine
    serving: Serving
    requires: Requires
    smoke: Smoke
    runner: RunnerLabels


def select(profile: Profile, paths: Sequence[str]) -> dict[str, Json]:
    """The named fields only, nested as in the profile: `["engine.precision"]` → a dict.

    A path may name a whole section. Raises ConfigurationError for a path that is no field.
    """
    dumped = profile.model_dump(mode="json")
    result: dict[str, Json] = {}
    for path in paths:
        parts = path.split(".")
        value: Any = dumped
        for part in parts:
            if not isinstance(value, dict) or part not in value:
                raise ConfigurationError(
                    f"A step declares to read {path!r}, which is no profile field"
                )
            value = value[part]
        node: Any = result
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return result


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one profile file: any field may be left to the cascade."""
    schema = Profile.model_json_schema()
    schema["title"] = "Forge profile"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"].pop("name")
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "profile whose values come first; default: defaults",
    }
    for definition in [schema, *schema["$defs"].values()]:
        definition.pop("required", None)
    return schema
