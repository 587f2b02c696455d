"""The device's settings: what comes back, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from forge.cli.device.settings import provision
from forge.device import commands
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import (
    LEAST_RATE,
    MAX_MIRRORS,
    DeviceSettings,
    read_settings,
    write_settings,
)
from forge.errors import ConfigurationError, ForgeError, StoreError

ROOT_JSON = b'{"signed": {"_type": "root"}}'


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


def test_a_device_that_is_not_set_up_says_how(home: StateDirectory) -> None:
    with pytest.raises(ConfigurationError, match="is not set up") as caught:
        read_settings(home.path)
    assert caught.value.exit_code == 3
    needed = {option.opts[0] for option in provision.params if option.required}
    assert {*needed, "--state"} <= set(caught.value.hint.split())


def test_provisioned_comes_back_as_written(home: StateDirectory) -> None:
    device = DeviceSettings(store_url="file:///s", name="llm", channel="stable")
    write_settings(home.path, device, b"root")
    assert read_settings(home.path) == (device, b"root")


def test_settings_from_before_there_were_mirrors_are_still_read(tmp_path: Path) -> None:
    commands.provision(tmp_path, str(tmp_path / "store"), ROOT_JSON, "llm", "stable")
    old = {"store_url": "s3://b/p", "name": "llm", "channel": "stable", "profile": None}
    (tmp_path / "device.json").write_text(json.dumps(old))
    device, _ = read_settings(tmp_path)
    assert (device.schema_version, device.mirrors, device.limit_rate) == (1, (), None)
    (tmp_path / "device.json").write_text(json.dumps(old | {"schema_version": 3}))
    with pytest.raises(ConfigurationError, match="schema_version"):
        read_settings(tmp_path)


SETTINGS = DeviceSettings(
    schema_version=2,
    store_url="s3://b/p",
    name="llm",
    channel="stable",
    profile="thor",
    mirrors=("https://a.example.com",) * MAX_MIRRORS,
    limit_rate=LEAST_RATE,
)


def test_every_field_comes_back(home: StateDirectory) -> None:
    write_settings(home.path, SETTINGS, b"root")
    assert read_settings(home.path) == (SETTINGS, b"root")


def test_a_lost_root_is_empty_so_that_a_device_with_a_bundle_keeps_serving(
    home: StateDirectory,
) -> None:
    write_settings(home.path, SETTINGS, b"root")
    (home.path / "root.json").unlink()
    assert read_settings(home.path) == (SETTINGS, b"")


def test_lost_settings_are_not_a_device_whatever_the_root_is(home: StateDirectory) -> None:
    write_settings(home.path, SETTINGS, b"root")
    (home.path / "device.json").unlink()
    with pytest.raises(ConfigurationError, match="is not set up"):
        read_settings(home.path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit_rate": LEAST_RATE - 1},
        {"mirrors": ["https://a.example.com"] * (MAX_MIRRORS + 1)},
        {"store_url": None},
        {"more": 1},
    ],
)
def test_settings_that_are_not_valid_are_refused_with_their_name(
    home: StateDirectory, wrong: dict[str, Any]
) -> None:
    write_settings(home.path, SETTINGS, b"root")
    path = home.path / "device.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | wrong))
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        read_settings(home.path)
    assert next(iter(wrong)) in caught.value.why
    assert f"--state {home.path}" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", bytes([255]) * 9])
def test_a_damaged_file_is_refused(home: StateDirectory, content: bytes) -> None:
    write_settings(home.path, SETTINGS, b"root")
    (home.path / "device.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_settings(home.path)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EIO, StoreError), (errno.EACCES, ConfigurationError)]
)
@pytest.mark.parametrize("name", ["device.json", "root.json"])
def test_a_file_that_the_disk_or_the_kernel_refuses_is_not_a_device_without_settings(
    home: StateDirectory,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[ForgeError],
    name: str,
) -> None:
    write_settings(home.path, SETTINGS, b"root")
    real = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == name:
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(ForgeError, match="cannot be read") as caught:
        read_settings(home.path)
    assert type(caught.value) is kind


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_settings(tmp_path / "file", SETTINGS, b"root")
