"""Private key files and their folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.signer import SSlibKey

from forge.errors import ForgeError, UsageError
from forge.release.keys import key_files
from forge.release.keys.key_files import check_folder, decrypt, generate


def test_generated_key_is_encrypted_and_its_entry_describes_it(tmp_path: Path) -> None:
    entry = generate(tmp_path, "online", "online", b"secret")
    private = load_pem_private_key((tmp_path / "online.pem").read_bytes(), b"secret")
    assert isinstance(private, Ed25519PrivateKey)
    assert SSlibKey.from_crypto(private.public_key()) == entry.public_key()
    assert stat.S_IMODE((tmp_path / "online.pem").stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        load_pem_private_key((tmp_path / "online.pem").read_bytes(), None)


def test_model_key_is_p256_with_its_public_key_in_a_file(tmp_path: Path) -> None:
    entry = generate(tmp_path, "model", "model", b"secret")
    private = decrypt(tmp_path / "model.pem", b"secret")
    assert isinstance(private, EllipticCurvePrivateKey)
    assert isinstance(private.curve, SECP256R1)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert (tmp_path / "model.pub.pem").read_bytes().strip() == pem.strip()
    assert entry.public.strip() == pem.decode().strip()


def test_two_generated_keys_differ(tmp_path: Path) -> None:
    first, second = (generate(tmp_path, name, "root", b"secret") for name in ("a", "b"))
    assert first.keyid != second.keyid


def test_wrong_passphrase_names_the_key_and_the_sources_of_a_passphrase(tmp_path: Path) -> None:
    generate(tmp_path, "online", "online", b"secret")
    with pytest.raises(UsageError, match=f"Cannot open the key {tmp_path}/online.pem") as caught:
        decrypt(tmp_path / "online.pem", b"wrong")
    assert caught.value.exit_code == 2
    assert "FORGE_PASSPHRASE_FILE" in caught.value.hint


def test_file_that_is_not_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_bytes(b"not a key")
    (tmp_path / "x.pem").chmod(0o600)
    with pytest.raises(UsageError, match="Cannot open the key"):
        decrypt(tmp_path / "x.pem", b"secret")


@pytest.mark.parametrize("folder", ["store", "store/keys", "store/a/b", "link"])
def test_folder_inside_the_store_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with pytest.raises(UsageError, match="Keys must not be inside the store") as caught:
        check_folder(tmp_path / folder, str(tmp_path / "store"))
    assert "outside" in caught.value.hint


@pytest.mark.parametrize("folder", ["keys", "store-keys", "a/b/c"])
def test_folder_outside_the_store_is_accepted(tmp_path: Path, folder: str) -> None:
    check_folder(tmp_path / folder, str(tmp_path / "store"))
    check_folder(tmp_path / folder)


def test_machine_without_git_tracks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_folder(tmp_path / "keys")


def test_git_that_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(key_files, "_GIT_TIMEOUT_S", 0.01)
    with pytest.raises(ForgeError, match="git did not answer"):
        check_folder(tmp_path / "keys")
