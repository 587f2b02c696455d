"""What `forge device provision` writes: where updates come from, and the trusted root."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.device.state import disk_errors
from forge.errors import ConfigurationError
from forge.files import write_durably
from forge.validation import validation_text

__all__ = [
    "GPU_PATTERN",
    "LEAST_RATE",
    "MAX_MIRRORS",
    "DeviceSettings",
    "place",
    "read_settings",
    "write_settings",
]

MAX_MIRRORS: Final = 8
LEAST_RATE: Final = 1024
GPU_PATTERN: Final = r"(GPU|MIG)-[0-9A-Za-z/-]{1,80}|[0-9]{1,3}"  # a UUID or a number


class DeviceSettings(BaseModel):
    """Where this device's updates come from, and which.

    `schema_version` is 1 in files from before there were mirrors, which do not have it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1, 2] = 1
    store_url: str
    name: str
    channel: str
    profile: str | None = None
    mirrors: tuple[str, ...] = Field(default=(), max_length=MAX_MIRRORS)
    limit_rate: int | None = Field(default=None, ge=LEAST_RATE)  # bytes a second
    gpu: str | None = Field(default=None, pattern=f"^({GPU_PATTERN})$")  # the only one that counts


def place(url: str) -> str:
    """Return where a store is as the settings name it: its URL, or an absolute path."""
    return url if "://" in url else str(Path(url).expanduser().absolute())


def write_settings(path: Path, settings: DeviceSettings, root_bytes: bytes) -> None:
    """Write settings and root metadata to a state directory, durably.

    Raises:
        StoreError: the disk is full or fails.
        ConfigurationError: it cannot be written for another reason.
    """
    try:
        write_durably(path / "root.json", root_bytes)
        # Older agents do not know the field: it is there only where it says something.
        unsaid = {"gpu"} if settings.gpu is None else None
        document = canonical.dumps(settings.model_dump(exclude=unsaid))
        write_durably(path / "device.json", document)
    except OSError as error:
        raise disk_errors.unwritable(path, error) from None


def read_settings(path: Path) -> tuple[DeviceSettings, bytes]:
    """Read settings and root metadata of a state directory.

    A root that is lost is empty: the TUF client refuses it and says what to do, and a device that
    has a bundle keeps serving it.

    Raises:
        ConfigurationError: the device is not set up, or its settings cannot be read.
        StoreError: the disk fails.
    """
    command = "forge device provision --store URL --root root.json --name NAME"
    hint = f"{command} --state {path}"
    try:
        settings = DeviceSettings.model_validate_json((path / "device.json").read_bytes())
        root = path / "root.json"
        return settings, root.read_bytes() if root.exists() else b""
    except FileNotFoundError:
        message = f"The device in {path} is not set up"
        raise ConfigurationError(message, hint=hint) from None
    except OSError as error:
        raise disk_errors.unreadable(path, error) from None
    except ValidationError as error:
        message = f"The device's settings in {path} cannot be read"
        raise ConfigurationError(message, why=validation_text(error), hint=hint) from None
