"""Change the passphrase of key files."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from forge.errors import UsageError
from forge.release.keys.change import change_passphrase
from forge.release.keys.folder_files import read_files
from forge.release.keys.key_files import WrongPassphraseError, decrypt
from forge.release.keys.keyring import Keyring
from forge.release.keys.pkcs8 import uses_scrypt
from tests.support.release_world import PASSPHRASE, World

NEW = "seven entirely different words"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def test_all_keys_have_the_new_passphrase_and_not_the_old(world: World) -> None:
    names = [entry.name for entry in world.ring().file.keys]
    assert change_passphrase(world.ring(), [], NEW) == names
    for name in names:
        path = world.keys / f"{name}.pem"
        decrypt(path, NEW.encode())
        with pytest.raises(WrongPassphraseError):
            decrypt(path, PASSPHRASE.encode())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert change_passphrase(Keyring(world.keys, lambda: NEW), [], NEW) == []


def test_one_key_gets_a_passphrase_of_its_own(world: World) -> None:
    assert change_passphrase(world.ring(), ["root-2"], NEW) == ["root-2"]
    decrypt(world.keys / "root-2.pem", NEW.encode())
    decrypt(world.keys / "root-1.pem", PASSPHRASE.encode())


def test_interrupted_change_is_completed_with_the_old_passphrase(world: World) -> None:
    change_passphrase(world.ring(), ["root-1", "online"], NEW)
    done = change_passphrase(world.ring(), [], NEW)
    assert {"root-1", "online"}.isdisjoint(done)
    assert change_passphrase(world.ring(), [], NEW) == []


def test_file_of_an_earlier_version_is_encrypted_anew_with_the_same_passphrase(
    world: World,
) -> None:
    ring = world.ring()
    key = ring.private_key(ring.entries("online")[0])
    words = BestAvailableEncryption(PASSPHRASE.encode())
    path = world.keys / "online.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, words))
    assert not uses_scrypt(path.read_bytes())
    assert change_passphrase(world.ring(), [], PASSPHRASE) == ["online"]
    assert uses_scrypt(path.read_bytes())
    decrypt(path, PASSPHRASE.encode())


def test_wrong_passphrase_of_one_key_changes_none(world: World) -> None:
    change_passphrase(world.ring(), ["model"], "another one of five words")
    before = read_files(world.keys)
    with pytest.raises(UsageError, match=r"Cannot open the key .*model\.pem"):
        change_passphrase(world.ring(), [], NEW)
    assert read_files(world.keys) == before


@pytest.mark.parametrize("new", ["short", "my-release 123456"])
def test_weak_passphrase_is_refused(world: World, new: str) -> None:
    before = read_files(world.keys)
    with pytest.raises(UsageError, match="too weak"):
        change_passphrase(world.ring(), [], new, ["my-release"])
    assert read_files(world.keys) == before


def test_key_without_a_file_is_named(world: World) -> None:
    (world.keys / "root-1.pem").unlink()
    for name in ("root-1", "nosuch"):
        with pytest.raises(UsageError, match=f"no key file of '{name}'") as caught:
            change_passphrase(world.ring(), [name], NEW)
        assert "root-2" in caught.value.hint
