"""What an SBOM says of a model: where it comes from, its licence, its types, what calibrated it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.bundle import Digest
from forge.errors import ConfigurationError
from forge.trust.proofs import engine_folder
from forge.validation import validation_text

__all__ = ["BaseModelFacts", "Calibration", "EngineModel", "SbomSettings", "read_engine_model"]

_MAX_BYTES: Final = 1024 * 1024


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseModelFacts(_Settings):
    """The checkpoint that a model was built from."""

    scheme: Literal["pypi", "hf", "s3", "file"]
    source: str = Field(description="package==version, repository@commit, bucket/prefix or path")
    sha256: Digest | None = Field(description="of its files; null: not pinned")
    licence: str | None = Field(description="SPDX id or name; null: not stated")
    architecture: str | None
    quantisation: tuple[str, ...] | None = Field(description="types of its weights; null: unknown")

    @property
    def name(self) -> str:
        """Return its name without the version."""
        return self.source.partition("==")[0] if self.scheme == "pypi" else self._named[0]

    @property
    def version(self) -> str:
        """Return its version or commit; that of other places is the digest."""
        if self.scheme == "pypi":
            return self.source.partition("==")[2]
        return self._named[1] or (self.sha256 or "")

    @property
    def _named(self) -> tuple[str, str]:
        source, _, commit = self.source.partition("@") if self.scheme == "hf" else (
            self.source, "", ""
        )  # fmt: skip
        return source, commit


class Calibration(_Settings):
    """The texts that quantisation was calibrated with."""

    name: str
    sha256: Digest


class SbomSettings(_Settings):
    """Settings of the SBOM's step."""

    base: BaseModelFacts | None = None
    calibration: Calibration | None = None


class _Precision(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    asked: str | None = None
    found: str | None = None


class EngineModel(BaseModel):
    """The parts of engine.json that describe the model; a builder may leave them out."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    precision: _Precision = _Precision()
    model: dict[str, Any] = {}

    @property
    def architecture(self) -> str | None:
        """Return the model's architecture, if the builder wrote it."""
        found = self.model.get("architecture")
        return found if isinstance(found, str) else None


def read_engine_model(repository: Path) -> EngineModel:
    """Return what engine.json of a model repository says; nothing if it has none.

    Raises ConfigurationError if the file is not valid.
    """
    path = engine_folder(repository) / "engine.json"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        return EngineModel.model_validate_json(data)
    except FileNotFoundError:
        return EngineModel()
    except ValidationError as error:
        raise ConfigurationError("engine.json is not valid", why=validation_text(error)) from None
