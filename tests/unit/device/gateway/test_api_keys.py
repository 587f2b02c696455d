"""API keys: what a file may hold, who is known, and where none are needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from forge.device.gateway.api_keys import ApiKeys, KeyFile, read_keys, require_keys
from forge.device.gateway.config import GatewayConfig
from forge.errors import ConfigurationError, UsageError


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def test_a_key_is_known_by_its_digest(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        f"# who may ask\n\ncamera {sha('secret')}  # in the hall\nkiosk\t{sha('other')}\n"
    )
    keys = read_keys(path)
    assert keys.name_of(b"secret") == "camera"
    assert keys.name_of(b"other") == "kiosk"
    assert keys.name_of(sha("secret").encode()) is None
    assert keys.name_of(b"") is None


@pytest.mark.parametrize(
    "content", [b"", b"# none\n", b"camera secret\n", b"camera\n", b"\xff\xfe", b"x" * 2_000_000]
)
def test_a_file_that_is_wrong_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_keys(path)
    assert "camera secret" not in str(caught.value)
    assert "sha256sum" in caught.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        GatewayConfig(keys_file=tmp_path / "nothing").keys()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "device.lan", ""])  # noqa: S104
def test_strangers_need_a_key_unless_somebody_says_they_do_not(host: str) -> None:
    with pytest.raises(UsageError, match="could use this device"):
        GatewayConfig(host).keys()
    assert GatewayConfig(host, open_to_all=True).keys() is None
    require_keys(host, ApiKeys((("camera", b"x"),)), open_to_all=False)


def test_a_key_is_revoked_by_changing_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"camera {sha('secret')}\nkiosk {sha('other')}\n")
    keys = KeyFile(path)
    assert keys.name_of(b"secret") == "camera"
    path.write_text(f"kiosk {sha('other')}\n")
    assert keys.name_of(b"secret") is None
    assert keys.name_of(b"other") == "kiosk"
    assert caplog.messages == ["the API keys have changed: 1 are valid"]


@pytest.mark.parametrize("content", [None, "", "camera secret\n"])
def test_a_file_that_has_become_wrong_changes_nothing_and_is_logged_once(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"camera {sha('secret')}\n")
    keys = KeyFile(path)
    path.unlink() if content is None else path.write_text(content)
    assert keys.name_of(b"secret") == "camera"
    assert keys.name_of(b"other") is None
    [message] = caplog.messages
    assert message.startswith("the API keys are unchanged")
