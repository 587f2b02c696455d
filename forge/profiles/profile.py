"""The profile of a device SKU, selection of the fields that a step reads, and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import Field

from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles.sections import (
    AccuracySection,
    EngineSection,
    HardwareSection,
    PowerSection,
    RequiresSection,
    RunnerLabels,
    Section,
    ServingSection,
    SmokeSection,
    ThermalSection,
)

__all__ = ["NAME", "Profile", "json_schema", "select"]

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Profile(Section):
    """The profile of one device SKU."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    description: str
    unverified: tuple[str, ...] = Field(description="facts that are not verified on hardware")
    platform: Literal["linux/amd64", "linux/arm64"]
    hardware: HardwareSection
    power: PowerSection
    thermal: ThermalSection
    engine: EngineSection
    serving: ServingSection
    requires: RequiresSection
    accuracy: AccuracySection
    smoke: SmokeSection
    runner: RunnerLabels


def select(profile: Profile, paths: Sequence[str]) -> dict[str, Json]:
    """Return the fields at `paths` only, nested as in the profile.

    A path may be a field, `engine.precision`, or a section. Raises ConfigurationError for others.
    """
    dumped = profile.model_dump(mode="json")
    result: dict[str, Json] = {}
    for path in paths:
        parts = path.split(".")
        value: Any = dumped
        for part in parts:
            if not isinstance(value, dict) or part not in value:
                raise ConfigurationError(f"A step reads {path!r}, which is not a profile field")
            value = value[part]
        node: Any = result
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return result


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of one profile file, in which every field is optional."""
    schema = Profile.model_json_schema()
    schema["title"] = "Forge profile"
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"].pop("name")
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "profile to extend; default: defaults",
    }
    for definition in [schema, *schema["$defs"].values()]:
        definition.pop("required", None)
    return schema
