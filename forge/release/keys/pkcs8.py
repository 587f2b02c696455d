"""Encrypt a private key as PKCS#8, with scrypt (RFC 5958, RFC 8018 and RFC 7914).

`cryptography` encrypts PKCS#8 with 2048 rounds of PBKDF2 only, which a stolen file's thief computes
in microseconds. The cost here is one of those that OWASP's Password Storage Cheat Sheet lists as
equal (N=2^14, r=8, p=5); of these it is the one whose 16 MiB are within the limit of `openssl`, so
that other tools can read the files. Reading a file takes about 0.3 s.
"""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["LABEL", "ScryptCost", "encrypt", "is_encrypted", "is_private", "uses_scrypt"]

LABEL: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
# Object identifiers, encoded: 1.2.840.113549.1.5.13, 1.3.6.1.4.1.11591.4.11,
# 2.16.840.1.101.3.4.1.42.
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_SALT_BYTES: Final = 16
_BLOCK_BYTES: Final = 16
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Parameters of scrypt; memory is `128 * n * r` bytes."""

    n: int = 2**14
    r: int = 8
    p: int = 5


COST = ScryptCost()  # of new files


def encrypt(key: PrivateKeyTypes, passphrase: bytes, cost: ScryptCost | None = None) -> bytes:
    """Return a private key as a PEM file that `passphrase` decrypts.

    Args:
        key: the private key.
        passphrase: not empty.
        cost: of each attempt to guess the passphrase; `COST` by default.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    cost = cost or COST
    salt, vector = os.urandom(_SALT_BYTES), os.urandom(_BLOCK_BYTES)
    secret = hashlib.scrypt(
        passphrase, salt=salt, n=cost.n, r=cost.r, p=cost.p, dklen=_KEY_BYTES,
        maxmem=2 * 128 * cost.n * cost.r,
    )  # fmt: skip
    derivation = _sequence(
        _SCRYPT,
        _sequence(_der(_OCTETS, salt), _integer(cost.n), _integer(cost.r), _integer(cost.p)),
    )
    cipher = _sequence(_AES_256_CBC, _der(_OCTETS, vector))
    algorithm = _sequence(_PBES2, _sequence(derivation, cipher))
    document = _sequence(algorithm, _der(_OCTETS, _aes(secret, vector, plain)))
    return _pem(document)


def is_private(data: bytes) -> bool:
    """Return whether a PEM file has a private key, encrypted or not."""
    return b"PRIVATE KEY-----" in data


def is_encrypted(data: bytes) -> bool:
    """Return whether all private keys of a PEM file are encrypted, as PKCS#8."""
    return data.count(b"PRIVATE KEY-----") == data.count(b" ENCRYPTED PRIVATE KEY-----")


def uses_scrypt(data: bytes) -> bool:
    """Return whether a PEM file is encrypted as `encrypt` does."""
    body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----"))
    try:
        return _SCRYPT in base64.b64decode(body, validate=True)
    except ValueError:
        return False


def _aes(secret: bytes, vector: bytes, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    left = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
    encryptor = Cipher(AES(secret), CBC(vector)).encryptor()
    return encryptor.update(plain + bytes([left]) * left) + encryptor.finalize()


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:  # noqa: PLR2004  X.690, 8.1.3: one byte up to 127, else the count of bytes first
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*items: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(items))


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))  # the highest bit is a sign


def _pem(document: bytes) -> bytes:
    text = "\n".join(textwrap.wrap(base64.b64encode(document).decode(), 64))
    return LABEL + b"\n" + text.encode() + b"\n" + LABEL.replace(b"BEGIN", b"END") + b"\n"
