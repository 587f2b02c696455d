"""The documents of a keyring."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from forge.errors import UsageError
from forge.release.keys.model import Expiry, KeyEntry, KeysFile, read_capped

PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = SSlibKey.from_crypto(PRIVATE.public_key())
ENTRY = KeyEntry(
    name="online",
    role="online",
    uri="file:online.pem",
    keyid=PUBLIC.keyid,
    keytype=PUBLIC.keytype,
    scheme=PUBLIC.scheme,
    public=PUBLIC.keyval["public"],
)


def test_public_key_of_an_entry_verifies_what_its_private_key_signed() -> None:
    signature = CryptoSigner(PRIVATE, PUBLIC).sign(b"payload")
    ENTRY.public_key().verify_signature(signature, b"payload")
    assert ENTRY.public_key() == PUBLIC


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Online"},
        {"name": "-online"},
        {"name": "a" * 42},
        {"role": "snapshot"},
        {"uri": "online.pem"},
        {"uri": "file:"},
        {"keyid": "abc"},
        {"extra": 1},
    ],
)
def test_entry_that_is_not_valid_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KeyEntry.model_validate(ENTRY.model_dump() | change)


def test_each_role_has_its_own_validity_in_days() -> None:
    expiry = Expiry(root=1, targets=2, bundles=3, channels=4, snapshot=5, timestamp=6)
    roles = ("root", "targets", "bundles", "channels", "snapshot", "timestamp")
    assert [expiry.of(role) for role in roles] == [timedelta(days=n) for n in range(1, 7)]


@pytest.mark.parametrize("days", [0, -1])
def test_validity_below_a_day_is_refused(days: int) -> None:
    with pytest.raises(ValidationError):
        Expiry(timestamp=days)


def test_keys_file_is_canonical_json_and_round_trips() -> None:
    file = KeysFile(created="2026-11-24T04:00:00Z", expiry_days=Expiry(), keys=(ENTRY,))
    data = file.encode()
    assert KeysFile.model_validate_json(data) == file
    naive = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert data == naive.encode()


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"keys": [{}]}, {"other": 1}])
def test_keys_file_of_another_schema_is_refused(change: dict[str, object]) -> None:
    file = KeysFile(created="2026-11-24T04:00:00Z", expiry_days=Expiry(), keys=())
    with pytest.raises(ValidationError):
        KeysFile.model_validate(file.model_dump() | change)


@pytest.mark.parametrize(("size", "accepted"), [(0, True), (1024 * 1024, True), (1048577, False)])
def test_file_of_at_most_one_mebibyte_is_read(tmp_path: Path, size: int, accepted: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    if accepted:
        assert hashlib.sha256(read_capped(path)).digest() == hashlib.sha256(b"x" * size).digest()
        return
    with pytest.raises(UsageError, match=r"is larger than 1048576 bytes") as caught:
        read_capped(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["missing", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"Cannot read {tmp_path}"):
        read_capped(tmp_path / name)
