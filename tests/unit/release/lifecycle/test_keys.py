"""The keys folder: made whole or not at all, encrypted, and never where it would be published."""

from __future__ import annotations

import json
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tuf.api.metadata import Metadata, Root, Targets

from forge.errors import ConfigurationError, StoreError, UsageError
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import Expiry
from forge.release.keys.passphrases import OwnPassphrases, passphrase_source
from forge.release.lifecycle import ceremony, keys
from tests.support.release_world import PASSPHRASE, World

NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "keys"
    keys.init(made, passphrase=PASSPHRASE, now=NOW, root_keys=4, threshold=3)
    return made


def test_every_private_key_is_encrypted_and_its_owners_alone(folder: Path) -> None:
    private = [path for path in folder.glob("*.pem") if ".pub." not in path.name]
    assert {path.stem for path in private} == {
        "root-1", "root-2", "root-3", "root-4", "targets", "bundles", "channels", "online", "model",
    }  # fmt: skip
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(TypeError):
            load_pem_private_key(path.read_bytes(), None)
        load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())


def test_folder_holds_the_passphrase_nowhere(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert PASSPHRASE.encode() not in path.read_bytes()


def test_first_root_has_the_threshold_and_one_key_for_each_role(folder: Path) -> None:
    root = Metadata[Root].from_file(str(folder / "root.json")).signed
    assert (root.version, root.consistent_snapshot) == (1, True)
    assert (len(root.roles["root"].keyids), root.roles["root"].threshold) == (4, 3)
    assert root.roles["snapshot"].keyids == root.roles["timestamp"].keyids
    used = [root.roles[role].keyids[0] for role in ("root", "targets", "timestamp")]
    assert len(set(used)) == 3
    assert (root.expires - NOW).days == 365


def test_delegations_keep_bundles_and_channels_apart(folder: Path) -> None:
    targets = Metadata[Targets].from_file(str(folder / "metadata/1.targets.json")).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    reach = {name: role.paths for name, role in targets.delegations.roles.items()}
    assert reach == {"bundles": ["bundles/*/*/*"], "channels": ["channels/*/*"]}
    assert list(targets.targets) == ["keys/proofs.json"]


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="is not empty") as caught:
        keys.init(folder, passphrase="another", now=NOW)
    assert caught.value.exit_code == 2
    assert "never overwritten" in caught.value.why
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_empty_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW)
    assert (tmp_path / "keys/root.json").is_file()


def test_init_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ceremony, "first_targets", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW)
    assert caught.value.exit_code == 9
    assert str(tmp_path / "keys") in caught.value.what
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("root_keys", "threshold"), [(3, 0), (3, 4), (0, 0), (17, 2)])
def test_numbers_of_root_keys_that_are_no_threshold_are_refused(
    tmp_path: Path, root_keys: int, threshold: int
) -> None:
    with pytest.raises(UsageError, match="is not a threshold"):
        keys.init(
            tmp_path / "keys",
            passphrase=PASSPHRASE,
            now=NOW,
            root_keys=root_keys,
            threshold=threshold,
        )


def test_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="passphrase of the keys is empty"):
        keys.init(tmp_path / "keys", passphrase="", now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_weak_passphrase_of_any_key_file_is_refused(tmp_path: Path) -> None:
    weak = tmp_path / "own"
    weak.write_text("short")
    weak.chmod(0o600)
    own = OwnPassphrases({"root-2": weak})
    for passphrase, more in (("short", OwnPassphrases()), (PASSPHRASE, own)):
        with pytest.raises(UsageError, match="too weak") as caught:
            keys.init(tmp_path / "keys", passphrase=passphrase, now=NOW, own=more)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "keys").exists()
    with pytest.raises(UsageError, match="too weak"):
        keys.init(tmp_path / "keys", passphrase="acme-lab 2026!!", now=NOW, names=["acme-lab"])


def test_root_keys_may_have_passphrases_of_their_own(tmp_path: Path) -> None:
    files = {}
    for name in ("root-1", "root-3"):
        files[name] = tmp_path / name
        files[name].write_text(f"words for {name} alone")
        files[name].chmod(0o600)
    made = keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW, own=OwnPassphrases(files))
    opened = {"root-1": "words for root-1 alone", "root-3": "words for root-3 alone"}
    for entry in made.keys:
        data = (tmp_path / f"keys/{entry.name}.pem").read_bytes()
        right = opened.get(entry.name, PASSPHRASE)
        load_pem_private_key(data, right.encode())
        for strange in {PASSPHRASE, *opened.values()} - {right}:
            with pytest.raises(ValueError, match=r"."):
                load_pem_private_key(data, strange.encode())


def test_passphrase_of_an_unknown_key_is_refused(tmp_path: Path) -> None:
    own = OwnPassphrases({"root-4": tmp_path / "p"})
    with pytest.raises(UsageError, match="There is no key 'root-4'"):
        keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW, own=own)


@pytest.mark.parametrize("url", ["{}", "file://{}", "{}/../store"])
def test_keys_inside_the_store_are_refused(tmp_path: Path, url: str) -> None:
    store = tmp_path / "store"
    with pytest.raises(UsageError, match="must not be inside the store") as caught:
        keys.init(store / "keys", passphrase=PASSPHRASE, now=NOW, store_url=url.format(store))
    assert "readable by every device" in caught.value.why
    assert not store.exists()


