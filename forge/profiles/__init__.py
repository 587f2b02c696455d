"""A profile says what one device SKU is; values cascade and each remembers where it came from.

    profiles/defaults.yaml → the files it extends → profiles/NAME.yaml
        → environment FORGE_PROFILE_<SECTION>__<FIELD> → command line --set section.field=value

`defaults.yaml` holds every field that has a default and is the first link of every cascade.
"""

from forge.profiles.files import names
from forge.profiles.layers import Origin, Source, cascade, parse_override
from forge.profiles.profile import Profile, json_schema, select
from forge.profiles.resolved import ResolvedProfile, load
from forge.profiles.sections import (
    Engine,
    Golden,
    Hardware,
    Match,
    Power,
    Probe,
    Requires,
    RunnerLabels,
    Serving,
    Smoke,
    Thermal,
    Thresholds,
)

__all__ = [
    "Engine",
    "Golden",
    "Hardware",
    "Match",
    "Origin",
    "Power",
    "Probe",
    "Profile",
    "Requires",
    "ResolvedProfile",
    "RunnerLabels",
    "Serving",
    "Smoke",
    "Source",
    "Thermal",
    "Thresholds",
    "cascade",
    "json_schema",
    "load",
    "names",
    "parse_override",
    "select",
]
