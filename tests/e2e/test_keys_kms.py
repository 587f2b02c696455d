"""Keys in a KMS: a release is signed without a secret, devices believe it, keys are replaced."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from forge.errors import ForgeError, UsageError
from forge.release.keys.builder_key import builder_signer, open_builder_key
from forge.release.keys.keyring import Keyring
from forge.release.keys.kms import enrol
from forge.release.lifecycle import keys as key_folder
from forge.store.formats.signed_result import result_statement
from forge.trust.builders import TrustedBuilder, public_pem, verify_result
from forge.trust.proofs import verify_model_signature, verify_provenance
from tests.support.kms import Kms, kms, running
from tests.support.release_world import NOW, PASSPHRASE, World
from tests.support.trusted_builders import KEY as RESULT_KEY
from tests.support.trusted_builders import made as made_result

__all__ = ["kms"]

pytestmark = [pytest.mark.network, pytest.mark.slow]
PUBLISHING = ("bundles", "channels", "online", "model")


def nobody() -> str:
    raise AssertionError("a passphrase was asked for")


@dataclass
class KmsWorld(World):
    """A publisher that has no private key on its disk."""

    def ring(self) -> Keyring:
        return Keyring(self.keys, nobody)


@pytest.fixture(autouse=True)
def reach(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kms.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def uris(kms: Kms, request: pytest.FixtureRequest) -> dict[str, str]:
    return {role: kms.make(f"{request.node.name[:80]}-{role}") for role in PUBLISHING}


@pytest.fixture
def world(uris: dict[str, str], tmp_path: Path) -> World:
    made = KmsWorld(tmp_path)
    shutil.rmtree(made.keys)
    key_folder.init(made.keys, passphrase=PASSPHRASE, now=NOW, uris=uris)
    return made


def believe(world: World, version: str) -> None:
    """As a device does, from the first root: metadata, provenance, engine."""
    release = world.release(version)
    client = world.client(f"device-of-{version}")
    client.refresh()
    manifest = client.manifest("demo", version, "development")
    assert manifest == release
    proofs, tree = world.folder / f"proofs-{version}", world.folder / f"tree-{version}"
    world.store.unpack(manifest.proofs.digest, proofs)
    world.store.unpack(manifest.tree.digest, tree)
    verify_provenance(proofs, manifest, client.proof_keys())
    verify_model_signature(proofs, tree, client.proof_keys())


def test_release_is_signed_without_a_secret_and_believed(world: World) -> None:
    for offline in (*world.keys.glob("root-*.pem"), world.keys / "targets.pem"):
        offline.unlink()
    assert [path.name for path in world.keys.glob("*.pem")] == ["model.pub.pem"]
    assert not world.ring().asks_for_passphrase()
    believe(world, "1.0.0")


def test_folder_of_a_kms_publisher_holds_no_private_key(world: World, uris: dict[str, str]) -> None:
    entries = {entry.name: entry.uri for entry in world.ring().file.keys}
    assert {name: entries[name] for name in PUBLISHING} == uris
    private = [path for path in world.keys.rglob("*") if b"PRIVATE" in _bytes(path)]
    assert sorted(path.name for path in private) == [
        "root-1.pem", "root-2.pem", "root-3.pem", "targets.pem",
    ]  # fmt: skip


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.mark.parametrize("role", PUBLISHING)
def test_key_file_is_replaced_by_a_key_of_the_kms(kms: Kms, tmp_path: Path, role: str) -> None:
    world = World(tmp_path)
    before = world.client()
    world.release("1.0.0")
    before.refresh()
    name = key_folder.rotate(
        world.objects, world.ring(), role, now=NOW, uri=kms.make(f"from-file-{role}"), revoke=True  # type: ignore[arg-type]
    )  # fmt: skip
    assert name == f"{role}-2"
    (world.keys / f"{role}.pem").unlink()
    before.refresh()  # a device of before follows by itself
    believe(world, "1.0.1")


def test_kms_key_is_replaced_by_another(kms: Kms, world: World) -> None:
    believe(world, "1.0.0")
    ring = Keyring(world.keys, lambda: PASSPHRASE)  # targets signs
    uri = kms.make("second-model")
    assert key_folder.rotate(world.objects, ring, "model", now=NOW, uri=uri) == "model-2"
    believe(world, "1.0.1")
    assert json.loads((world.keys / "keys.json").read_text())["keys"][-1]["uri"] == uri


def test_kms_that_is_away_is_named_and_nothing_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    shutil.rmtree(world.keys)
    (tmp_path / "kms").mkdir()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with running(tmp_path / "kms") as own:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", own.endpoint)
        uris = {"online": own.make("away")}
        key_folder.init(world.keys, passphrase=PASSPHRASE, now=NOW, uris=uris)
    with pytest.raises(UsageError, match="key online at awskms:alias/away") as caught:
        world.refresh()
    assert "Could not connect" in caught.value.why
    assert list(world.objects.entries("tuf/metadata/timestamp")) == []


@pytest.mark.parametrize(
    ("kind", "role", "said"),
    [
        ("SYMMETRIC_DEFAULT", "bundles", "Cannot use the key"),
        ("RSA_2048", "model", "cannot be the model key"),
    ],
)
def test_key_that_cannot_do_it_is_refused(kms: Kms, kind: str, role: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        enrol(kms.make(f"{kind}-{role}".lower(), kind), "x", role, nobody)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "said"),
    [("awskms:alias/nobody-made-it", "Cannot use the key"), ("gopher:key", "not a valid key URI")],
)
def test_key_that_is_not_there_is_refused(uri: str, said: str) -> None:
    with pytest.raises(ForgeError, match=said):
        enrol(uri, "x", "bundles", nobody)


def test_name_that_is_no_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no key 'nosuch'"):
        key_folder.init(tmp_path / "k", passphrase="p", now=NOW, uris={"nosuch": "awskms:x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["ECC_NIST_P256", "RSA_2048"])
def test_builder_signs_results_with_a_key_that_never_leaves_the_kms(kms: Kms, kind: str) -> None:
    uri = kms.make(f"builder-{kind}", kind)
    public = public_pem(open_builder_key(uri, nobody).public_key)
    named = {"hosted": TrustedBuilder(steps=["engine@*"], keys=[public])}
    signer = builder_signer(named, {"FORGE_BUILDER_KEY": uri})
    assert signer is not None
    envelope = signer.sign(result_statement(made_result(), signer.builder))
    found = verify_result(envelope, "hosted", named["hosted"], key=RESULT_KEY, step="engine@a")
    assert found.builder == "hosted"
