"""Encrypted PKCS#8: other programs read it, and guessing its passphrase is expensive."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from forge.release.keys import pkcs8
from forge.release.keys.key_files import decrypt
from forge.release.keys.pkcs8 import ScryptCost, encrypt, is_encrypted, is_private

CHEAP = ScryptCost(n=2**8, r=8, p=1)
PASSPHRASE = "mit Umlauten: äöü".encode()
OPENSSL = shutil.which("openssl")


def keys() -> list[PrivateKeyTypes]:
    return [Ed25519PrivateKey.generate(), generate_private_key(SECP256R1())]


def raw(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("key", keys(), ids=["ed25519", "p256"])
@pytest.mark.parametrize("cost", [CHEAP, ScryptCost(n=2**15, r=1, p=129)], ids=["cheap", "long"])
def test_cryptography_reads_what_is_written(key: PrivateKeyTypes, cost: ScryptCost) -> None:
    data = encrypt(key, PASSPHRASE, cost)
    assert raw(load_pem_private_key(data, PASSPHRASE)) == raw(key)
    with pytest.raises(ValueError, match=r"."):  # what it says depends on the random bytes
        load_pem_private_key(data, b"wrong")
    with pytest.raises(TypeError):
        load_pem_private_key(data, None)
    assert raw(key)[-32:] not in data


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("key", keys(), ids=["ed25519", "p256"])
def test_openssl_reads_a_key_of_the_default_cost(tmp_path: Path, key: PrivateKeyTypes) -> None:
    (tmp_path / "key.pem").write_bytes(encrypt(key, b"words of the test", ScryptCost()))
    shown = subprocess.run(
        [str(OPENSSL), "pkcs8", "-in", "key.pem", "-passin", "pass:words of the test"],
        cwd=tmp_path, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    assert raw(load_pem_private_key(shown.stdout, None)) == raw(key)
    described = subprocess.run(
        [str(OPENSSL), "asn1parse", "-in", "key.pem"],
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    for part in (":PBES2", ":scrypt", ":4000\n", ":08\n", ":05\n", ":aes-256-cbc"):
        assert part in described


def test_default_cost_is_one_of_those_that_owasp_lists() -> None:
    said = subprocess.run(  # this process has a lower one, see tests/support/cheap_keys.py
        [sys.executable, "-c", f"from {pkcs8.__name__} import COST as c; print(c.n, c.r, c.p)"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    assert said.split() == [str(2**14), "8", "5"]


def test_two_files_of_one_key_and_passphrase_differ() -> None:
    (key, _) = keys()
    first, second = (encrypt(key, PASSPHRASE, CHEAP).splitlines() for _ in range(2))
    assert first[0] == second[0]
    assert first[1:-1] != second[1:-1]


def test_file_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    (key, _) = keys()
    old = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"old"))
    (tmp_path / "old.pem").write_bytes(old)
    (tmp_path / "old.pem").chmod(0o600)
    assert raw(decrypt(tmp_path / "old.pem", b"old")) == raw(key)


def test_private_keys_are_told_from_public_ones_and_plain_from_encrypted() -> None:
    (key, _) = keys()
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    secret = encrypt(key, PASSPHRASE, CHEAP)
    assert [is_private(one) for one in (plain, secret, b"-----BEGIN PUBLIC KEY-----")] == [
        True, True, False,
    ]  # fmt: skip
    assert [is_encrypted(one) for one in (plain, secret, plain + secret)] == [False, True, False]
