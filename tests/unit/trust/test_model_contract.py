"""Forge's verification of engines agrees with the reference library, model-signing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

from forge.errors import TrustError
from forge.trust.model import verify_model_signature
from forge.trust.proof_keys import ProofKeys

CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
Json = dict[str, Any]


@dataclass(frozen=True)
class Signed:
    """An engine signed by the reference library with a key file."""

    folder: Path
    key: ec.EllipticCurvePrivateKey

    @property
    def engine(self) -> Path:
        return self.folder / "engine"

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def bundle(self) -> Json:
        made: Json = json.loads((self.folder / "model.sig").read_text())
        return made

    def ours(self, data: bytes) -> bool:
        try:
            verify_model_signature(data, self.engine, ProofKeys(build=(), model=(self.pem,)))
        except TrustError:
            return False
        return True

    def reference(self, data: bytes) -> bool:
        place = self.folder / "asked.sig"
        place.write_bytes(data)
        config = verifying.Config()  # type: ignore[no-untyped-call]  # the library's omission
        config.use_elliptic_key_verifier(public_key=self.folder / "key.pub")
        try:
            config.set_hashing_config(hashing_config()).verify(self.engine, place)
        except (ValueError, KeyError, IndexError, TypeError, InvalidSignature):
            return False
        return True

    def signed_again(self, change: Callable[[Json], None]) -> bytes:
        """Return the bundle with a changed statement, signed with the same key."""
        bundle = self.bundle()
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        change(statement)
        payload = json.dumps(statement).encode()
        kind = bundle["dsseEnvelope"]["payloadType"].encode()
        signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
        sig = self.key.sign(signed, ec.ECDSA(HASHES[self.key.curve.key_size]))
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()
        return json.dumps(bundle).encode()


def hashing_config() -> Any:
    config = hashing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


@pytest.fixture(params=CURVES)
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> Signed:
    key = ec.generate_private_key(CURVES[request.param])
    made = Signed(tmp_path, key)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "key").write_bytes(private)
    (tmp_path / "key.pub").write_text(made.pem)
    (made.engine / "deep" / "empty").mkdir(parents=True)
    (made.engine / "rank0.engine").write_bytes(bytes(range(256)) * 8192)
    (made.engine / "deep" / "Ünïcode name.json").write_text("{}")
    (made.engine / ".gitignore").write_bytes(b"")
    config = signing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    config.use_elliptic_key_signer(private_key=tmp_path / "key")
    config.set_hashing_config(hashing_config()).sign(made.engine, tmp_path / "model.sig")
    return made


def test_what_the_reference_library_signs_verifies_in_both(signed: Signed) -> None:
    data = (signed.folder / "model.sig").read_bytes()
    assert (signed.ours(data), signed.reference(data)) == (True, True)


def _statement(**fields: object) -> Callable[[Json], None]:
    return lambda statement: statement.update(fields)


def _resource(**fields: object) -> Callable[[Json], None]:
    return lambda statement: statement["predicate"]["resources"][0].update(fields)


def _swap_digests(statement: Json) -> None:
    one, two, *_ = statement["predicate"]["resources"]
    one["digest"], two["digest"] = two["digest"], one["digest"]
    digests = (bytes.fromhex(each["digest"]) for each in statement["predicate"]["resources"])
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()


def _leave_out(statement: Json) -> None:
    del statement["predicate"]["resources"][0]
    digests = (bytes.fromhex(each["digest"]) for each in statement["predicate"]["resources"])
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        _statement(_type="https://in-toto.io/Statement/v0.1"),
        _statement(predicateType="https://slsa.dev/provenance/v1"),
        _statement(subject=[]),
        _statement(subject=[{"name": "engine", "digest": {"sha256": "0" * 64}}]),
        _resource(algorithm="blake2b"),
        _resource(digest="00" * 32),
        _resource(name="another"),
        _swap_digests,
        _leave_out,
    ],
)
def test_a_statement_that_is_wrong_is_refused_by_both(
    signed: Signed, change: Callable[[Json], None]
) -> None:
    data = signed.signed_again(change)
    assert (signed.ours(data), signed.reference(data)) == (False, False)


def test_a_statement_signed_again_without_a_change_verifies_in_both(signed: Signed) -> None:
    """So the refusals above are of the changes."""
    data = signed.signed_again(lambda _: None)
    assert (signed.ours(data), signed.reference(data)) == (True, True)


def _envelope(**fields: object) -> Callable[[Json], None]:
    return lambda bundle: bundle["dsseEnvelope"].update(fields)


def _flip(bundle: Json) -> None:
    sig = bytearray(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    sig[-1] ^= 1
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda bundle: bundle.update(mediaType="application/json"),
        lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint="00" * 32),
        _envelope(payloadType="application/json"),
        _envelope(signatures=[]),
        _envelope(signatures=[{"sig": "", "keyid": ""}]),
        _envelope(payload=base64.b64encode(b"{}").decode()),
        _flip,
    ],
)
def test_a_bundle_that_was_changed_is_refused_by_both(
    signed: Signed, change: Callable[[Json], None]
) -> None:
    bundle = signed.bundle()
    change(bundle)
    data = json.dumps(bundle).encode()
    assert (signed.ours(data), signed.reference(data)) == (False, False)


def _grow(engine: Path) -> None:
    with (engine / "rank0.engine").open("ab") as file:
        file.write(b"\0")


def _to_link(engine: Path) -> None:
    (engine / "rank0.engine").rename(engine.parent / "rank0.engine")
    (engine / "rank0.engine").symlink_to(engine.parent / "rank0.engine")


def _link_to_folder(engine: Path) -> None:
    (engine / "again").symlink_to(engine / "deep")


@pytest.mark.parametrize(
    "damage",
    [
        _grow,
        lambda engine: (engine / "rank0.engine").unlink(),
        lambda engine: (engine / "deep/empty/new").touch(),
        lambda engine: (engine / ".gitignore").rename(engine / ".gitattributes"),
        _to_link,
        _link_to_folder,
    ],
)
def test_an_engine_that_was_changed_is_refused_by_both(
    signed: Signed, damage: Callable[[Path], object]
) -> None:
    data = (signed.folder / "model.sig").read_bytes()
    damage(signed.engine)
    assert (signed.ours(data), signed.reference(data)) == (False, False)


def test_an_empty_folder_more_or_less_counts_for_neither(signed: Signed) -> None:
    data = (signed.folder / "model.sig").read_bytes()
    (signed.engine / "deep/empty").rmdir()
    (signed.engine / "other").mkdir()
    assert (signed.ours(data), signed.reference(data)) == (True, True)
