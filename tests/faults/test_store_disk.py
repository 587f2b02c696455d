"""A store whose disk is read-only, full or gone, and a device whose disk is full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.errors import CorruptedError, NotInStoreError, StoreError
from forge.store import open_store
from forge.store.maintenance.check import check_store
from tests.support import syscalls
from tests.support.stores import action, fill, snapshot

MIB = 1024 * 1024


class InterruptedPullError(Exception):
    """Ends a pull as a kill does: what came stays."""


Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount a small tmpfs, or remount it with other options."""
    mounted: list[Path] = []

    def do(name: str, *options: str) -> Path:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        again = ["remount"] if path in mounted else []
        argv = ["mount", "-t", "tmpfs", "-o", ",".join([*again, *options]), "tmpfs", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode:
            pytest.skip(f"mount is not permitted here: {done.stderr.strip()}")
        if path not in mounted:
            mounted.append(path)
        return path

    yield do
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=30)


def test_read_only_store_is_read_and_refuses_writes(mount: Mount, tmp_path: Path) -> None:
    root = mount("store", "size=32m")
    store = open_store(str(root), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in")
    reference = store.put_tree(folder)
    store.put_action(action(reference))
    mount("store", "ro")
    store = open_store(str(root), cache=tmp_path / "cache")
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        store.put_tree(folder)
    assert caught.value.exit_code == 9
    assert "mount it writable" in str(caught.value)
    assert str(root) in str(caught.value)
    store.unpack(reference.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert store.action("0" * 64) is None
    assert len(store.recent_actions()) == 1
    assert check_store(store).ok


def test_full_store_keeps_what_it_has_and_goes_on_with_more_space(
    mount: Mount, tmp_path: Path
) -> None:
    root = mount("store", "size=12m")
    store = open_store(str(root), cache=tmp_path / "cache")
    old = store.put_tree(fill(tmp_path / "old", large=4 * MIB, seed=1))
    new = fill(tmp_path / "new", large=16 * MIB, seed=2)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.put_tree(new)
    assert caught.value.exit_code == 9
    assert "forge store gc" in str(caught.value)
    assert check_store(store).ok
    store.unpack(old.digest, tmp_path / "out-old")
    assert snapshot(tmp_path / "out-old") == snapshot(tmp_path / "old")
    mount("store", "size=64m")
    digest = store.put_tree(new).digest
    store.unpack(digest, tmp_path / "out-new")
    assert snapshot(tmp_path / "out-new") == snapshot(new)
    assert check_store(store).ok


def test_store_that_goes_away_in_the_middle_is_not_made_anew(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    store = open_store(str(root), cache=tmp_path / "cache")
    old = store.put_tree(fill(tmp_path / "old", seed=1))
    new = fill(tmp_path / "new", seed=2)

    def unplug(_done: int, _size: int) -> None:
        if root.exists():
            root.rename(elsewhere)

    with pytest.raises(StoreError, match="has disappeared") as caught:
        store.put(new, progress=unplug)
    assert caught.value.exit_code == 9
    assert "mount or restore the folder" in str(caught.value)
    assert not root.exists()
    with pytest.raises(StoreError, match="has disappeared"):
        store.has_tree(old.digest)
    elsewhere.rename(root)
    assert check_store(store).ok
    store.unpack(old.digest, tmp_path / "out")
    assert store.put_tree(new).size > 0
    assert check_store(store).ok


def test_store_that_was_never_there_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "none"))
    with pytest.raises(NotInStoreError, match="No store at") as caught:
        store.tree("0" * 64)
    assert "--store" in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_full_disk_of_the_device_leaves_nothing_half_made(mount: Mount, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    small = store.put_tree(fill(tmp_path / "small", large=1 * MIB, seed=1))
    large = store.put_tree(fill(tmp_path / "large", large=20 * MIB, seed=2))
    disk = mount("disk", "size=16m")
    store.unpack(small.digest, disk / "a")
    with pytest.raises(StoreError, match="Not enough space") as caught:
        store.unpack(large.digest, disk / "b")
    assert "requires 25 MiB with a reserve of 4 MiB, 14 MiB are free" in str(caught.value)
    assert "11 MiB are missing" in str(caught.value)
    assert [path.name for path in disk.iterdir()] == ["a"]
    assert snapshot(disk / "a") == snapshot(tmp_path / "small")


def test_rest_of_another_tree_is_deleted_before_a_tree_is_refused(
    mount: Mount, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    old = store.put_tree(fill(tmp_path / "old", large=20 * MIB, seed=1))
    new = store.put_tree(fill(tmp_path / "new", large=20 * MIB, seed=2))
    disk = mount("disk", "size=32m")

    def cut(done: int, _size: int) -> None:
        if done > 12 * MIB:
            raise InterruptedPullError

    with pytest.raises(InterruptedPullError):
        store.unpack(old.digest, disk / "b", progress=cut)
    assert shutil.disk_usage(disk).free < 24 * MIB
    store.unpack(new.digest, disk / "b")
    assert snapshot(disk / "b") == snapshot(tmp_path / "new")
    assert [path.name for path in disk.iterdir()] == ["b"]


def test_disk_that_fills_up_meanwhile_leaves_nothing_half_made(
    mount: Mount, tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    large = store.put_tree(fill(tmp_path / "large", large=20 * MIB))
    disk = mount("disk", "size=32m")

    def eat(_done: int, _size: int) -> None:
        if not (disk / "eaten").exists():
            (disk / "eaten").write_bytes(b"x" * 20 * MIB)

    with pytest.raises(StoreError, match="No space left") as caught:
        store.unpack(large.digest, disk / "b", progress=eat)
    assert "free some disk space" in str(caught.value)
    assert "requires up to 25 MiB, 12 MiB are free, 13 MiB are missing" in str(caught.value)
    assert [path.name for path in disk.iterdir()] == ["eaten"]
    (disk / "eaten").unlink()
    store.unpack(large.digest, disk / "b")
    assert snapshot(disk / "b") == snapshot(tmp_path / "large")


_WITHIN_A_QUOTA = """
import sys
from pathlib import Path
from forge.errors import ForgeError
from forge.store import open_store
url, cache, digest, folder = sys.argv[1:]
store = open_store(url, cache=Path(cache))
try:
    store.unpack(digest, Path(folder)) if digest else store.put_tree(Path(folder))
except ForgeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def _within_a_quota(below: Path, *arguments: object) -> str:
    """Put or unpack where each write but the first is one above the quota; what it said."""
    syscalls.need_traps()
    written: list[syscalls.Call] = []

    def judge(call: syscalls.Call) -> syscalls.Verdict:
        if call.name not in {"write", "pwrite64"}:
            return "go on"
        written.append(call)
        return errno.EDQUOT if len(written) > 1 else "go on"

    argv = [sys.executable, "-c", _WITHIN_A_QUOTA, *map(str, arguments)]
    outcome = syscalls.run(argv, judge, below=below)
    assert len(written) > 1
    assert outcome.status == 9, outcome.output
    assert "Traceback" not in outcome.output
    assert "Disk quota exceeded" in outcome.output
    return outcome.output


def test_quota_that_ends_meanwhile_is_as_a_full_disk(tmp_path: Path) -> None:
    url, cache = tmp_path / "store", tmp_path / "cache"
    store = open_store(str(url), cache=cache)
    digest = store.put_tree(fill(tmp_path / "in", large=20 * MIB)).digest
    disk = tmp_path / "disk"
    disk.mkdir()
    said = _within_a_quota(disk, url, cache, digest, disk / "b")
    assert "requires up to 25 MiB" in said
    assert "free some disk space" in said
    assert list(disk.iterdir()) == []
    store.unpack(digest, disk / "b")
    assert snapshot(disk / "b") == snapshot(tmp_path / "in")


def test_store_whose_quota_ends_keeps_what_it_has(tmp_path: Path) -> None:
    url, cache = tmp_path / "store", tmp_path / "cache"
    store = open_store(str(url), cache=cache)
    old = store.put_tree(fill(tmp_path / "old", seed=1)).digest
    new = fill(tmp_path / "new", seed=2)
    said = _within_a_quota(url, url, cache, "", new)
    assert "free some of the disk quota; for a store, run 'forge store gc'" in said
    assert check_store(store).ok
    store.unpack(old, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "old")
    store.put_tree(new)
    assert check_store(store).ok


def test_index_that_is_damaged_or_cannot_be_written_does_no_harm(
    mount: Mount, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    store = open_store(str(tmp_path / "store"), cache=cache)
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    for path in cache.iterdir():
        path.write_bytes(b"not a database" * 1000)
    assert open_store(str(tmp_path / "store"), cache=cache).put(folder).new_bytes == 0
    frozen = mount("frozen", "size=1m")
    mount("frozen", "ro")
    again = open_store(str(tmp_path / "store"), cache=frozen / "cache").put(folder)
    assert (again.new_bytes, again.reference.digest) == (0, digest)


def test_cache_disk_that_is_full_does_no_harm(mount: Mount, tmp_path: Path) -> None:
    full = mount("full", "size=160k")
    store = open_store(str(tmp_path / "store"), cache=full / "cache")
    folder = fill(tmp_path / "in", large=64 * MIB)
    digest = store.put_tree(folder).digest
    assert not list((full / "cache").glob("*.sqlite"))  # it gave its space back
    store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    again = open_store(str(tmp_path / "store"), cache=full / "cache").put(folder)
    assert (again.new_bytes, again.reference.digest) == (0, digest)


def test_disk_that_fills_up_while_a_seed_is_copied_leaves_nothing_half_made(
    mount: Mount, tmp_path: Path
) -> None:
    """A full disk must not be taken for a seed that cannot be read."""
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in", large=20 * MIB)
    digest = store.put_tree(folder).digest
    shutil.copytree(folder, tmp_path / "seed")
    with (tmp_path / "seed/engine/1/model.bin").open("r+b") as file:
        file.write(b"another beginning")  # so that it is copied chunk by chunk
    disk = mount("disk", "size=32m")

    def eat(done: int, _size: int) -> None:
        if done > MIB and not (disk / "eaten").exists():
            (disk / "eaten").write_bytes(b"x" * 20 * MIB)

    with pytest.raises(StoreError, match="No space left") as caught:
        store.unpack(digest, disk / "b", seeds=[tmp_path / "seed"], progress=eat)
    assert caught.value.exit_code == 9
    assert not isinstance(caught.value, CorruptedError)
    assert "free some disk space" in str(caught.value)
    assert [path.name for path in disk.iterdir()] == ["eaten"]
    (disk / "eaten").unlink()
    store.unpack(digest, disk / "b", seeds=[tmp_path / "seed"])
    assert snapshot(disk / "b") == snapshot(folder)


def test_every_file_is_made_durable_also_one_linked_from_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    durable, fsync = set[int](), os.fsync

    def note(descriptor: int) -> None:
        durable.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    store.unpack(digest, tmp_path / "out", seeds=[folder])
    linked = tmp_path / "out/engine/1/model.bin"
    assert linked.samefile(folder / "engine/1/model.bin")
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_ino for path in made} <= durable


def test_seed_that_is_deleted_meanwhile_is_replaced_by_the_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in")
    digest = store.put_tree(folder).digest
    shutil.copytree(folder, tmp_path / "seed")
    store.unpack(
        digest,
        tmp_path / "out",
        seeds=[tmp_path / "seed"],
        progress=lambda _done, _size: shutil.rmtree(tmp_path / "seed", ignore_errors=True),
    )
    assert snapshot(tmp_path / "out") == snapshot(folder)


# The same through the command line


def _project(tmp_path: Path) -> Path:
    """A project whose pipeline writes one file of some megabytes, and can take its store away."""
    project = tmp_path / "project"
    (project / "profiles").mkdir(parents=True)
    (project / "pipelines").mkdir()
    (project / "pipelines" / "hello.py").write_text(
        textwrap.dedent(
            """
            from forge.plan import Plan
            from forge.steps import Step

            def hello(*, size: int = 1, then: str = "true") -> Plan:
                script = f"head -c {size} /dev/urandom > ${{outputs.out}}/file; {then}"
                step = Step(id="hello", argv=("sh", "-ceu", script), inputs={}, outputs=("out",))
                return Plan.of("hello", [], [step])
            """
        )
    )
    return project


def _forge(project: Path, *arguments: str, fails: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "forge", *arguments],
        cwd=project,
        env={**os.environ, "FORGE_CACHE": str(project / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == fails, f"{arguments}: {done.returncode} {done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def _hits(project: Path, *arguments: str) -> None:
    """What was stored before is used, and sound."""
    (step,) = json.loads(_forge(project, "plan", "hello", *arguments, "--json").stdout)
    assert step["status"] == "hit"
    _forge(project, "store", "verify", *arguments)


def test_commands_on_a_read_only_store_read_it_and_refuse_to_write(
    mount: Mount, tmp_path: Path
) -> None:
    project, root = _project(tmp_path), mount("store", "size=32m")
    at = ("--store", str(root))
    _forge(project, "run", "hello", *at)
    mount("store", "ro")
    done = _forge(project, "run", "hello", "--size", "2", *at, fails=9)
    assert "Read-only file system" in done.stderr
    assert "mount it writable" in done.stderr
    assert json.loads(_forge(project, "bundle", "list", *at, "--json").stdout) == []
    _hits(project, *at)


def test_run_on_a_full_store_keeps_what_it_has(mount: Mount, tmp_path: Path) -> None:
    project, root = _project(tmp_path), mount("store", "size=4m")
    at = ("--store", str(root))
    _forge(project, "run", "hello", *at)
    done = _forge(project, "run", "hello", "--size", str(9 * MIB), *at, fails=9)
    assert "No space left" in done.stderr
    assert "forge store gc" in done.stderr
    _hits(project, *at)
    mount("store", "size=64m")
    _forge(project, "run", "hello", "--size", str(9 * MIB), *at)
    _hits(project, *at)


def test_run_whose_store_goes_away_does_not_make_another(tmp_path: Path) -> None:
    project, root = _project(tmp_path), tmp_path / "store"
    at = ("--store", str(root))
    _forge(project, "run", "hello", *at)
    unplug = f"mv {root} {tmp_path}/elsewhere"
    done = _forge(project, "run", "hello", "--then", unplug, *at, fails=9)
    assert f"The store {root} has disappeared" in done.stderr
    assert "mount or restore the folder" in done.stderr
    assert not root.exists()
    (tmp_path / "elsewhere").rename(root)
    _hits(project, *at)
