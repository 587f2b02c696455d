"""Processes that are killed while they store, unpack or collect; collectors that meet writers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forge.errors import ConflictError
from forge.store import Store, open_store
from forge.store.maintenance.check import check_store
from forge.store.maintenance.garbage import collect_garbage
from tests.support.seaweed import Seaweed
from tests.support.stores import action, fill, noise, snapshot

PROJECT = Path(__file__).parents[2]
MIB = 1024 * 1024


def _put_and_die(folder: Path, url: str, cache: Path, *when: str, **environment: str) -> int:
    argv = [sys.executable, "-m", "tests.support.dying", str(folder), url, str(cache), *when]
    done = subprocess.run(
        argv, cwd=PROJECT, env={**os.environ, **environment}, timeout=120, check=False
    )
    return done.returncode


@pytest.mark.sample
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_put_killed_at_any_change_leaves_a_sound_store(tmp_path: Path, moment: str) -> None:
    old, new = fill(tmp_path / "old", seed=1), fill(tmp_path / "new", seed=2)
    template = tmp_path / "template"
    before = open_store(str(template), cache=tmp_path / "cache").put_tree(old)
    number, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        number += 1
        url = tmp_path / f"store-{number}"
        shutil.copytree(template, url)
        status = _put_and_die(new, str(url), tmp_path / f"cache-{number}", str(number), moment)
        _still_good(open_store(str(url), cache=tmp_path / f"cache-{number}"), before.digest, new)
    assert status == 0
    assert number > 6  # the mark, a pack, two chunk lists, the tree, the mark again


def _still_good(store: Store, before: str, new: Path) -> None:
    assert check_store(store).ok
    assert store.has_tree(before)
    digest = store.put_tree(new).digest
    assert check_store(store).ok
    out = new.parent / "out"
    store.unpack(digest, out)
    assert snapshot(out) == snapshot(new)
    shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4, 5])
def test_put_to_s3_killed_leaves_a_sound_store(
    seaweedfs: Seaweed, tmp_path: Path, number: int
) -> None:
    url = f"s3://{seaweedfs.bucket()}/forge"
    store = open_store(url, environment=seaweedfs.environment, cache=tmp_path / "cache")
    before = store.put_tree(fill(tmp_path / "old", seed=1))
    new = fill(tmp_path / "new", seed=2)
    when = (str(number), "before")
    status = _put_and_die(new, url, tmp_path / "cache", *when, **seaweedfs.environment)
    assert status == -signal.SIGKILL
    _still_good(store, before.digest, new)


def test_what_a_killed_put_left_is_collected(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    kept = store.put_tree(fill(tmp_path / "old", seed=1))
    before = {entry.name for kind in ("packs/", "files/") for entry in store.objects.entries(kind)}
    status = _put_and_die(
        fill(tmp_path / "new", seed=2), store.url, tmp_path / "cache", "4", "after"
    )
    assert status == -signal.SIGKILL
    half = tmp_path / "store" / ".tmp" / "pack-left"
    half.write_bytes(b"half")
    os.utime(half, (time.time() - 7200,) * 2)
    later = time.time() + 120  # the dead writer's mark has expired
    with pytest.raises(ConflictError, match="is writing to") as caught:
        collect_garbage(store, keep_trees=[kept.digest], grace_s=0, now=later)
    assert "run the command again" in str(caught.value)
    for entry in list(store.objects.entries("leases/")):
        store.objects.delete(entry.name)
    report = collect_garbage(store, keep_trees=[kept.digest], grace_s=0, now=later)
    assert report.left_overs >= 1
    assert not half.exists()
    after = {entry.name for kind in ("packs/", "files/") for entry in store.objects.entries(kind)}
    assert after == before
    assert check_store(store).ok


@pytest.mark.sample
@pytest.mark.slow
def test_unpack_killed_at_any_moment_is_finished_by_the_next(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in", large=24 * MIB)
    digest = store.put_tree(folder).digest
    code = (
        "import sys; from pathlib import Path; from forge.store import open_store;"
        "open_store(sys.argv[1]).unpack(sys.argv[2], Path(sys.argv[3]))"
    )
    out = tmp_path / "out"
    argv = [sys.executable, "-c", code, store.url, digest, str(out)]
    for delay_ms in range(0, 500, 50):
        with subprocess.Popen(argv, cwd=PROJECT) as process:
            while not (tmp_path / ".out.partial").exists() and process.poll() is None:
                time.sleep(0.001)
            time.sleep(delay_ms / 1000)
            process.kill()
        if out.exists():  # whole, or not there
            assert snapshot(out) == snapshot(folder)
            shutil.rmtree(out)
    store.unpack(digest, out)
    assert snapshot(out) == snapshot(folder)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_two_processes_do_not_fill_one_folder(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    digest = store.put_tree(fill(tmp_path / "in")).digest
    refused: list[ConflictError] = []

    def meanwhile(_done: int, _size: int) -> None:
        if not refused:
            with pytest.raises(ConflictError, match="Another process is filling") as caught:
                store.unpack(digest, tmp_path / "out")
            refused.append(caught.value)

    store.unpack(digest, tmp_path / "out", progress=meanwhile)
    assert refused[0].exit_code == 9
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


def test_collector_and_writers_racing_lose_nothing(tmp_path: Path) -> None:  # noqa: C901  three actors
    """Writers store and name trees, a collector with no grace deletes what is not named."""
    url, kept = str(tmp_path / "store"), set[str]()
    shared = noise(512 * 1024)
    stop = threading.Event()

    def put(store: Store, number: int, folder: Path) -> str:
        while True:
            try:
                with store.writing(f"writer-{number}"):
                    digest = store.put_tree(folder).digest
                    kept.add(digest)
                    return digest
            except ConflictError:
                time.sleep(0.01)

    def write(number: int) -> None:
        store = open_store(url, cache=tmp_path / f"cache-{number}")
        for turn in range(12):
            folder = tmp_path / f"in-{number}-{turn}"
            folder.mkdir()
            (folder / "shared").write_bytes(shared + bytes([number, turn]))
            digest = put(store, number, folder)
            if turn % 3:
                kept.discard(digest)
            time.sleep(0.02)

    def named() -> Iterator[str]:
        yield from set(kept)  # asked only when no writer is left

    def collect() -> None:
        store = open_store(url, cache=tmp_path / "cache-gc")
        while not stop.is_set():
            with contextlib.suppress(ConflictError):
                collect_garbage(store, keep_trees=named(), grace_s=0, now=time.time() + 5)
            time.sleep(0.005)

    (tmp_path / "store").mkdir()
    # One without a race, so that the test does not hang on whether a gap between writers is met.
    first = open_store(url, cache=tmp_path / "cache-first")
    lost = first.put_tree(fill(tmp_path / "lost")).digest
    collect_garbage(first, keep_trees=named(), grace_s=0, now=time.time() + 5)
    assert not first.has_tree(lost)
    collector = threading.Thread(target=collect)
    collector.start()
    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    stop.set()
    collector.join()
    store = open_store(url, cache=tmp_path / "cache-end")
    assert len(kept) == 8
    assert check_store(store).ok
    for number, digest in enumerate(sorted(kept)):
        store.unpack(digest, tmp_path / f"out-{number}")


def test_collector_killed_half_way_leaves_a_sound_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    kept = store.put_tree(fill(tmp_path / "kept", seed=1))
    dead = store.put_tree(fill(tmp_path / "dead", seed=2))
    store.put_action(action(dead))
    order: list[str] = []
    delete = store.objects.delete

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        if not name.startswith("leases/"):
            if len(order) == limit:
                raise Killed
            order.append(name)
        delete(name)

    store.objects.delete = die  # type: ignore[method-assign]  # the kill
    for limit in range(1, 20):  # noqa: B007  read by `die`
        try:
            collect_garbage(store, keep_trees=[kept.digest], grace_s=0, now=time.time() + 5)
        except Killed:
            assert check_store(store).ok
            continue
        break
    kinds = [name.split("/")[0] for name in order]
    assert kinds == sorted(kinds, key=["actions", "trees", "files", "packs"].index)
    assert len(order) >= 5
    assert check_store(store).ok
    store.unpack(kept.digest, tmp_path / "out")
