"""Optional dependencies of Forge: `forge-release[build]`, `[s3]`, `[dagger]`, `[otel]`.

A device needs only `forge-release`. Packages of an extra are imported inside `needs_extra`, whose
error names the command to install them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from importlib import metadata
from typing import Literal

from forge.errors import ConfigurationError

__all__ = ["Extra", "needs_extra", "versions"]

Extra = Literal["build", "dagger", "otel", "s3"]
"""The keys of [project.optional-dependencies] in pyproject.toml."""


@contextlib.contextmanager
def needs_extra(extra: Extra, purpose: str) -> Iterator[None]:
    """Raise an ImportError of the body as ConfigurationError with the command to install the extra.

    Args:
        extra: name of the extra in pyproject.toml.
        purpose: what needs it; the subject of the message.

    Raises:
        ConfigurationError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "forge":  # a bug in Forge
            raise
        raise ConfigurationError(
            f"{purpose} requires the extra {extra!r}",
            why=f"the package {package} is not installed",
            hint=f"pip install 'forge-release[{extra}]'",
        ) from None


def versions(extra: Extra, *packages: str) -> dict[str, str]:
    """Return the installed version of each package. Raises ConfigurationError as `needs_extra`."""
    with needs_extra(extra, "This pipeline"):  # PackageNotFoundError is a ModuleNotFoundError
        return {package: _version(package) for package in packages}


@functools.cache  # each call parses the package's whole metadata, for every step of a plan
def _version(package: str) -> str:
    return metadata.version(package)
