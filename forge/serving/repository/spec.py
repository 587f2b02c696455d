"""`serving.json`: how a rendered model repository is served. Written by render, read by devices.

    TREE/serving.json
    TREE/models/<model>/config.pbtxt
    TREE/models/<model>/1/model.py         and what it imports: Triton puts this folder on its path
    TREE/models/<model>/1/engine/…         the engine, hard-linked from the builder's output
    TREE/models/<embedding.model>/…        the same of an embedding model, if the bundle holds one
    TREE/runtime/requirements.lock         what the server's environment is made from

A tree can be moved: nothing in it is an absolute path.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from forge import canonical
from forge.errors import ConfigurationError
from forge.files import check_relative_path, write_durably
from forge.profiles import GoldenSection, ProbeSection, ServingSection
from forge.store.disk_errors import WRONG_FILE, disk_error
from forge.validation import validation_text

__all__ = [
    "EMBEDDING_NAME",
    "ENGINE_FILE",
    "IMAGE_FILE",
    "LOCK_PATH",
    "MODELS_FOLDER",
    "SPEC_FILE",
    "WHEELS_PATH",
    "CompileOnDevice",
    "EmbeddingEngineFacts",
    "EmbeddingFacts",
    "EmbeddingSpec",
    "EngineFacts",
    "EngineSettings",
    "ImageFacts",
    "RenderSettings",
    "Spec",
    "read_document",
    "read_spec",
    "write_spec",
]

SPEC_FILE: Final = "serving.json"
ENGINE_FILE: Final = "engine.json"
IMAGE_FILE: Final = "image.json"
MODELS_FOLDER: Final = "models"
LOCK_PATH: Final = "runtime/requirements.lock"
WHEELS_PATH: Final = "runtime/wheels"
"""Wheels of the lock, in bundles that need no package index."""
EMBEDDING_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What an embedding model may be called: also by a URL's path of the API."""
MAX_DOCUMENT_BYTES: Final = 1024 * 1024

_UNCHECKED: Final = ProbeSection(ttft_ms_max=None, output_tokens_per_s_min=None)

ModelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_T = TypeVar("_T", bound=BaseModel)


class CompileOnDevice(_Document):
    """An engine that only the device can compile, from files of the tree's `engine/`."""

    tool: str = Field(pattern=r"^[A-Za-z][\w.-]{0,63}$", description="a program, never a path")
    arguments: tuple[str, ...] = Field(description="with ${source} and ${engine}", max_length=64)
    source: str = Field(description="folder of engine/ that is compiled")
    produces: tuple[str, ...] = Field(min_length=1, description="files the compiler must write")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="of what is compiled")
    memory_mib: int = Field(ge=0, description="memory the compiler needs, MiB")
    disk_mib: int = Field(ge=0, description="size of the engine, about, MiB")
    timeout_s: float = Field(gt=0, le=24 * 3600)


class EngineFacts(BaseModel):
    """The parts of a builder's engine.json that serving needs; builders may write more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    builder: str
    runtime: dict[str, str] = Field(description="exact versions the engine is bound to")
    compile_on_device: CompileOnDevice | None = None


class EmbeddingFacts(BaseModel):
    """What an embedding model is, as its checkpoint states it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dimensions: int = Field(ge=1, le=65_536, description="numbers in a vector")
    max_seq_len: int = Field(ge=2, description="longest text, tokens, with those added to it")
    pooling: Literal["mean", "cls"] = Field(description="how the tokens' vectors become one")
    normalize: bool = Field(description="whether vectors have length 1")


class EmbeddingEngineFacts(BaseModel):
    """The parts of an embedding model's engine.json that serving needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    builder: str
    runtime: dict[str, str] = Field(description="exact versions the engine is bound to")
    embedding: EmbeddingFacts


class EmbeddingSpec(EmbeddingFacts):
    """The embedding model of a tree, with limits of its own."""

    name: str = Field(pattern=EMBEDDING_NAME, description="as clients of the API call it")
    model: ModelName = Field(description="its name in Triton")
    max_batch_size: int = Field(ge=1, le=1024, description="texts computed together")
    max_inputs: int = Field(ge=1, le=65_536, description="texts of one request")


class ImageFacts(BaseModel):
    """The part of an image's image.json that serving needs; the images pipeline writes more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reference: str = Field(description="registry/name@sha256:…")


