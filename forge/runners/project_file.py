"""`forge.yaml` in the project folder: profiles to build by default, runners, trusted builders.

Every key is optional, and so is the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from forge.errors import ConfigurationError
from forge.store.formats.signed_result import BuilderName
from forge.trust.builders import TrustedBuilder
from forge.validation import validation_text, yaml_text

__all__ = ["DEFAULT_BASE", "FILE", "Engines", "ProjectFile", "read_project_file"]

FILE: Final = "forge.yaml"
DEFAULT_BASE: Final = "docker.io/library/python:{python}-slim-bookworm"
_MAX_BYTES: Final = 64 * 1024

_Platform = Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]+$")]
_Address = Annotated[str, StringConstraints(pattern=r"^(unix:///|tcp://[^/]+:\d+$)")]
Engines = dict[_Platform, _Address]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DaggerSection(_Strict):
    """Settings of the dagger runner; `forge.runners.dagger.settings` says what they mean."""

    engines: Engines = {}
    base: str = DEFAULT_BASE
    labels: list[str] = []


class RunnersSection(_Strict):
    """Settings by runner."""

    dagger: DaggerSection = DaggerSection()


class ProjectFile(_Strict):
    """The parsed file.

    Attributes:
        profiles: what `forge plan|run|why|matrix` take without --profile; None: all profiles.
        builders: whose results are used; None in a project whose results are not signed.
    """

    profiles: list[str] | None = Field(default=None, min_length=1)
    runners: RunnersSection = RunnersSection()
    builders: dict[BuilderName, TrustedBuilder] | None = Field(default=None, min_length=1)


def read_project_file(root: Path) -> ProjectFile:
    """Return the settings of the project in a folder.

    Raises:
        ConfigurationError: the file cannot be read or is not valid; its name is in the message.
    """
    import yaml

    from forge import yaml_loader

    path = root / FILE
    try:
        data = path.read_bytes() if path.exists() else b""
        if len(data) > _MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than {_MAX_BYTES} bytes")
        return ProjectFile.model_validate(yaml_loader.load(data.decode()) or {})
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    except yaml.YAMLError as error:
        why = yaml_text(error)
    except ValidationError as error:
        why = validation_text(error)
    raise ConfigurationError(
        f"{path} is not valid",
        why=why,
        hint="see docs/reference/runners.md, docs/reference/profile.md and"
        " docs/how-to/sign-results.md",
    )
