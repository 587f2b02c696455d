"""The gateway's configuration: keys, names in the Host header, length of the queue."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from forge.device.gateway.config import GatewayConfig, QueueRules


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_this_machine_needs_none(host: str) -> None:
    assert GatewayConfig(host).keys() is None


def test_only_an_open_loopback_is_choosy_about_its_name(tmp_path: Path) -> None:
    own = frozenset({"localhost", "127.0.0.1", "[::1]"})
    assert GatewayConfig().hosts == own
    assert GatewayConfig("127.8.8.8").hosts == own | {"127.8.8.8"}
    assert GatewayConfig(keys_file=tmp_path).hosts is None
    assert GatewayConfig("192.168.1.5", open_to_all=True).hosts is None


@pytest.mark.parametrize(("per_place", "places", "length"), [
    (8, 1, 8), (8, 4, 32), (0, 4, 0), (8, 128, 1024), (8, 129, 1024), (8, 100_000, 1024),
])  # fmt: skip
def test_the_queue_grows_with_the_places_up_to_a_bound(
    per_place: int, places: int, length: int
) -> None:
    assert QueueRules(per_place=per_place).length(places) == length


def test_an_ipv6_address_is_named_in_brackets_as_a_host_header_has_it() -> None:
    hosts = GatewayConfig("::1").hosts
    assert hosts is not None
    assert "[::1]" in hosts
    assert "::1" not in hosts


def test_keys_are_those_of_the_file_and_changes_are_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"camera {hashlib.sha256(b'secret').hexdigest()}\n")
    keys = GatewayConfig("192.168.1.5", keys_file=path).keys()
    assert keys is not None
    assert (keys.name_of(b"secret"), keys.name_of(b"other")) == ("camera", None)
    assert caplog.messages == []
    path.write_text(f"kiosk {hashlib.sha256(b'other').hexdigest()} # another\n")
    assert (keys.name_of(b"secret"), keys.name_of(b"other")) == (None, "kiosk")
    assert caplog.messages == ["the API keys have changed: 1 are valid"]
