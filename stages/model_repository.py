"""The Triton model repository of one SKU: configuration, Python model, engine, serving lock."""

from importlib.metadata import version
from pathlib import Path

import forge.serving
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, sources
from stages import DOCKERFILES

READS = (
    "engine.builder",
    "engine.max_batch_size",
    "engine.max_input_len",
    "engine.max_seq_len",
    "serving",
    "smoke.golden",
)


def render(profile: Profile, engine: Artifact) -> Artifact:
    """Everything Triton needs to serve `engine` as the profile says."""
    name = profile.serving.environment
    if profile.serving.server == "environment" and name is None:
        hint = f"set serving.environment in profiles/{profile.name}.yaml"
        raise ConfigurationError(f"Profile {profile.name!r} names no environment", hint=hint)
    lock = (locked(DOCKERFILES / name),) if name else ()
    argv = ["${python}", "-m", "forge.serving", "render", "--engine", "${inputs.engine}"]
    argv += ["--settings", "${settings}", "--output", "${outputs.repository}"]
    if lock:
        argv += ["--lock", "${lock." + lock[0].name + "}"]
    step = Step(
        id=f"repository@{profile.name}",
        argv=tuple(argv),
        inputs={"engine": engine},
        outputs=("repository",),
        settings=select(profile, READS),
        locks=lock,
        sources=sources(Path(forge.serving.__path__[0])),
        libraries={"jinja2": version("jinja2")},
    )
    return step["repository"]
