"""The folder of keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from forge.errors import ConfigurationError, TrustError, UsageError
from forge.release.keys.keyring import Keyring, read_keys
from forge.release.keys.passphrases import OwnPassphrases
from forge.release.keys.pkcs8 import encrypt
from forge.trust.layout import PROOF_KEYS_PATH
from tests.support.release_world import PASSPHRASE, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, memory=True)


def test_passphrase_is_asked_once_and_only_for_a_private_key(world: World) -> None:
    asked: list[None] = []

    def ask() -> str:
        asked.append(None)
        return PASSPHRASE

    keyring = Keyring(world.keys, ask)
    assert keyring.asks_for_passphrase()
    assert asked == []
    for entry in keyring.file.keys:
        keyring.signer(entry)
    assert len(asked) == 1


def own_passphrase(world: World, name: str, words: str) -> None:
    """Encrypt one key file with other words."""
    ring = world.ring()
    (entry,) = (one for one in ring.file.keys if one.name == name)
    (world.keys / f"{name}.pem").write_bytes(encrypt(ring.private_key(entry), words.encode()))


def test_key_with_its_own_passphrase_is_opened_with_it_or_asked_for(
    world: World, tmp_path: Path
) -> None:
    own_passphrase(world, "root-2", "of the second")
    (tmp_path / "second").write_text("of the second\n")
    (tmp_path / "second").chmod(0o600)
    given = OwnPassphrases({"root-2": tmp_path / "second"})
    asked: list[str] = []

    def ask(name: str) -> str:
        asked.append(name)
        return "of the second"

    for own in (given, OwnPassphrases(prompt=ask)):
        keyring = Keyring(world.keys, lambda: PASSPHRASE, own)
        for entry in keyring.file.keys:
            keyring.signer(entry)
    assert asked == ["root-2"]


def test_passphrase_of_its_own_that_nobody_gives_is_named(world: World) -> None:
    own_passphrase(world, "root-2", "of the second")
    keyring = world.ring()
    (entry,) = (one for one in keyring.entries("root") if one.name == "root-2")
    with pytest.raises(UsageError, match=r"Cannot open the key .*root-2\.pem") as caught:
        keyring.signer(entry)
    assert "FORGE_KEY_PASSPHRASE_FILES=root-2=FILE" in caught.value.hint


def test_common_passphrase_is_not_needed_where_each_key_has_its_own(
    world: World, tmp_path: Path
) -> None:
    files = {}
    for name in ("root-1", "root-3"):
        own_passphrase(world, name, f"words for {name}")
        files[name] = tmp_path / name
        files[name].write_text(f"words for {name}")
        files[name].chmod(0o600)

    def none() -> str:
        raise AssertionError("the common passphrase was asked for")

    keyring = Keyring(world.keys, none, OwnPassphrases(files))
    keyids = [entry.keyid for entry in keyring.entries("root")]
    used = keyring.signers("root", keyids, 2)
    assert [one.public_key.keyid for one in used] == [keyids[0], keyids[2]]


def test_key_file_that_others_may_open_is_refused(world: World) -> None:
    (world.keys / "online.pem").chmod(0o640)
    keyring = world.ring()
    with pytest.raises(UsageError, match=r"Other users can open .*online\.pem") as caught:
        keyring.signer(keyring.entries("online")[0])
    assert caught.value.hint.startswith(f"chmod 600 {world.keys}/online.pem")
    (world.keys / "online.pem").chmod(0o600)
    keyring.signer(keyring.entries("online")[0]).sign(b"x")


def test_key_file_is_opened_once(world: World) -> None:
    keyring = world.ring()
    first = keyring.signer(keyring.entries("online")[0])
    (world.keys / "online.pem").unlink()
    assert keyring.signer(keyring.entries("online")[0]) is first


def test_signer_of_each_key_signs_for_its_public_key(world: World) -> None:
    keyring = world.ring()
    for entry in keyring.file.keys:
        signature = keyring.signer(entry).sign(b"payload")
        assert signature.keyid == entry.keyid
        entry.public_key().verify_signature(signature, b"payload")


def test_entries_of_a_role_are_in_the_order_of_the_file(world: World) -> None:
    keyring = world.ring()
    assert [entry.name for entry in keyring.entries("root")] == ["root-1", "root-2", "root-3"]
    world.rotate("channels")
    assert [entry.name for entry in world.ring().entries("channels")] == ["channels", "channels-2"]


def test_as_many_signers_as_the_threshold_asks_for(world: World) -> None:
    keyring = world.ring()
    keyids = [entry.keyid for entry in keyring.entries("root")]
    signers = keyring.signers("root", keyids, 2)
    assert [signer.public_key.keyid for signer in signers] == keyids[:2]
    (world.keys / "root-1.pem").unlink()
    again = keyring.signers("root", keyids, 2)
    assert [signer.public_key.keyid for signer in again] == keyids[1:]


def test_too_few_private_keys_are_an_error_that_names_those_missing(world: World) -> None:
    keyring = world.ring()
    keyids = [entry.keyid for entry in keyring.entries("root")]
    for name in ("root-1", "root-3"):
        (world.keys / f"{name}.pem").unlink()
    with pytest.raises(UsageError, match="cannot sign for the role root") as caught:
        keyring.signers("root", keyids, 2)
    assert caught.value.why == "it needs 2 private keys and has 1; missing: root-1, root-3"
    assert caught.value.exit_code == 2


def test_keys_that_the_metadata_does_not_trust_do_not_count(world: World) -> None:
    with pytest.raises(UsageError) as caught:
        world.ring().signers("root", ["0" * 64], 1)
    assert caught.value.why == "it needs 1 private keys and has 0; missing: none known"


def test_key_in_a_kms_counts_as_available_and_asks_for_no_passphrase(world: World) -> None:
    keyring = world.ring()
    moved = [one.model_copy(update={"uri": "awskms:alias/x"}) for one in keyring.file.keys]
    keyring.save(keyring.file.model_copy(update={"keys": tuple(moved)}))
    assert all(keyring.has(entry) for entry in keyring.file.keys)
    assert not keyring.asks_for_passphrase()
    assert world.ring().file == keyring.file


def test_pin_of_an_hsm_is_asked_for(world: World) -> None:
    keyring = world.ring()
    moved = [one.model_copy(update={"uri": "hsm:2?label=x"}) for one in keyring.file.keys]
    keyring.save(keyring.file.model_copy(update={"keys": tuple(moved)}))
    assert keyring.asks_for_passphrase()


def test_offline_keys_alone_do_not_ask_for_a_passphrase(world: World) -> None:
    for name in ("bundles", "channels", "online", "model"):
        (world.keys / f"{name}.pem").unlink()
    assert not world.ring().asks_for_passphrase()


def test_documents_are_sorted_by_number_and_not_by_name(world: World) -> None:
    keyring = world.ring()
    for version in (10, 9, 2):
        keyring.keep("root", version, b"%d" % version)
    (world.keys / "metadata" / "x.root.json").write_bytes(b"not a version")
    found = keyring.documents("root")
    assert list(found) == [1, 2, 9, 10]
    assert found[10] == b"10"
    assert list(keyring.documents("targets")) == [1]


def test_newest_root_that_is_kept_is_what_devices_are_provisioned_with(world: World) -> None:
    keyring = world.ring()
    keyring.keep("targets", 7, b"targets")
    assert Metadata[Root].from_file(str(world.keys / "root.json")).signed.version == 1
    keyring.keep("root", 2, b"root")
    assert (world.keys / "root.json").read_bytes() == b"root"


def test_proof_keys_are_those_that_the_newest_targets_name(world: World) -> None:
    keyring = world.ring()
    found = keyring.proof_keys()
    assert [key.keyid for key in found.build] == [keyring.entries("bundles")[0].keyid]
    assert list(found.model) == [keyring.entries("model")[0].public]
    targets = Metadata[Targets].from_bytes(keyring.documents("targets")[1]).signed
    targets.targets[PROOF_KEYS_PATH].verify_length_and_hashes(found.encode())
    world.rotate("model")
    assert len(world.ring().proof_keys().model) == 2


def no_targets(keys: Path) -> None:
    (keys / "metadata" / "1.targets.json").unlink()


def targets_are_no_json(keys: Path) -> None:
    (keys / "metadata" / "1.targets.json").write_bytes(b"{")


def targets_name_no_list(keys: Path) -> None:
    path = keys / "metadata" / "1.targets.json"
    document = json.loads(path.read_bytes())
    document["signed"]["targets"] = {}
    path.write_text(json.dumps(document))


def list_is_damaged(keys: Path) -> None:
    (path,) = (keys / "targets" / "keys").iterdir()
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_targets, "has no targets metadata"),
        (targets_are_no_json, "targets metadata in .* is not valid"),
        (targets_name_no_list, "targets metadata in .* is not valid"),
        (list_is_damaged, "list of proof keys in .* is damaged"),
    ],
)
def test_damaged_list_of_proof_keys_is_a_trust_error(
    world: World, damage: Callable[[Path], None], message: str
) -> None:
    damage(world.keys)
    with pytest.raises(TrustError, match=message) as caught:
        world.ring().proof_keys()
    assert caught.value.exit_code == 7
    assert "restore metadata/*.targets.json" in caught.value.hint


def test_missing_list_of_proof_keys_is_named(world: World) -> None:
    (path,) = (world.keys / "targets" / "keys").iterdir()
    path.unlink()
    with pytest.raises(UsageError, match=f"Cannot read {path}"):
        world.ring().proof_keys()


def test_folder_without_keys_is_refused_with_the_command_that_creates_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no keys in") as caught:
        read_keys(tmp_path)
    assert f"forge keys init --keys {tmp_path}" in caught.value.hint
    assert f"forge keys restore FILE --keys {tmp_path}" in caught.value.hint
    assert caught.value.why == "keys.json does not exist"


def test_keys_file_that_is_not_valid_names_the_field(world: World) -> None:
    document = json.loads((world.keys / "keys.json").read_bytes())
    document["keys"][2]["role"] = "king"
    (world.keys / "keys.json").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match=r"keys\.json is not valid") as caught:
        read_keys(world.keys)
    assert caught.value.why.startswith("keys.2.role: ")
    assert caught.value.exit_code == 3
