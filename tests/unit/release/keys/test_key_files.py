"""Private key files."""

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

from forge.errors import UsageError
from forge.release.keys.key_files import decrypt, generate


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
