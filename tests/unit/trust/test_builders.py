"""Which signed result is believed, for which step, and by whose key."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from forge import canonical
from forge.errors import TrustError
from forge.store.formats.signed_result import result_statement
from forge.trust.builders import TrustedBuilder, name_of_key, public_pem, verify_result
from forge.trust.envelope import PAYLOAD_TYPE
from tests.support.trusted_builders import KEY, OTHER_KEY, builders, key_of, made, signer, trusted

HOSTED = trusted("hosted", "checkpoint", "engine@*")


def verify(envelope: bytes, **changes: Any) -> None:
    given: dict[str, Any] = {"name": "hosted", "builder": HOSTED, "key": KEY, "step": "engine@a"}
    verify_result(envelope, **given | changes)


def signed(**changes: Any) -> bytes:
    return signer("hosted").sign(result_statement(made(**changes), "hosted"))


def test_signed_result_is_believed_with_the_name_of_its_builder() -> None:
    found = verify_result(signed(), "hosted", HOSTED, key=KEY, step="engine@a")
    assert (found.builder, found.outputs) == ("hosted", made().outputs)


def test_equal_work_of_another_profile_is_believed() -> None:
    """One key for two SKUs: the result states the step that happened to run."""
    verify(signed(step="engine@b"))


@pytest.mark.parametrize("step", ["smoke@a", "repository@a", "engine", "xengine@a", "ENGINE@a"])
def test_builder_is_believed_for_its_own_steps_only(step: str) -> None:
    with pytest.raises(TrustError, match="not used") as caught:
        verify(signed(step="engine@a"), step=step)
    assert caught.value.why == "builder hosted may not make it"


def test_signed_result_of_another_key_is_a_replay() -> None:
    with pytest.raises(TrustError) as caught:
        verify(signed(key=OTHER_KEY))
    assert caught.value.why == f"it is signed for the key {'b' * 12}, not {'a' * 12}"


def test_result_that_a_key_signed_under_the_name_of_another_builder_is_refused() -> None:
    envelope = signer("hosted").sign(result_statement(made(), "gpu"))
    with pytest.raises(TrustError) as caught:
        verify(envelope)
    assert caught.value.why == "it is signed as builder gpu, not hosted"


def test_key_of_another_builder_signs_nothing_for_this_one() -> None:
    envelope = signer("hosted", key="gpu").sign(result_statement(made(), "hosted"))
    with pytest.raises(TrustError) as caught:
        verify(envelope)
    assert caught.value.why == "it is not signed by a key of builder hosted"


def test_key_id_of_the_trusted_key_does_not_make_another_key_trusted() -> None:
    document = json.loads(signer("hosted", key="gpu").sign(result_statement(made(), "hosted")))
    document["signatures"][0]["keyid"] = key_of("hosted").public_key.keyid
    with pytest.raises(TrustError):
        verify(canonical.dumps(document))


def test_each_of_several_keys_signs_for_its_builder() -> None:
    """As while a key is replaced."""
    two = TrustedBuilder(steps=["*"], keys=[*trusted("old", "*").keys, *HOSTED.keys])
    for key in ("old", "hosted"):
        verify(signer("hosted", key=key).sign(result_statement(made(), "hosted")), builder=two)


def test_payload_that_was_changed_is_refused() -> None:
    document = json.loads(signed())
    payload = base64.b64decode(document["payload"]).replace(b"c" * 64, b"d" * 64)
    document["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(TrustError):
        verify(canonical.dumps(document))


def test_envelope_that_is_cut_at_any_place_is_refused() -> None:
    whole = signed()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        with pytest.raises(TrustError):
            verify(whole[:length])


@pytest.mark.parametrize(
    "garbled", [b"[]", b"null", b"\xff\xfe", b"1" * 5000, b"[" * 100_000, b'{"payload": 1}']
)
def test_envelope_that_is_garbled_is_refused(garbled: bytes) -> None:
    with pytest.raises(TrustError):
        verify(garbled)


def test_signature_of_another_payload_type_is_refused() -> None:
    """A signature that the key made for another purpose."""
    envelope = Envelope(result_statement(made(), "hosted"), "application/json", {})
    envelope.sign(key_of("hosted"))
    with pytest.raises(TrustError):
        verify(canonical.dumps(envelope.to_dict()))


def test_unsigned_envelope_is_refused() -> None:
    document = json.loads(signed()) | {"signatures": []}
    with pytest.raises(TrustError):
        verify(canonical.dumps(document))


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_builders_may_have_keys_of_each_kind_that_a_kms_has(kind: str) -> None:
    key = getattr(CryptoSigner, f"generate_{kind}")()
    one = TrustedBuilder(steps=["*"], keys=[public_pem(key.public_key)])
    envelope = Envelope(result_statement(made(), "hosted"), PAYLOAD_TYPE, {})
    envelope.sign(key)
    verify(canonical.dumps(envelope.to_dict()), builder=one)
    assert name_of_key({"hosted": one}, key.public_key.keyid) == "hosted"
    assert name_of_key(builders(other=["*"]), key.public_key.keyid) is None


def pem_of(key: Any) -> str:
    data = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(data.decode())


@pytest.mark.parametrize(
    "key",
    ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
     pem_of(x25519.X25519PrivateKey.generate()), pem_of(dsa.generate_private_key(2048))],
    ids=["empty", "text", "cut", "x25519", "dsa"],
)  # fmt: skip
def test_text_that_is_no_key_for_signatures_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="not a public key"):
        TrustedBuilder(steps=["*"], keys=[key])


@pytest.mark.parametrize("empty", [{"steps": []}, {"keys": []}])
def test_builder_without_keys_or_steps_is_refused(empty: dict[str, list[str]]) -> None:
    given: dict[str, Any] = {"steps": ["*"], "keys": HOSTED.keys}
    with pytest.raises(ValidationError):
        TrustedBuilder(**given | empty)
