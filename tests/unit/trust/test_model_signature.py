"""The engine's signature, and two weak spots of model_signing 1.1.1 that Forge does not have."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from forge.errors import StoreError, TrustError
from forge.release.attest.attest import _sign_model
from forge.release.attest.model_signer import sign_folder
from forge.release.keys.key_files import decrypt, generate
from forge.trust import proofs
from forge.trust.model import verify_model_digests, verify_model_signature
from forge.trust.proof_keys import ProofKeys
from tests.support.release_world import PASSPHRASE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.publish("1.0.0")
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 5000)
    (folder / "deep/b.bin").write_bytes(b"b")
    (folder / ".gitignore").write_text("nothing is ignored")
    return folder


def keys(world: World) -> ProofKeys:
    client = world.client()
    client.refresh()
    return client.proof_keys()


def signature(world: World, engine: Path) -> bytes:
    target = world.folder / "model.sig"
    _sign_model(engine, target, world.ring(), world.ring().proof_keys())
    return target.read_bytes()


def forged(world: World, engine: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A signature by the real key over a changed statement."""
    bundle = json.loads(signature(world, engine))
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    payload = json.dumps(statement).encode()
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    private = load_pem_private_key((world.keys / "model.pem").read_bytes(), PASSPHRASE.encode())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    sig = private.sign(signed, ec.ECDSA(hashes.SHA256()))
    envelope["payload"] = base64.b64encode(payload).decode()
    envelope["signatures"][0]["sig"] = base64.b64encode(sig).decode()
    return json.dumps(bundle).encode()


def test_signed_engine_is_believed(world: World, engine: Path) -> None:
    verify_model_signature(signature(world, engine), engine, keys(world))


def _change(engine: Path) -> None:
    (engine / "a.bin").write_bytes(b"A" + b"a" * 4999)


def _remove(engine: Path) -> None:
    (engine / "deep/b.bin").unlink()


def _add(engine: Path) -> None:
    (engine / "c.bin").write_bytes(b"")


def _add_where_git_hides(engine: Path) -> None:
    (engine / ".git").mkdir()
    (engine / ".git/hook").write_bytes(b"")


def _link(engine: Path) -> None:
    (engine / "deep/b.bin").rename(engine.parent / "b.bin")
    (engine / "deep/b.bin").symlink_to(engine.parent / "b.bin")


@pytest.mark.parametrize("damage", [_change, _remove, _add, _add_where_git_hides, _link])
def test_engine_that_differs_is_refused_and_believed_again_when_it_is_put_back(
    world: World, engine: Path, damage: Callable[[Path], None]
) -> None:
    good = signature(world, engine)
    original = {path: path.read_bytes() for path in engine.rglob("*") if path.is_file()}
    damage(engine)
    with pytest.raises(TrustError, match="model signature could not be verified") as caught:
        verify_model_signature(good, engine, keys(world))
    assert caught.value.exit_code == 7
    for path in [*engine.rglob("*")]:
        if path.is_symlink() or (path.is_file() and path not in original):
            path.unlink()
    for folder in [path for path in engine.rglob("*") if path.is_dir() and not any(path.iterdir())]:
        if folder.name == ".git":
            folder.rmdir()
    for path, data in original.items():
        path.write_bytes(data)
    verify_model_signature(good, engine, keys(world))


def test_signature_of_another_key_is_refused(world: World, engine: Path, tmp_path: Path) -> None:
    entry = generate(tmp_path, "strange", "model", PASSPHRASE.encode())
    private = decrypt(tmp_path / "strange.pem", PASSPHRASE.encode())
    public = SSlibKey.from_dict(entry.keyid, entry.public_key().to_dict())
    sign_folder(engine, tmp_path / "model.sig", CryptoSigner(private, public))
    with pytest.raises(TrustError, match="it is not signed by a trusted model key"):
        verify_model_signature((tmp_path / "model.sig").read_bytes(), engine, keys(world))


def test_altered_signature_is_refused(world: World, engine: Path) -> None:
    bundle = json.loads(signature(world, engine))
    other = json.loads(signature(world, engine))  # ECDSA: another signature of the same bytes
    assert bundle != other
    sig = bytearray(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    sig[-1] ^= 1
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(bytes(sig)).decode()
    with pytest.raises(TrustError, match="its signature is not valid"):
        verify_model_signature(json.dumps(bundle).encode(), engine, keys(world))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "deep/../../outside", "a\x00b", ""])
def test_signed_path_that_leads_out_of_the_engine_is_refused_before_it_is_read(
    world: World, engine: Path, name: str
) -> None:
    (engine.parent / "outside").write_bytes(b"secret")

    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["resources"][0]["name"] = name

    with pytest.raises(TrustError, match="Unsafe path"):
        verify_model_signature(forged(world, engine, change), engine, keys(world))


