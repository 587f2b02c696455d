"""What the offline keys sign: the first metadata, renewal, replaced keys."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Targets

from forge.errors import StoreError, TrustError, UsageError
from forge.release.lifecycle import ceremony
from forge.release.repository.state import load_state
from forge.trust.layout import PROOF_KEYS_PATH
from forge.trust.proof_keys import parse_proof_keys
from tests.support.release_world import NOW, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, memory=True)
    made.publish("1.0.0")
    return made


def roots(world: World) -> list[Metadata[Root]]:
    return [Metadata[Root].from_bytes(one) for one in world.ring().documents("root").values()]


def targets(world: World) -> list[Metadata[Targets]]:
    found = world.ring().documents("targets").values()
    return [Metadata[Targets].from_bytes(one) for one in found]


def names(world: World, keyids: list[str]) -> set[str]:
    by_id = {entry.keyid: entry.name for entry in world.ring().file.keys}
    return {by_id[keyid] for keyid in keyids}


def replace_key(world: World, role: Any, **options: Any) -> str:
    keyring = world.ring()
    state = load_state(world.objects, keyring)
    given = {"replace": None, "revoke": False, "uri": None} | options
    return ceremony.replace_key(keyring, state, role, world.now, **given)


def check_chain(world: World) -> None:
    """Verify every root as a client does, and the newest targets with the newest root."""
    before: Root | None = None
    for one in roots(world):
        for signer in (before, one.signed):
            if signer is not None:
                signer.verify_delegate("root", one.signed_bytes, one.signatures)
        before = one.signed
    assert before is not None
    newest = targets(world)[-1]
    before.verify_delegate("targets", newest.signed_bytes, newest.signatures)


def test_first_root_and_targets_are_signed_and_name_every_key(world: World) -> None:
    check_chain(world)
    root, target = roots(world)[0].signed, targets(world)[0].signed
    assert root.version == target.version == 1
    assert root.roles["root"].threshold == 2
    assert names(world, root.roles["root"].keyids) == {"root-1", "root-2", "root-3"}
    assert names(world, root.roles["snapshot"].keyids) == {"online"}
    assert target.delegations is not None
    assert target.delegations.roles is not None
    delegated = {
        role.name: (role.paths, role.terminating, names(world, role.keyids))
        for role in target.delegations.roles.values()
    }
    assert delegated == {
        "bundles": (["bundles/*/*/*"], True, {"bundles"}),
        "channels": (["channels/*/*"], True, {"channels"}),
    }


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("bundles/demo/1.0.0/development.json", "bundles"),
        ("channels/demo/stable.json", "channels"),
        ("channels/demo/x/stable.json", None),
        ("bundles/demo/1.0.0.json", None),
        ("keys/proofs.json", None),
    ],
)
def test_no_delegated_role_may_sign_the_paths_of_another(
    world: World, path: str, role: str | None
) -> None:
    delegations = targets(world)[0].signed.delegations
    assert delegations is not None
    found = [name for name, _ in delegations.get_roles_for_target(path)]
    assert found == ([] if role is None else [role])


def test_list_of_proof_keys_is_a_target_with_its_digest(world: World) -> None:
    target = targets(world)[0].signed.targets[PROOF_KEYS_PATH]
    data = world.ring().target(PROOF_KEYS_PATH, target.hashes["sha256"])
    target.verify_length_and_hashes(data)
    keys = parse_proof_keys(data)
    keyring = world.ring()
    assert [one.keyid for one in keys.build] == [one.keyid for one in keyring.entries("bundles")]
    assert list(keys.model) == [one.public for one in keyring.entries("model")]


@pytest.mark.parametrize(
    ("days", "renewed"), [(0, False), (182, False), (183, True), (364, True), (400, True)]
)
def test_root_and_targets_are_renewed_past_half_their_validity(
    world: World, days: int, renewed: object
) -> None:
    state = load_state(world.objects, world.ring())
    now = NOW + timedelta(days=days)
    assert ceremony.renew_old(world.ring(), state, now) is renewed
    check_chain(world)
    assert len(roots(world)) == len(targets(world)) == (2 if renewed else 1)
    if renewed:
        assert roots(world)[-1].signed.expires == now + timedelta(days=365)
        assert targets(world)[-1].signed.expires == now + timedelta(days=365)


@pytest.mark.parametrize(
    ("missing", "renewed"),
    [
        (["root-1"], (2, 2)),
        (["root-1", "root-2"], (1, 2)),
        (["targets"], (2, 1)),
        (["root-1", "root-2", "targets"], (1, 1)),
    ],
)
def test_role_whose_keys_are_missing_is_not_renewed(
    world: World, missing: list[str], renewed: tuple[int, int]
) -> None:
    for name in missing:
        (world.keys / f"{name}.pem").unlink()
    state = load_state(world.objects, world.ring())
    done = ceremony.renew_old(world.ring(), state, NOW + timedelta(days=200))
    assert done is (renewed != (1, 1))
    assert (len(roots(world)), len(targets(world))) == renewed


def test_replaced_root_key_is_signed_by_the_old_and_the_new_keys(world: World) -> None:
    assert replace_key(world, "root", replace="root-2") == "root-4"
    check_chain(world)
    root = roots(world)[-1].signed
    assert names(world, root.roles["root"].keyids) == {"root-1", "root-3", "root-4"}
    assert root.roles["root"].threshold == 2


@pytest.mark.parametrize("role", ["online", "targets"])
def test_key_of_a_top_level_role_overlaps_with_the_old_one_for_one_root(
    world: World, role: str
) -> None:
    assert replace_key(world, role) == f"{role}-2"
    check_chain(world)
    of = "timestamp" if role == "online" else role
    keys = [names(world, one.signed.roles[of].keyids) for one in roots(world)]
    assert keys == [{role}, {role, f"{role}-2"}, {f"{role}-2"}]


def test_key_of_targets_signs_the_targets_again(world: World) -> None:
    replace_key(world, "targets")
    old, new = (roots(world)[index].signed for index in (0, -1))
    newest = targets(world)[-1]
    new.verify_delegate("targets", newest.signed_bytes, newest.signatures)
    with pytest.raises(UnsignedMetadataError):
        old.verify_delegate("targets", newest.signed_bytes, newest.signatures)


@pytest.mark.parametrize("role", ["bundles", "channels"])
def test_key_of_a_delegated_role_is_replaced_at_once(world: World, role: str) -> None:
    assert replace_key(world, role) == f"{role}-2"
    check_chain(world)
    assert len(roots(world)) == 1
    found = targets(world)[-1].signed.get_delegated_role(role)
    assert names(world, found.keyids) == {f"{role}-2"}


@pytest.mark.parametrize("role", ["bundles", "model"])
@pytest.mark.parametrize("revoke", [False, True])
def test_replaced_proof_key_stays_trusted_unless_it_is_revoked(
    world: World, role: Any, revoke: object
) -> None:
    old = world.ring().entries(role)[0]
    replace_key(world, role, revoke=revoke)
    new = world.ring().entries(role)[1]
    keys = world.ring().proof_keys()
    listed = list(keys.model) if role == "model" else [key.keyid for key in keys.build]
    order = [one.public if role == "model" else one.keyid for one in (new, old)]
    assert listed == (order[:1] if revoke else order)


def test_names_of_new_keys_are_never_reused(world: World) -> None:
    assert replace_key(world, "channels") == "channels-2"
    (world.keys / "channels-3.pem").write_text("a key of an interrupted rotation")
    assert replace_key(world, "channels") == "channels-4"


@pytest.mark.parametrize("name", ["root-9", "online", None])
def test_name_that_is_not_a_root_key_in_use_is_refused(world: World, name: str | None) -> None:
    before = sorted(world.keys.rglob("*"))
    with pytest.raises(UsageError, match="is not a root key in use") as caught:
        replace_key(world, "root", replace=name)
    assert caught.value.hint.endswith("known: root-1, root-2, root-3")
    assert sorted(world.keys.rglob("*")) == before


@pytest.mark.parametrize(
    ("role", "missing"), [("channels", ["targets"]), ("online", ["root-1", "root-2"])]
)
def test_rotation_that_cannot_be_signed_creates_no_key(
    world: World, role: str, missing: list[str]
) -> None:
    for name in missing:
        (world.keys / f"{name}.pem").unlink()
    before = sorted(world.keys.rglob("*"))
    with pytest.raises(UsageError, match="cannot sign for the role"):
        replace_key(world, role)
    assert sorted(world.keys.rglob("*")) == before


@pytest.fixture
def behind(world: World) -> World:
    """The world of another machine, whose copy of the keys folder missed two rotations."""
    old = world.folder / "old-keys"
    shutil.copytree(world.keys, old)
    world.rotate("root", replace="root-1")
    world.rotate("model")
    shutil.rmtree(world.keys)
    old.rename(world.keys)
    return world


def adopt(world: World) -> None:
    keyring = world.ring()
    ceremony.adopt(keyring, world.objects, load_state(world.objects, keyring))


def test_metadata_that_another_machine_published_is_adopted(behind: World) -> None:
    assert (len(roots(behind)), len(targets(behind))) == (1, 1)
    adopt(behind)
    check_chain(behind)
    assert (len(roots(behind)), len(targets(behind))) == (2, 2)
    assert len(behind.ring().proof_keys().model) == 2


def test_adopting_again_changes_nothing(behind: World) -> None:
    adopt(behind)
    before = {path: path.stat().st_mtime_ns for path in behind.keys.rglob("*.json")}
    adopt(behind)
    assert {path: path.stat().st_mtime_ns for path in behind.keys.rglob("*.json")} == before


def test_altered_list_of_keys_in_the_store_is_not_adopted(behind: World) -> None:
    for entry in list(behind.objects.entries("tuf/targets/keys/")):
        behind.objects.write(entry.name, b"x" * entry.size)
    with pytest.raises(TrustError):
        adopt(behind)
    assert len(targets(behind)) == 1


def test_missing_list_of_keys_in_the_store_is_an_error(behind: World) -> None:
    for entry in list(behind.objects.entries("tuf/targets/keys/")):
        behind.objects.delete(entry.name)
    with pytest.raises(StoreError):
        adopt(behind)
