"""`dockerfiles/bases.yaml`: the base images by name, each pinned by digest.

    python-3.11:
      reference: docker.io/library/python:3.11-slim-bookworm
      digest: null            # or sha256:…, written by `forge images update`
      platforms: [linux/amd64, linux/arm64]

A reference may start with `http://` for a registry without TLS, for tests.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from forge.errors import ConfigurationError
from forge.images.platforms import Platform
from forge.validation import validation_text, yaml_text

__all__ = ["FILE", "Base", "Bases", "read_bases", "rewrite"]

FILE: Final = "bases.yaml"
_MAX_BYTES: Final = 256 * 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_HTTP: Final = "http://"


class Base(BaseModel):
    """One base image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: str = Field(
        pattern=r"^(http://)?[a-z0-9.:-]+(/[a-z0-9._-]+)+:[A-Za-z0-9._-]{1,128}$"
    )
    digest: str | None = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    platforms: tuple[Platform, ...] = Field(min_length=1)

    @property
    def tagged(self) -> str:
        """Return the reference without its scheme: `registry/name:tag`."""
        return self.reference.removeprefix(_HTTP)

    @property
    def plain_http(self) -> bool:
        """Return whether the registry does not use TLS."""
        return self.reference.startswith(_HTTP)

    @property
    def pinned(self) -> str | None:
        """Return `registry/name@sha256:…`, or None without a digest."""
        if self.digest is None:
            return None
        return f"{self.tagged.rpartition(':')[0]}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Bases:
    """All base images of a project, by name."""

    by_name: Mapping[str, Base]

    def get(self, name: str) -> Base:
        """Return a base image. Raises ConfigurationError with the known names."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name))
            raise ConfigurationError(
                f"No base image {name!r} in {FILE}", hint=f"known base images: {known}"
            )
        return self.by_name[name]

    def find(self, image: str) -> str | None:
        """Return the name of a base, given its name or its reference with tag; None if unknown."""
        if image in self.by_name:
            return image
        names = (name for name, base in self.by_name.items() if base.tagged == image)
        return next(names, None)

    def by_digest(self, image: str) -> str:
        """Return a base image by digest, or by tag if it has none; other images are unchanged."""
        name = self.find(image)
        if name is None:
            return image
        base = self.by_name[name]
        return base.pinned or base.tagged


def read_bases(dockerfiles: Path) -> Bases:
    """Read bases.yaml in a folder. Raises ConfigurationError."""
    path = dockerfiles / FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read", why=str(error)) from None
    return _parse(text, path)


@functools.lru_cache(maxsize=4)  # each image of a plan asks for it
def _parse(text: str, path: Path) -> Bases:
    import yaml

    from forge import yaml_loader

    try:
        found = TypeAdapter(dict[str, Base]).validate_python(yaml_loader.load(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML", why=yaml_text(error)) from None
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not valid", why=validation_text(error)) from None
    for name in found:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{path}: {name!r} is not a valid name: use a-z, 0-9, '.' and '-'"
            )
    return Bases(found)


def rewrite(text: str, digests: Mapping[str, str]) -> str:
    """Return the text of bases.yaml with new digests; comments and layout are kept.

    Raises ConfigurationError if a base has no separate `digest:` line.
    """
    lines = text.splitlines(keepends=True)
    current = ""
    left = dict(digests)
    for index, line in enumerate(lines):
        if heading := re.match(r"([a-z0-9][a-z0-9.-]*):\s*(#.*)?$", line):
            current = heading[1]
        elif current in left and (found := re.match(r"(\s+digest:[ \t]*)[^\s#]+(.*\s*)$", line)):
            lines[index] = f"{found[1]}{left.pop(current)}{found[2]}"
    if left:
        hint = "add a separate line: `  digest: null`"
        raise ConfigurationError(f"{FILE} has no digest line for {', '.join(left)}", hint=hint)
    return "".join(lines)