def test_signature_that_ignores_files_is_refused_and_leaves_nothing_ignored(
    world: World, engine: Path
) -> None:
    """model_signing 1.1.1 would let the next verify ignore them too."""
    good = signature(world, engine)

    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["serialization"]["ignore_paths"] = ["a.bin"]

    with pytest.raises(TrustError, match="ignore_paths"):
        verify_model_signature(forged(world, engine, change), engine, keys(world))
    _change(engine)
    with pytest.raises(TrustError, match=r"a\.bin"):
        verify_model_signature(good, engine, keys(world))


@pytest.mark.parametrize(
    "serialization",
    [
        {"method": "shards", "hash_type": "sha256", "shard_size": 1, "allow_symlinks": False},
        {"method": "files", "hash_type": "sha256", "allow_symlinks": True},
        {"method": "files", "hash_type": "blake2", "allow_symlinks": False},
    ],
)
def test_signature_made_in_another_way_is_refused(
    world: World, engine: Path, serialization: dict[str, Any]
) -> None:
    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["serialization"] = serialization

    with pytest.raises(TrustError, match="unsupported signature"):
        verify_model_signature(forged(world, engine, change), engine, keys(world))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 5000])
def test_bytes_that_are_no_signature_are_refused(world: World, engine: Path, data: bytes) -> None:
    with pytest.raises(TrustError, match="it is not a model signature"):
        verify_model_signature(data, engine, keys(world))


def test_rotated_model_key_is_believed_for_old_engines_until_it_is_revoked(
    world: World, engine: Path
) -> None:
    old = signature(world, engine)
    world.rotate("model")
    new = signature(world, engine)
    for data in (old, new):
        verify_model_signature(data, engine, keys(world))
    world.rotate("model", revoke=True)
    for data in (old, new):
        with pytest.raises(TrustError, match="it is not signed by a trusted model key"):
            verify_model_signature(data, engine, keys(world))


# Proofs as files


def test_missing_proof_is_named(world: World, tmp_path: Path) -> None:
    manifest = world.planned("1.0.0").manifest
    with pytest.raises(TrustError, match=r"provenance.dsse.json cannot be read"):
        proofs.verify_provenance(tmp_path, manifest, keys(world))
    with pytest.raises(TrustError, match=r"model.sig cannot be read"):
        proofs.verify_model_signature(tmp_path, tmp_path, keys(world))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("{}", "serving.json of the bundle is not valid"),
        ('{"repository": "../..", "model": "m"}', "Unsafe path"),
        ('{"repository": "models", "model": "m"}', "has no engine"),
    ],
)
def test_engine_folder_that_is_not_in_the_tree_is_refused(
    tmp_path: Path, text: str, phrase: str
) -> None:
    (tmp_path / "serving.json").write_text(text)
    with pytest.raises(TrustError, match=phrase):
        proofs.engine_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_disk_that_fails_is_no_verdict_on_the_engine(
    world: World, engine: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    good, trusted = signature(world, engine), keys(world)

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hashlib.file_digest", fail)
    with pytest.raises(StoreError, match=os.strerror(number)) as caught:
        verify_model_signature(good, engine, trusted)
    assert caught.value.exit_code == 9
    monkeypatch.undo()
    verify_model_signature(good, engine, trusted)


def test_an_engine_is_verified_without_writing_a_file(
    world: World, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, trusted = signature(world, engine), keys(world)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    verify_model_signature(good, engine, trusted)


def test_a_disk_that_fails_below_the_engine_is_no_verdict_on_it(
    world: World, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be listed must not count as one without files."""
    good, trusted = signature(world, engine), keys(world)
    listed = os.scandir

    def fail(path: str) -> object:
        if str(path).endswith("deep"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listed(path)

    monkeypatch.setattr("os.scandir", fail)
    with pytest.raises(StoreError, match=os.strerror(errno.EIO)):
        verify_model_signature(good, engine, trusted)


def digests(engine: Path) -> dict[str, str]:
    files = (path for path in engine.rglob("*") if path.is_file())
    return {
        path.relative_to(engine).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_digests_of_exactly_the_signed_files_are_verified(world: World, engine: Path) -> None:
    good, found = signature(world, engine), digests(engine)
    verify_model_digests(good, found, keys(world))
    name = next(iter(found))
    for wrong in (
        found | {name: "0" * 64},
        found | {"more.bin": "0" * 64},
        {path: digest for path, digest in found.items() if path != name},
        {},
    ):
        with pytest.raises(TrustError, match="model signature could not be verified"):
            verify_model_digests(good, wrong, keys(world))


def test_digests_are_not_believed_without_a_valid_signature(world: World, engine: Path) -> None:
    good = json.loads(signature(world, engine))
    (envelope,) = good["dsseEnvelope"]["signatures"]
    envelope["sig"] = envelope["sig"][:-8] + "AAAAAAA="
    with pytest.raises(TrustError, match="signature"):
        verify_model_digests(json.dumps(good).encode(), digests(engine), keys(world))
