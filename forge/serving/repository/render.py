"""Render a Triton model repository from an engine and a profile's settings."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from pydantic import JsonValue, ValidationError

from forge import canonical
from forge.errors import ConfigurationError
from forge.files import link_or_copy, write_durably
from forge.profiles import RuntimeSection
from forge.serving.repository.accuracy_probe import (
    ACCURACY_FILE,
    SCORED_BUILDERS,
    AccuracyProbe,
)
from forge.serving.repository.embedding_probe import EMBEDDING_FILE, EmbeddingProbe
from forge.serving.repository.spec import (
    ENGINE_FILE,
    LOCK_PATH,
    MODELS_FOLDER,
    WHEELS_PATH,
    EmbeddingEngineFacts,
    EmbeddingSpec,
    EngineFacts,
    RenderSettings,
    Spec,
    read_document,
    write_spec,
)
from forge.serving.sampling import INPUT_TYPES
from forge.validation import validation_text

__all__ = [
    "EmbeddingModel",
    "Runtime",
    "config_pbtxt",
    "embedding_config_pbtxt",
    "embedding_templates",
    "make_embedding_spec",
    "make_spec",
    "render",
    "templates",
]

DATA_FILES: Final = (  # part of a step's key
    "templates/{builder}/*",
    "templates/shared/*",
    "templates/embeddings/*",
    "templates/embeddings/{builder}/*",
)
_SHARED: Final = "shared"  # modules that the templates' model.py import
_EMBEDDINGS: Final = "embeddings"  # folder of templates for a tree's second model
_EMBEDDING: Final = "embedding"  # its name in Triton
_MOST_INPUTS: Final = 2048  # of one request, as OpenAI's API
# On a CPU larger batches are hardly faster, and a short text waits for the batch under way.
_EMBEDDED_TOGETHER: Final = 8
_LIMITS: Final = ("max_batch_size", "max_input_len", "max_seq_len", "default_max_tokens")
_IMAGE = re.compile(r"[\w./:-]+@sha256:[0-9a-f]{64}")


def templates() -> list[str]:
    """Return the builders whose engines can be served: folders of templates/ with a model.py."""
    folders = (resources.files("forge.serving.repository") / "templates").iterdir()
    return sorted(folder.name for folder in folders if (folder / "model.py").is_file())


def make_spec(settings: RenderSettings, engine: EngineFacts) -> Spec:
    """Return the content of `serving.json`. Raises ConfigurationError for contradictions."""
    limits, serving = settings.engine, settings.serving
    if engine.builder not in templates():
        message = f"No model repository can be rendered for builder {engine.builder!r} yet"
        raise ConfigurationError(message, hint=f"known: {', '.join(templates())}")
    if limits.builder not in (None, engine.builder):  # whose template alone is in the step's key
        message = f"The engine was made by builder {engine.builder}, the profile names another"
        raise ConfigurationError(message, why=f"engine.builder is {limits.builder}")
    if limits.max_input_len >= limits.max_seq_len:
        message = "engine.max_input_len leaves no room for an answer"
        why = f"max_input_len {limits.max_input_len}, max_seq_len {limits.max_seq_len}"
        raise ConfigurationError(message, why=why, hint="set max_seq_len to more")
    if serving.server == "environment" and not serving.environment:
        message = "serving.server is 'environment', but serving.environment names none"
        raise ConfigurationError(message, hint="name a folder of dockerfiles/")
    if serving.server == "container" and not _IMAGE.fullmatch(serving.image or ""):
        message = "serving.server is 'container', but serving.image names none by digest"
        raise ConfigurationError(message, hint="for example name@sha256:…")
    if not settings.smoke.golden:
        message = "smoke.golden is empty: a device could not check the model's answers"
        raise ConfigurationError(message, hint="name a prompt and what its answer must contain")
    environment = serving.environment if serving.server == "environment" else None
    return Spec(
        model=serving.model,
        server=serving.server,
        environment=environment,
        python=serving.python,
        lock=LOCK_PATH if environment else None,
        image=serving.image if serving.server == "container" else None,
        repository=MODELS_FOLDER,
        builder=engine.builder,
        runtime=engine.runtime,
        max_batch_size=limits.max_batch_size,
        max_input_len=limits.max_input_len,
        max_seq_len=limits.max_seq_len,
        default_max_tokens=serving.default_max_tokens,
        settings=serving.model_dump(mode="json", include=set(RuntimeSection.model_fields)),
        start_timeout_s=serving.start_timeout_s,
        golden=settings.smoke.golden,
        probe=serving.probe,
        compile_on_device=engine.compile_on_device,
    )


def config_pbtxt(spec: Spec) -> str:
    """Return Triton's config.pbtxt for a spec."""
    values = {**{name: getattr(spec, name) for name in _LIMITS}, **spec.settings}
    return _config(f"{spec.builder}/config.pbtxt.j2", spec.model, values)


