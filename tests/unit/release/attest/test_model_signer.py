"""Sign an engine with any signer, verified by model_signing itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from model_signing import hashing, verifying
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from forge.errors import UsageError
from forge.release.attest.model_signer import sign_folder

PRIVATE = ec.generate_private_key(ec.SECP256R1())
PUBLIC = SSlibKey.from_crypto(PRIVATE.public_key())


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / ".git").mkdir(parents=True)
    (folder / "engine.bin").write_bytes(b"weights")
    (folder / ".git" / "config").write_bytes(b"not ignored")
    (tmp_path / "key.pub").write_bytes(
        PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return folder


def verify(engine: Path) -> None:
    hashed = hashing.Config()  # type: ignore[no-untyped-call]  # untyped in the library
    hashed.use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    hashed.set_ignored_paths(paths=[], ignore_git_paths=False)
    config = verifying.Config()  # type: ignore[no-untyped-call]  # untyped in the library
    config.use_elliptic_key_verifier(public_key=engine.parent / "key.pub")
    config.set_hashing_config(hashed).verify(engine, engine.parent / "model.sig")


def sign(engine: Path, signer: CryptoSigner | None = None) -> None:
    sign_folder(engine, engine.parent / "model.sig", signer or CryptoSigner(PRIVATE, PUBLIC))


def test_signature_is_accepted_by_the_reference_verifier(engine: Path) -> None:
    sign(engine)
    verify(engine)


@pytest.mark.parametrize("name", ["engine.bin", ".git/config", "new", ".gitignore"])
def test_every_file_is_signed_and_none_is_ignored(engine: Path, name: str) -> None:
    sign(engine)
    (engine / name).write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"mismatch|Signature|match"):
        verify(engine)


def test_signature_of_another_key_is_refused_by_the_reference_verifier(engine: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    sign(engine, CryptoSigner(other, SSlibKey.from_crypto(other.public_key())))
    with pytest.raises(ValueError, match=r"."):
        verify(engine)


def test_folder_with_a_symbolic_link_is_refused(engine: Path) -> None:
    (engine / "link").symlink_to("engine.bin")
    with pytest.raises(ValueError, match="link"):
        sign(engine)
    assert not (engine.parent / "model.sig").exists()


def test_key_that_is_not_an_ec_key_is_refused(engine: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    signer = CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
    with pytest.raises(TypeError, match="the model key must be an EC key"):
        sign(engine, signer)


class Unreachable(CryptoSigner):
    """A signer whose KMS does not answer."""

    def sign(self, payload: bytes) -> Signature:  # noqa: ARG002  the signature of the base
        raise UsageError("Cannot sign with key model")


def test_error_of_a_kms_is_raised_as_it_is_and_nothing_is_written(engine: Path) -> None:
    with pytest.raises(UsageError, match="Cannot sign with key model"):
        sign(engine, Unreachable(PRIVATE, PUBLIC))
    assert not (engine.parent / "model.sig").exists()


def test_copy_of_the_folder_has_the_same_signature_for_the_verifier(engine: Path) -> None:
    sign(engine)
    copy = engine.parent / "copy" / "engine"
    shutil.copytree(engine, copy)
    for name in ("key.pub", "model.sig"):
        shutil.copy(engine.parent / name, copy.parent / name)
    verify(copy)
