"""The Triton model repository of one SKU: configuration, Python model, engine, serving lock."""

from importlib.metadata import version
from pathlib import Path

import forge.serving
from forge.canonical import Json
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked, sources
from stages import DOCKERFILES, image

READS = (
    "engine.builder",
    "engine.max_batch_size",
    "engine.max_input_len",
    "engine.max_seq_len",
    "serving",
    "smoke.golden",
)


def render(profile: Profile, engine: Artifact, served_in: Artifact | None = None) -> Artifact:
    """Everything Triton needs to serve `engine` as the profile says.

    Args:
        profile: the device SKU.
        engine: what is served.
        served_in: index of the serving image, where this project builds the one it names.
    """
    name = profile.serving.environment
    if profile.serving.server == "environment" and name is None:
        hint = f"set serving.environment in profiles/{profile.name}.yaml"
        raise ConfigurationError(f"Profile {profile.name!r} names no environment", hint=hint)
    lock = (locked(DOCKERFILES / name),) if name else ()
    argv = ["${python}", "-m", "forge.serving", "render", "--engine", "${inputs.engine}"]
    argv += ["--settings", "${settings}", "--output", "${outputs.repository}"]
    if lock:
        argv += ["--lock", "${lock." + lock[0].name + "}"]
    inputs = {"engine": engine}
    if served_in is not None:
        inputs["image"] = served_in
        argv += ["--image", "${inputs.image}"]
    step = Step(
        id=f"repository@{profile.name}",
        argv=tuple(argv),
        inputs=inputs,
        outputs=("repository",),
        settings=_settings(profile),
        locks=lock,
        sources=sources(Path(forge.serving.__path__[0])),
        libraries={"jinja2": version("jinja2")},
        planned_only="" if name or served_in else image.unresolved(profile.serving.image),
    )
    return step["repository"]


def _settings(profile: Profile) -> dict[str, Json]:
    """What is rendered; the image by digest where bases.yaml has one, as the manifest names it."""
    fields = select(profile, READS)
    serving = fields["serving"]
    assert isinstance(serving, dict)  # noqa: S101  READS names it
    return {**fields, "serving": {**serving, "image": image.by_digest(profile.serving.image)}}