def embedding_config_pbtxt(embedding: EmbeddingSpec) -> str:
    """Return Triton's config.pbtxt for the embedding model of a spec."""
    limits = ("max_batch_size", "max_inputs", "max_seq_len")
    values: dict[str, JsonValue] = {name: getattr(embedding, name) for name in limits}
    return _config(f"{_EMBEDDINGS}/config.pbtxt.j2", embedding.model, values)


def _config(template: str, model: str, values: Mapping[str, JsonValue]) -> str:
    """Return a config.pbtxt.

    Args:
        template: its path below templates/.
        model: name in Triton.
        values: what the model reads as its Limits.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("forge.serving.repository"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is protobuf text; every value is quoted by type
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    parameters = _parameters(values)
    found = environment.get_template(template)
    return found.render(model=model, parameters=parameters, sampling_types=INPUT_TYPES)


def _parameters(values: Mapping[str, JsonValue]) -> dict[str, str]:
    """Return each value as JSON in a string of protobuf."""
    return {
        name: json.dumps(value).replace("\\", "\\\\").replace('"', '\\"')
        for name, value in values.items()
    }


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the environment of Triton is made of.

    Attributes:
        lock: requirements with a hash for every package.
        wheels: folder of its packages; None: devices download them.
    """

    lock: Path
    wheels: Path | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """The second model of a tree.

    Attributes:
        engine: the builder's output.
        name: as clients of the API call it.
        probe: probe.json of its comparison with the checkpoint, which devices repeat; None: none.
    """

    engine: Path
    name: str
    probe: Path | None = None


def render(
    engine: Path,
    settings: RenderSettings,
    runtime: Runtime | None,
    output: Path,
    accuracy: Path | None = None,
    embedding: EmbeddingModel | None = None,
) -> Spec:
    """Write the whole tree into `output`, an empty or new folder.

    Args:
        engine: the builder's output.
        settings: the profile's fields.
        runtime: Triton's environment; None where it is served from a container.
        output: the folder.
        accuracy: probe.json of the engine's receipt, for builders whose model scores tokens.
        embedding: a second model, which makes embeddings; None: the tree has none.

    Raises:
        ConfigurationError: the engine or the settings cannot be served.
        OSError: the disk.
    """
    spec = make_spec(settings, read_document(engine / ENGINE_FILE, EngineFacts))
    if spec.lock and runtime is None:
        raise ConfigurationError("Triton's environment is named and its lock is not given")
    repository = output / spec.repository
    _write_model(repository / spec.model, engine, spec.builder, config_pbtxt(spec))
    if embedding is not None:
        spec = _with_embedding(spec, embedding, output)
    if spec.lock and runtime is not None:
        (output / spec.lock).parent.mkdir(exist_ok=True)
        shutil.copyfile(runtime.lock, output / spec.lock)
        if runtime.wheels is not None:
            _link_tree(runtime.wheels, output / WHEELS_PATH)
    if accuracy is not None and spec.builder in SCORED_BUILDERS:
        probe = read_document(accuracy, AccuracyProbe)
        data = canonical.dumps(probe.model_dump(mode="json"))
        write_durably(output / ACCURACY_FILE, data + b"\n")
    write_spec(output, spec)
    return spec


def _write_model(folder: Path, engine: Path, template: str, config: str) -> None:
    """Write one model of the repository."""
    version = folder / "1"
    version.mkdir(parents=True, exist_ok=True)
    _link_tree(engine, version / "engine")
    for name, source in _sources(template).items():
        (version / name).write_bytes(source)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")


