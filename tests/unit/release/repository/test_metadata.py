"""Sign and verify one document."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, Signature, Signer, SSlibKey
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets, Timestamp

from forge.errors import ForgeError, UsageError
from forge.release.repository.metadata import holds, meta_file, other_keys_error, sign, verify
from forge.trust.layout import max_metadata_bytes
from tests.support.release_world import NOW

SIGNERS: list[Signer] = [CryptoSigner(one, SSlibKey.from_crypto(one.public_key())) for one in
           (Ed25519PrivateKey.generate() for _ in range(3))]  # fmt: skip


def root(*signers: Signer, threshold: int = 1) -> Root:
    made = Root(expires=NOW)
    for role in ("timestamp", "targets"):
        for signer in signers:
            made.add_key(signer.public_key, role)
        made.roles[role].threshold = threshold
    return made


def test_signed_bytes_are_what_python_tuf_verifies() -> None:
    data = sign(Timestamp(expires=NOW), [SIGNERS[0]], root(SIGNERS[0]), "timestamp")
    metadata = Metadata[Timestamp].from_bytes(data)
    root(SIGNERS[0]).verify_delegate("timestamp", metadata.signed_bytes, metadata.signatures)
    assert list(metadata.signatures) == [SIGNERS[0].public_key.keyid]
    assert metadata.signed.expires == NOW


def test_every_signature_of_a_threshold_is_there() -> None:
    trusted = root(*SIGNERS, threshold=2)
    data = sign(Timestamp(expires=NOW), SIGNERS[1:], trusted, "timestamp")
    assert set(Metadata[Timestamp].from_bytes(data).signatures) == {
        signer.public_key.keyid for signer in SIGNERS[1:]
    }


@pytest.mark.parametrize(
    ("trusted", "signers"),
    [(root(SIGNERS[1]), SIGNERS[:1]), (root(*SIGNERS, threshold=2), SIGNERS[:1]),
     (root(SIGNERS[0]), [])],
)  # fmt: skip
def test_signatures_that_clients_would_refuse_are_refused_here(
    trusted: Root, signers: list[Any]
) -> None:
    with pytest.raises(UnsignedMetadataError):
        sign(Timestamp(expires=NOW), signers, trusted, "timestamp")


class Failing(CryptoSigner):
    """A signer whose key cannot be reached."""

    def sign(self, payload: bytes) -> Signature:  # noqa: ARG002  the signature of the base
        raise UsageError("Cannot sign with key online")


def test_error_of_a_kms_is_raised_as_it_is() -> None:
    failing = Failing(Ed25519PrivateKey.generate())
    with pytest.raises(UsageError, match="Cannot sign with key online"):
        sign(Timestamp(expires=NOW), [failing], root(failing), "timestamp")


def test_metadata_larger_than_clients_accept_is_refused() -> None:
    limit = max_metadata_bytes("timestamp")
    document = Timestamp(expires=NOW, unrecognized_fields={"x": "y" * limit})
    with pytest.raises(ForgeError, match=f"clients accept {limit}") as caught:
        sign(document, [SIGNERS[0]], root(SIGNERS[0]), "timestamp")
    assert caught.value.hint == "start a new store for the next releases"


def test_metadata_is_verified_with_the_keys_of_its_role() -> None:
    trusted, other = root(SIGNERS[0]), root(SIGNERS[1])
    data = sign(Targets(expires=NOW), [SIGNERS[0]], trusted, "targets")
    metadata = Metadata[Targets].from_bytes(data)
    verify(trusted, "targets", metadata)
    assert holds(trusted, "targets", metadata)
    assert not holds(other, "targets", metadata)
    with pytest.raises(UnsignedMetadataError):
        verify(other, "targets", metadata)


def test_changed_metadata_is_not_verified() -> None:
    trusted = root(SIGNERS[0])
    data = sign(Targets(expires=NOW), [SIGNERS[0]], trusted, "targets")
    metadata = Metadata[Targets].from_bytes(data)
    metadata.signed.expires += timedelta(days=1)
    changed = Metadata[Targets].from_bytes(metadata.to_bytes())
    assert not holds(trusted, "targets", changed)


def test_reference_to_metadata_has_version_length_and_digest() -> None:
    found = meta_file(7, b"data")
    assert (found.version, found.length) == (7, 4)
    assert found.hashes == {"sha256": hashlib.sha256(b"data").hexdigest()}


def test_object_of_other_keys_is_a_trust_error_that_names_it() -> None:
    error = other_keys_error("tuf/metadata/1.root.json", "memory:1")
    assert "tuf/metadata/1.root.json in memory:1" in error.what
    assert error.exit_code == 7
