"""Keys in a KMS or HSM, with a signer of securesystemslib in the place of the KMS."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    AWSSigner,
    CryptoSigner,
    HSMSigner,
    Signature,
    Signer,
    SSlibKey,
)

from forge.errors import ConfigurationError, UsageError
from forge.release.keys.kms import RemoteSigner, check_scheme, enrol

PRIVATE: dict[str, Any] = {
    "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": Ed25519PrivateKey.generate(),
}


class Kms(Signer):
    """A KMS with one key: what `use` sets."""

    kind = "ecdsa"
    wrong = False
    fails: Exception | None = None

    @classmethod
    def public(cls) -> SSlibKey:
        return SSlibKey.from_crypto(PRIVATE[cls.kind].public_key())

    @classmethod
    def import_(cls, *_: object) -> tuple[str, SSlibKey]:
        return "awskms:full-name", cls.public()

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Kms:
        return cls()

    @property
    def public_key(self) -> SSlibKey:
        return self.public()

    def sign(self, payload: bytes) -> Signature:
        if self.fails is not None:
            raise self.fails
        signed = b"other" if self.wrong else payload
        return CryptoSigner(PRIVATE[self.kind], self.public()).sign(signed)


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> type[Kms]:
    class Own(Kms):
        pass

    for scheme in ("awskms", "hsm"):
        monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, scheme, Own)
    monkeypatch.setattr(AWSSigner, "import_", Own.import_)
    return Own


def secret() -> str:
    return "1234"


def test_key_that_signs_becomes_an_entry_with_its_full_uri(kms: type[Kms]) -> None:
    entry = enrol("awskms:alias/x", "bundles-2", "bundles", secret)
    assert (entry.name, entry.role, entry.uri) == ("bundles-2", "bundles", "awskms:full-name")
    assert entry.public_key() == kms.public()


@pytest.mark.parametrize(
    ("kind", "role", "accepted"),
    [
        ("ecdsa", "model", True),
        ("rsa", "model", False),
        ("ed25519", "model", False),
        ("rsa", "bundles", True),
        ("ed25519", "online", True),
    ],
)
def test_only_the_model_key_must_be_an_ec_key(
    kms: type[Kms], kind: str, role: Any, accepted: object
) -> None:
    kms.kind = kind
    if accepted:
        assert enrol("awskms:alias/x", "x", role, secret).keytype == kind
        return
    with pytest.raises(UsageError, match="cannot be the model key") as caught:
        enrol("awskms:alias/x", "x", role, secret)
    assert kms.public().scheme in caught.value.why
    assert "ECC_NIST_P256" in caught.value.hint


def test_key_that_does_not_sign_is_refused_with_the_reason_of_the_kms(kms: type[Kms]) -> None:
    kms.fails = RuntimeError("AccessDenied")
    with pytest.raises(UsageError, match="Cannot use the key awskms:alias/x") as caught:
        enrol("awskms:alias/x", "x", "bundles", secret)
    assert caught.value.why == "AccessDenied"
    assert caught.value.exit_code == 2


def test_key_whose_signature_is_not_valid_is_refused(kms: type[Kms]) -> None:
    kms.wrong = True
    with pytest.raises(UsageError, match="Cannot use the key"):
        enrol("awskms:alias/x", "x", "bundles", secret)


@pytest.mark.parametrize("uri", ["gopher:x", "file:x.pem", "x", "", "AWSKMS:x"])
def test_uri_of_another_scheme_is_refused_with_those_that_are_valid(uri: str) -> None:
    with pytest.raises(UsageError, match="is not a valid key URI") as caught:
        enrol(uri, "x", "bundles", secret)
    assert "awskms:KEY" in caught.value.hint
    assert "hsm:ID?label=TOKEN" in caught.value.hint


@pytest.mark.parametrize(
    ("uri", "number", "label"),
    [("hsm:2?label=forge-root", 2, "forge-root"), ("hsm:?label=a", None, "a"), ("hsm:7", 7, None)],
)
def test_uri_of_an_hsm_gives_number_label_and_pin(
    kms: type[Kms], monkeypatch: pytest.MonkeyPatch, uri: str, number: object, label: object
) -> None:
    given: list[object] = []

    def import_(slot: object, token: object, pin: Any) -> tuple[str, SSlibKey]:
        given.extend([slot, token, pin("")])
        return "hsm:full", kms.public()

    monkeypatch.setattr(HSMSigner, "import_", import_)
    assert enrol(uri, "x", "root", secret).uri == "hsm:full"
    assert given == [number, label, "1234"]


@pytest.mark.parametrize("uri", ["hsm:x?label=a"])
def test_uri_of_an_hsm_without_a_number_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="Cannot use the key"):
        enrol(uri, "x", "root", secret)


def test_remote_signer_signs_as_the_one_inside(kms: type[Kms]) -> None:
    signer = RemoteSigner.from_priv_key_uri("awskms:x", kms.public())
    signer.public_key.verify_signature(signer.sign(b"payload"), b"payload")


@pytest.mark.parametrize("error", [RuntimeError("gone"), TimeoutError()])
def test_remote_signer_names_key_and_place_when_it_fails(kms: type[Kms], error: Exception) -> None:
    kms.fails = error
    with pytest.raises(UsageError, match="Cannot sign with key online at awskms:x") as caught:
        RemoteSigner(kms(), "online", "awskms:x").sign(b"payload")
    assert caught.value.why == (str(error) or "TimeoutError")


def test_missing_package_of_a_kms_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError) as caught:
        check_scheme("awskms:x")
    assert caught.value.hint == "pip install 'forge-release[s3]'"
    check_scheme("hsm:2?label=x")
