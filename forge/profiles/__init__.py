"""Profiles describe device SKUs. Values cascade, and each one records its origin.

    profiles/defaults.yaml → the files it extends → profiles/NAME.yaml
        → environment FORGE_PROFILE_<SECTION>__<FIELD> → command line --set section.field=value

`defaults.yaml` contains every field with a default and is the first layer of every cascade.
"""

from forge.profiles.files import names
from forge.profiles.layers import Origin, Source, cascade, parse_override
from forge.profiles.profile import Profile, json_schema, select
from forge.profiles.resolved import ResolvedProfile, load
from forge.profiles.sections import (
    AccuracySection,
    EngineSection,
    GoldenSection,
    HardwareSection,
    MatchSection,
    PowerSection,
    ProbeSection,
    RequiresSection,
    RunnerLabels,
    RuntimeSection,
    ServingSection,
    SloSection,
    SmokeSection,
    ThermalSection,
    ThresholdsSection,
)

__all__ = [
    "AccuracySection",
    "EngineSection",
    "GoldenSection",
    "HardwareSection",
    "MatchSection",
    "Origin",
    "PowerSection",
    "ProbeSection",
    "Profile",
    "RequiresSection",
    "ResolvedProfile",
    "RunnerLabels",
    "RuntimeSection",
    "ServingSection",
    "SloSection",
    "SmokeSection",
    "Source",
    "ThermalSection",
    "ThresholdsSection",
    "cascade",
    "json_schema",
    "load",
    "names",
    "parse_override",
    "select",
]