def _with_embedding(spec: Spec, embedding: EmbeddingModel, output: Path) -> Spec:
    """Write the embedding model and return the spec that names it. Raises ConfigurationError."""
    facts = read_document(embedding.engine / ENGINE_FILE, EmbeddingEngineFacts)
    found = make_embedding_spec(spec, facts, embedding.name)
    template = f"{_EMBEDDINGS}/{facts.builder}"
    folder = output / spec.repository / found.model
    _write_model(folder, embedding.engine, template, embedding_config_pbtxt(found))
    if embedding.probe is not None:
        probe = read_document(embedding.probe, EmbeddingProbe)
        data = canonical.dumps(probe.model_dump(mode="json"))
        write_durably(output / EMBEDDING_FILE, data + b"\n")
    return spec.model_copy(update={"embedding": found})


def make_embedding_spec(spec: Spec, facts: EmbeddingEngineFacts, name: str) -> EmbeddingSpec:
    """Return the embedding model's part of `serving.json`. Raises ConfigurationError."""
    if facts.builder not in embedding_templates():
        message = f"Embedding models of builder {facts.builder!r} cannot be served"
        raise ConfigurationError(message, hint=f"known: {', '.join(embedding_templates())}")
    if facts.builder != spec.builder:
        message = f"The embedding model was made by builder {facts.builder}, the engine by another"
        raise ConfigurationError(message, why=f"it was made by {spec.builder}")
    shared = facts.runtime.keys() & spec.runtime.keys()
    if other := sorted(one for one in shared if facts.runtime[one] != spec.runtime[one]):
        message = f"The two models of the bundle need other versions of {other[0]}"
        why = f"the engine {spec.runtime[other[0]]}, the embedding model {facts.runtime[other[0]]}"
        raise ConfigurationError(message, why=why, hint="compile both again")
    try:
        return EmbeddingSpec(
            **facts.embedding.model_dump(),
            name=name,
            model=_other_name(spec.model),
            max_batch_size=_EMBEDDED_TOGETHER,
            max_inputs=_MOST_INPUTS,
        )
    except ValidationError as error:
        message = "The embedding model cannot be served as it is named"
        raise ConfigurationError(message, why=validation_text(error)) from None


def embedding_templates() -> list[str]:
    """Return the builders whose embedding models can be served."""
    folder = resources.files("forge.serving.repository") / "templates" / _EMBEDDINGS
    return sorted(one.name for one in folder.iterdir() if (one / "model.py").is_file())


def _other_name(model: str) -> str:
    """Return the embedding model's name in Triton."""
    return _EMBEDDING if model != _EMBEDDING else f"{_EMBEDDING}_model"


def _sources(template: str) -> dict[str, bytes]:
    """Return a template's Python files and those of shared/ that they import, also indirectly."""
    root = resources.files("forge.serving.repository") / "templates"
    found, shared = _python(root.joinpath(*template.split("/"))), _python(root / _SHARED)
    while missing := {
        name: source
        for name, source in shared.items()
        if name not in found
        and any(_imports(one, name.removesuffix(".py")) for one in found.values())
    }:
        found |= missing
    return found


def _python(folder: Traversable) -> dict[str, bytes]:
    files = (path for path in folder.iterdir() if path.name.endswith(".py"))
    return {path.name: path.read_bytes() for path in files}


def _imports(source: bytes, module: str) -> bool:
    return re.search(rf"^(import|from) {module}\b".encode(), source, re.MULTILINE) is not None


def _link_tree(source: Path, target: Path) -> None:
    """Link the files where the file system allows it: an engine may have 100 GB."""
    for folder, folders, files in os.walk(source):
        for name in (*folders, *files):
            if (Path(folder) / name).is_symlink():
                message = f"A part of the bundle is a symbolic link: {Path(folder) / name}"
                raise ConfigurationError(message, why="a link would not survive being shipped")
        here = target / Path(folder).relative_to(source)
        here.mkdir()
        for name in files:
            link_or_copy(Path(folder) / name, here / name)
