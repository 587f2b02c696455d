"""`forge store`, `keys`, `bundle` and `channels` on stores that are damaged, lost or not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forge.bundle import Manifest
from forge.cli import main
from forge.release import catalog
from forge.release.keys.model import Expiry
from forge.store.backends.directory import DirectoryObjects
from tests.support.release_world import PASSPHRASE, World
from tests.support.stores import snapshot

Said = pytest.CaptureFixture[str]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A store with one release; the commands run in a project that has it as `artifacts/`."""
    for name in ("pipelines", "profiles"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORGE_STORE", raising=False)
    (tmp_path / "artifacts").symlink_to(tmp_path / "store")
    made = World(tmp_path)
    made.release("1.0.0")
    return made


def _manifest(world: World) -> Manifest:
    return catalog.Catalog(world.objects).manifest("demo", "1.0.0", "development")


def _good(capsys: Said) -> None:
    """The store is sound, and its bundle is there."""
    assert main(["store", "verify"]) == 0
    assert main(["bundle", "list", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "0 damaged" in shown
    assert '"1.0.0"' in shown


@pytest.mark.parametrize(
    "command",
    [["store", "verify"], ["store", "gc"], ["bundle", "list"], ["bundle", "show", "1.0.0"],
     ["channels"], ["promote", "1.0.0", "stable"]],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.usefixtures("world")
def test_named_store_that_is_not_there_is_an_error_and_is_not_made(
    tmp_path: Path, capsys: Said, command: list[str]
) -> None:
    assert main([*command, "--store", str(tmp_path / "nope")]) == 9
    said = capsys.readouterr().err
    assert f"No store at {tmp_path / 'nope'}" in said
    assert "--store" in said
    assert not (tmp_path / "nope").exists()
    _good(capsys)


def test_default_store_of_a_new_project_is_empty_and_has_nothing_to_verify(
    tmp_path: Path, capsys: Said
) -> None:
    for name in ("pipelines", "profiles"):
        (tmp_path / name).mkdir()
    at = ["--project", str(tmp_path), "--json"]
    assert main(["bundle", "list", *at]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["store", "gc", *at]) == 9
    assert "No store at" in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize(
    "command", [["store", "gc", "--grace-hours", "0"], ["bundle", "list"], ["channels"]]
)
def test_lost_timestamp_is_an_error_and_nothing_is_deleted(
    world: World, capsys: Said, command: list[str]
) -> None:
    saved = world.objects.read("tuf/metadata/timestamp.json", max_bytes=99_999).data
    world.objects.delete("tuf/metadata/timestamp.json")
    before = snapshot(world.folder / "store")
    assert main(command) == 7
    said = capsys.readouterr().err
    assert "has release metadata and no timestamp" in said
    assert "restore it from a copy of the store" in said
    assert snapshot(world.folder / "store") == before
    assert main(["store", "verify"]) == 9
    assert "tuf/metadata/timestamp.json" in capsys.readouterr().out
    world.objects.write("tuf/metadata/timestamp.json", saved)
    _good(capsys)


@pytest.mark.parametrize(
    "pattern",
    ["metadata/1.root.json", "metadata/timestamp.json", "metadata/*.snapshot.json",
     "metadata/*.targets.json", "metadata/*.bundles.json", "metadata/*.channels.json",
     "targets/bundles/demo/1.0.0/*.json", "targets/channels/demo/*.json", "targets/keys/*.json"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["altered", "missing"])
def test_damaged_release_metadata_is_found_without_any_key(
    world: World, capsys: Said, pattern: str, how: str
) -> None:
    shutil.rmtree(world.keys)
    (path,) = (world.folder / "store/tuf").glob(pattern)
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(data.replace(b'"', b" ", 1).replace(b"0", b"1", 1))
    assert main(["store", "verify"]) == 9
    said = capsys.readouterr().out
    assert path.relative_to(world.folder / "store").as_posix() in said
    assert "restore it from a copy of the store" in said
    assert main(["store", "verify", "--repair"]) == 9  # it cannot be made again
    assert "1 still damaged" in capsys.readouterr().out
    path.write_bytes(data)
    _good(capsys)


def test_repair_that_deletes_a_published_tree_names_the_bundle(world: World, capsys: Said) -> None:
    tree = _manifest(world).tree.digest
    entry = next(e for e in world.store.tree(tree).entries if e.path.endswith("engine.bin"))
    pack = world.folder / "store/packs" / entry.sha256[:2] / entry.sha256
    sound = pack.read_bytes()
    pack.write_bytes(b"x" * len(sound))
    assert main(["store", "verify"]) == 9
    assert "Next: forge store verify --repair" in capsys.readouterr().out
    assert main(["store", "verify", "--repair"]) == 0
    said = capsys.readouterr().out
    assert "demo 1.0.0 for development can no longer be installed" in said
    assert "0 still damaged" not in said
    assert not world.store.has_tree(tree)
    (work,) = world.folder.glob("release-1.0.0-*")
    assert world.store.put_tree(work / "tree").digest == tree
    _good(capsys)


def test_repair_from_a_folder_loses_no_bundle(world: World, capsys: Said) -> None:
    tree = _manifest(world).tree.digest
    entry = next(e for e in world.store.tree(tree).entries if e.path.endswith("engine.bin"))
    (world.folder / "store/packs" / entry.sha256[:2] / entry.sha256).write_bytes(b"x")
    (work,) = world.folder.glob("release-1.0.0-*")
    assert main(["store", "verify", "--repair-from", str(work / "tree"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["lost_bundles"], report["remaining"]) == ([], [])
    assert report["healed"] >= 1
    _good(capsys)


def test_stray_file_is_a_problem_for_verify_and_none_for_gc(world: World, capsys: Said) -> None:
    note = world.folder / "store/trees/note.json~"
    note.write_text("remember")
    assert main(["store", "verify"]) == 9
    assert "trees/note.json~: not written by Forge" in capsys.readouterr().out
    assert main(["store", "verify", "--repair"]) == 9
    assert main(["store", "gc", "--grace-hours", "0"]) == 0
    assert "Kept, not written by Forge: trees/note.json~" in capsys.readouterr().out
    assert note.read_text() == "remember"
    note.unlink()
    _good(capsys)


# Keys


def _init(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """With standard input at its end and no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "forge", "keys", "init", *arguments],
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if "PASSPHRASE" not in k}, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
    )


def test_keys_in_the_default_store_are_refused(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    for place in ("artifacts/keys", str(world.folder / "store/deep/keys")):
        assert main(["keys", "init", "--keys", place]) == 2
        assert "Keys must not be inside the store" in capsys.readouterr().err
    assert not (world.folder / "store/keys").exists()
    assert main(["keys", "init", "--keys", "beside/keys", "--new-root", "--json"]) == 0
    assert (world.folder / "beside/keys/root.json").is_file()


def test_prompt_at_the_end_of_input_says_how_to_give_a_passphrase(tmp_path: Path) -> None:
    done = _init(tmp_path, "--keys", "keys")
    assert done.returncode == 2, done.stderr
    assert "No passphrase for the keys" in done.stderr
    assert "--passphrase-file" in done.stderr
    assert "FORGE_PASSPHRASE_FILE" in done.stderr
    assert "Stopped" not in done.stderr
    assert not (tmp_path / "keys").exists()


def test_keys_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    done = _init(tmp_path, "--keys", "/proc/nokeys/x", FORGE_PASSPHRASE=PASSPHRASE)
    assert done.returncode == 9
    assert "The keys folder /proc/nokeys/x cannot be created" in done.stderr
    assert "Traceback" not in done.stderr


def test_hints_name_options_that_exist(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    assert main(["keys", "status", "--keys", "nowhere", "--store", "new"]) == 2
    assert "forge keys init --keys nowhere" in capsys.readouterr().err
    assert main(["keys", "init", "--keys", str(world.keys)]) == 2
    assert f"forge keys status --keys {world.keys}" in capsys.readouterr().err


def test_second_clone_is_told_to_get_the_keys_and_makes_no_second_root(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    commands = (["status"], ["refresh"], ["rotate", "online"], ["init"])
    for command in (*(["keys", *one] for one in commands), ["promote", "1.0.0", "stable"]):
        assert main([*command, "--keys", "clone/keys"]) == 2
        said = capsys.readouterr().err
        assert "forge keys backup FILE" in said
        assert "forge keys restore FILE --keys clone/keys" in said
        assert "forge keys init" not in said
    assert not (world.folder / "clone").exists()
    assert main(["keys", "backup", "keys.tar", "--keys", str(world.keys)]) == 0
    assert main(["keys", "restore", "keys.tar", "--keys", "clone/keys"]) == 0
    assert main(["keys", "status", "--keys", "clone/keys"]) in {0, 7}  # 7: its signatures are old


def test_keys_of_a_store_that_cannot_be_reached_may_be_made(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["keys", "init", "--keys", "keys", "--store", "file/store"]) == 0
    assert "Not checked whether the store file/store has keys" in capsys.readouterr().err


@pytest.mark.usefixtures("world")
def test_keys_in_the_checkout_are_found_and_moved_with_one_command(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / ".forge").mkdir()
    (tmp_path / "keys").rename(tmp_path / ".forge/keys")
    new = tmp_path / "config/forge/keys" / tmp_path.name
    assert main(["keys", "status", "--json"]) in {0, 7}
    said = capsys.readouterr()
    assert said.err.count("To move them: forge keys move") == 1
    assert json.loads(said.out)
    assert main(["keys", "move"]) == 0
    assert str(new) in capsys.readouterr().out
    assert not (tmp_path / ".forge/keys").exists()
    assert main(["keys", "status", "--json"]) in {0, 7}
    assert capsys.readouterr().err == ""
    assert main(["keys", "move"]) == 0
    assert "already" in capsys.readouterr().out
    assert main(["keys", "refresh", "--force"]) in {0, 7}


def test_passphrase_of_one_root_key_is_changed_on_the_command_line(
    world: World, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    (tmp_path / "second").write_text("of the holder of root-2\n")
    (tmp_path / "second").chmod(0o600)
    at = ["--keys", str(world.keys), "--new-passphrase-file", str(tmp_path / "second")]
    assert main(["keys", "passphrase", "root-2", *at, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == ["root-2"]
    rotate = ["keys", "rotate", "root", "--replace", "root-1", "--keys", str(world.keys)]
    monkeypatch.setenv("FORGE_KEY_PASSPHRASE_FILES", f"root-2={tmp_path}/second")
    assert main(rotate) == 0


def test_clean_deletes_what_can_be_made_again_and_keeps_keys_and_store(tmp_path: Path) -> None:
    shutil.copyfile(Path(__file__).parents[3] / "Makefile", tmp_path / "Makefile")
    for name in (".forge/keys/online.pem", ".forge/trees/x/y", "artifacts/packs/x", ".venv/x",
                 "artifacts/README.md", ".forge/demo/keys/online.pem", ".forge/demo/passphrase",
                 ".forge/demo/device/state.json"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".forge/trees/x").chmod(0o500)  # read-only, as tool environments
    said = subprocess.run(
        ["make", "clean"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
    )
    assert "forge keys move" in said.stdout
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    # The demo's keys too: the store that is kept is signed with them.
    kept = {".forge/keys/online.pem", ".forge/demo/keys/online.pem", ".forge/demo/passphrase",
            "artifacts/README.md", "artifacts/packs/x"}  # fmt: skip
    assert left == {"Makefile", *kept}


# Help and --project


@pytest.mark.parametrize(
    "command",
    [["store", "verify"], ["store", "gc"], ["bundle", "list"], ["bundle", "show", "1.0.0"],
     ["channels"], ["keys", "status", "--keys", "keys"]],
    ids=" ".join,
)  # fmt: skip
def test_project_may_be_named_from_elsewhere(
    world: World, capsys: Said, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    (world.folder / "elsewhere").mkdir()
    monkeypatch.chdir(world.folder / "elsewhere")
    shutil.copytree(world.keys, "keys")
    monkeypatch.setenv("HOME", str(world.folder))
    at = ["--project", str(world.folder)]
    assert main([*command, *at, "--json"]) in {0, 7}  # 7: the test's signatures are old
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("group", ["keys", "store", "bundle"])
def test_group_has_examples(group: str, capsys: Said) -> None:
    assert main([group, "--help"]) == 0
    assert f"forge {group} " in capsys.readouterr().out.split("Options:")[0].split("\n", 1)[1]


@pytest.mark.parametrize("name", ["channels", "promote"])
def test_command_prints_json_and_says_so(name: str, capsys: Said) -> None:
    assert main([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_a_store_has_what_forge_needs(world: World, capsys: Said) -> None:
    before = snapshot(world.folder / "store")
    assert main(["store", "test", "--store", str(world.folder / "store")]) == 0
    assert "no" not in capsys.readouterr().out.split()
    assert snapshot(world.folder / "store") == before


def test_a_service_that_ignores_conditions_is_refused(
    tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_new(self: DirectoryObjects, name: str, data: bytes) -> str:
        return self.write(name, data)

    monkeypatch.setattr(DirectoryObjects, "write_new", write_new)
    assert main(["store", "test", "--store", str(tmp_path)]) == 9
    said = capsys.readouterr()
    assert "it replaced an object that exists" in said.out
    assert "two machines publish over each other" in said.err.replace("\n", " ")


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert main(["store", "test", "--store", str(tmp_path / "none")]) != 0
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("days", "expired", "warning"), [(0, 0, 0), (5, 0, 0), (6, 0, 7), (8, 7, 7)]
)
def test_a_job_may_fail_before_a_role_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, expired: int, warning: int
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    tmp_path.joinpath("aged").mkdir()
    then = datetime.now(UTC) - timedelta(days=days)
    aged = World(tmp_path / "aged", now=then, expiry=Expiry())  # its timestamp holds 7 days
    aged.release("1.0.0")
    store = str(aged.folder / "store")
    command = ["keys", "status", "--keys", str(aged.keys), "--store", store]
    assert main(command) == expired
    assert main([*command, "--fail-on", "warning"]) == warning


def test_an_empty_store_is_no_good_news_for_a_daily_job(
    world: World, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", PASSPHRASE)
    (tmp_path / "mistyped").mkdir()
    command = ["keys", "status", "--keys", str(world.keys), "--store", str(tmp_path / "mistyped")]
    assert main(command) == 0
    assert main([*command, "--fail-on", "warning"]) == 7
    assert "Nothing is published in this store" in capsys.readouterr().err