def test_keys_beside_an_s3_store_are_fine(tmp_path: Path) -> None:
    keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW, store_url="s3://bucket/prefix")
    assert (tmp_path / "keys/keys.json").is_file()


def test_keys_in_a_checkout_are_refused_unless_they_may_be_lost(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=30)
    with pytest.raises(UsageError, match="must not be tracked by git") as caught:
        keys.init(tmp_path / "deep/keys", passphrase=PASSPHRASE, now=NOW)
    assert "outside the checkout" in caught.value.hint
    assert not (tmp_path / "deep").exists()
    (tmp_path / ".gitignore").write_text("/deep/\n")
    with pytest.raises(UsageError, match="must not be in a checkout"):
        keys.init(tmp_path / "deep/keys", passphrase=PASSPHRASE, now=NOW)
    keys.init(tmp_path / "deep/keys", passphrase=PASSPHRASE, now=NOW, disposable=True)
    assert (tmp_path / "deep/keys/keys.json").is_file()


def test_checkout_of_another_owner_is_a_checkout_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=30)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # what git's own tests use
    said = subprocess.run(
        ["git", "-C", str(tmp_path), "check-ignore", "x"], check=False, capture_output=True,
        text=True, timeout=30,
    )  # fmt: skip
    assert "dubious ownership" in said.stderr
    with pytest.raises(UsageError, match="must not be tracked by git") as caught:
        keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "keys").exists()


def test_checkout_git_cannot_read_is_not_taken_for_none(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True, timeout=30)
    (tmp_path / ".git/config").write_text("[broken")
    with pytest.raises(UsageError, match="Cannot determine whether git would track") as caught:
        keys.init(tmp_path / "keys", passphrase=PASSPHRASE, now=NOW)
    assert caught.value.exit_code == 2
    assert "config" in caught.value.why
    assert not (tmp_path / "keys").exists()


def test_folder_without_keys_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no keys in") as caught:
        Keyring(tmp_path, str)
    assert "forge keys init" in caught.value.hint


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"surprise": 1}, {"keys": [{}]}])
def test_keys_file_that_is_not_valid_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    world = World(tmp_path)
    path = world.keys / "keys.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(ConfigurationError, match=r"keys.json is not valid") as caught:
        world.ring()
    assert next(iter(change)) in caught.value.why


def test_private_key_that_is_not_the_public_one_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.keys / "channels.pem").write_bytes((world.keys / "bundles.pem").read_bytes())
    ring = world.ring()
    with pytest.raises(UsageError, match="Cannot sign with key channels"):
        ring.signer(ring.entries("channels")[0])


def test_key_uri_of_another_scheme_is_looked_up_by_securesystemslib(tmp_path: Path) -> None:
    """`file2:` stands for a KMS here: any scheme of its table works, an unknown one is named."""
    world = World(tmp_path)
    ring = world.ring()
    online = ring.entries("online")[0]
    private = load_pem_private_key((world.keys / "online.pem").read_bytes(), PASSPHRASE.encode())
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    plain = tmp_path / "online-plain.pem"
    plain.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    moved = online.model_copy(update={"uri": f"file2:{plain}"})
    others = tuple(entry for entry in ring.file.keys if entry.role != "online")
    ring.save(ring.file.model_copy(update={"keys": (*others, moved)}))
    (world.keys / "online.pem").unlink()
    world.publish("1.0.0")
    client = world.client()
    client.refresh()
    assert client.channel("demo", "canary").version == "1.0.0"
    strange = online.model_copy(update={"uri": "nokms:key"})
    with pytest.raises(UsageError, match="Cannot sign with key online"):
        world.ring().signer(strange)


def test_expiry_of_each_role_comes_from_the_keys_file(tmp_path: Path) -> None:
    world = World(tmp_path, expiry=Expiry(timestamp=2))
    world.publish("1.0.0")
    signed = json.loads((tmp_path / "store/tuf/metadata/timestamp.json").read_bytes())["signed"]
    assert signed["expires"] == "2026-11-26T04:00:00Z"
    assert signed["signed_at"] == "2026-11-24T04:00:00Z"


# Where the passphrase comes from


def test_passphrase_file_wins_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("from file\nsecond line\n")
    (tmp_path / "p").chmod(0o600)
    environment = {"FORGE_PASSPHRASE": "from environment"}
    assert passphrase_source(environment, tmp_path / "p")() == "from file"
    assert passphrase_source(environment | {"FORGE_PASSPHRASE_FILE": str(tmp_path / "p")})() == (
        "from file"
    )
    assert passphrase_source(environment, prompt=lambda: "asked")() == "from environment"
    assert passphrase_source({}, prompt=lambda: "asked")() == "asked"


def test_missing_passphrase_names_its_sources() -> None:
    with pytest.raises(UsageError, match="No passphrase") as caught:
        passphrase_source({})()
    assert "FORGE_PASSPHRASE_FILE" in caught.value.hint


def test_passphrase_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Cannot read"):
        passphrase_source({}, tmp_path / "missing")()


def test_passphrase_is_asked_for_once_and_only_when_needed(tmp_path: Path) -> None:
    world = World(tmp_path)
    asked = []

    def ask() -> str:
        asked.append(1)
        return PASSPHRASE

    ring = Keyring(world.keys, ask)
    assert not asked
    for role in ("online", "bundles"):
        ring.signer(ring.entries(role)[0])
    assert len(asked) == 1