class EngineSettings(_Document):
    """Fields of a profile's `engine` that limit serving."""

    max_batch_size: int = Field(ge=1, le=1024)
    max_input_len: int = Field(ge=1)
    max_seq_len: int = Field(ge=2)


class _ServingSettings(ServingSection):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    python: str = "3.11"


class _SmokeSettings(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    golden: tuple[GoldenSection, ...] = ()


class _EngineSection(EngineSettings):
    model_config = ConfigDict(extra="ignore", frozen=True)

    builder: str | None = None


class RenderSettings(BaseModel):
    """The profile fields that `render` reads, nested as in a profile."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    engine: _EngineSection
    serving: _ServingSettings
    smoke: _SmokeSettings = _SmokeSettings()

    def served_in(self, image: ImageFacts) -> RenderSettings:
        """Return these settings with the image that was just built."""
        serving = self.serving.model_copy(update={"image": image.reference})
        return self.model_copy(update={"serving": serving})


class Spec(_Document):
    """How to serve one rendered tree."""

    schema_version: Literal[1] = 1
    model: ModelName
    server: Literal["environment", "container"]
    environment: str | None = Field(description="name of the environment that holds Triton")
    python: str = Field(pattern=r"^3\.\d{1,2}$", description="version of its interpreter")
    lock: str | None = Field(description="path of its lock in the tree")
    image: str | None = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_./:-]{0,254}@sha256:[0-9a-f]{64}$",
        description="container image that holds Triton, by digest",
    )
    repository: str = Field(description="path of Triton's model repository in the tree")
    builder: str
    runtime: dict[str, str] = Field(description="exact versions the engine is bound to")
    max_batch_size: int = Field(ge=1, description="sequences decoded together")
    max_input_len: int = Field(ge=1, description="longest prompt, tokens")
    max_seq_len: int = Field(ge=2, description="prompt and answer together, tokens")
    default_max_tokens: int = Field(ge=1)
    settings: dict[str, JsonValue] = Field(
        default={},
        description="a profile's RuntimeSection; rendered as the model's parameters, not written",
    )
    start_timeout_s: float = Field(gt=0, description="until the model must be ready, s")
    golden: tuple[GoldenSection, ...] = Field(description="prompts whose answers are known")
    probe: ProbeSection = Field(_UNCHECKED, description="how slow their answers may be")
    compile_on_device: CompileOnDevice | None = Field(
        None, description="null: the tree holds the engine itself"
    )
    embedding: EmbeddingSpec | None = Field(
        default=None, description="the bundle's second model; absent: it has none"
    )

    @property
    def models(self) -> tuple[str, ...]:
        """Return the names in Triton of all models."""
        return (self.model, *((self.embedding.model,) if self.embedding else ()))


def read_spec(tree: Path) -> Spec:
    """Read the spec of a rendered tree. Raises ConfigurationError, StoreError."""
    spec = read_document(tree / SPEC_FILE, Spec)
    compiled = spec.compile_on_device
    inner = (compiled.source, *compiled.produces) if compiled else ()
    for path in filter(None, (spec.repository, spec.lock, *inner)):
        check_relative_path(path)
    return spec


def write_spec(tree: Path, spec: Spec) -> None:
    """Write `serving.json`, canonical, so that equal specs make equal trees."""
    # The model reads its settings from config.pbtxt, and a device of an earlier version refuses a
    # document with a field that it does not know.
    unwritten = {"settings"} if spec.embedding else {"settings", "embedding"}
    document = spec.model_dump(mode="json", exclude=unwritten)
    write_durably(tree / SPEC_FILE, canonical.dumps(document) + b"\n")


def read_document(path: Path, model: type[_T]) -> _T:
    """Read and check one JSON file.

    Raises:
        ConfigurationError: the file is missing or not valid; it names the field.
        StoreError: the disk failed; the file may be valid.
    """
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_DOCUMENT_BYTES} bytes")
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        if error.errno not in WRONG_FILE:
            raise disk_error(f"{path.name} cannot be read", str(path), error) from None
        raise ConfigurationError(f"{path.name} cannot be read", why=str(error)) from None
    except ValidationError as error:
        raise ConfigurationError(f"{path.name} is not valid", why=validation_text(error)) from None
