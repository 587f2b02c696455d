"""The Triton model repository of one SKU: configuration, Python model, engine, serving lock."""

from importlib.metadata import version

from forge.canonical import Json
from forge.closure import sources_of
from forge.errors import ConfigurationError
from forge.profiles import Profile, select
from forge.steps import Artifact, Step, locked
from stages import DOCKERFILES, image
from stages.embeddings import Embedding

READS = (
    "engine.builder",
    "engine.max_batch_size",
    "engine.max_input_len",
    "engine.max_seq_len",
    "serving",
    "smoke.golden",
)


def render(
    profile: Profile,
    engine: Artifact,
    probe: Artifact,
    served_in: Artifact | None = None,
    packages: Artifact | None = None,
    second: Embedding | None = None,
) -> Artifact:
    """Plan the model repository with which Triton serves `engine` for a profile.

    Args:
        profile: the device SKU.
        engine: the engine.
        probe: the positions that devices repeat, from the accuracy gate.
        served_in: index of the serving image, if this project builds it.
        packages: wheels of its environment; None: devices download them from a package index.
        second: the embedding model that is served with it; None: there is none.
    """
    name = profile.serving.environment
    if profile.serving.server == "environment" and name is None:
        hint = f"set serving.environment in profiles/{profile.name}.yaml"
        raise ConfigurationError(f"Profile {profile.name!r} has no environment", hint=hint)
    lock = (locked(DOCKERFILES / name),) if name else ()
    argv = ["${python}", "-m", "forge.serving.steps.render", "--engine", "${inputs.engine}"]
    argv += ["--settings", "${settings}", "--output", "${outputs.repository}"]
    if lock:
        argv += ["--lock", "${lock." + lock[0].name + "}"]
    argv += ["--accuracy", "${inputs.probe}"]
    inputs = {"engine": engine, "probe": probe}
    if packages is not None:
        inputs["packages"] = packages
        argv += ["--packages", "${inputs.packages}"]
    if served_in is not None:
        inputs["image"] = served_in
        argv += ["--image", "${inputs.image}"]
    if second is not None:
        inputs |= {"embedding": second.engine, "embedding-probe": second.probe}
        argv += ["--embedding", "${inputs.embedding}", "--embedding-name", second.name]
        argv += ["--embedding-probe", "${inputs.embedding-probe}"]
    step = Step(
        id=f"repository@{profile.name}",
        argv=tuple(argv),
        inputs=inputs,
        outputs=("repository",),
        settings=_settings(profile),
        locks=lock,
        sources=sources_of("forge.serving.steps.render", builder=profile.engine.builder),
        libraries={"jinja2": version("jinja2")},
        planned_only="" if name or served_in else image.unresolved(profile.serving.image),
    )
    return step["repository"]


def _settings(profile: Profile) -> dict[str, Json]:
    """Return the settings, with the image by digest if bases.yaml has one, as in the manifest."""
    fields = select(profile, READS)
    serving = fields["serving"]
    assert isinstance(serving, dict)  # noqa: S101  listed in READS
    return {**fields, "serving": {**serving, "image": image.by_digest(profile.serving.image)}}
