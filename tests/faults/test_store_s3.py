"""S3 that refuses, is missing, is overloaded, garbles, or goes away in the middle."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.errors import CorruptedError, StoreError
from forge.store import Store, open_store
from forge.store.backends.s3 import ATTEMPTS, S3Objects
from forge.store.backends.throttle import MinimumRate
from forge.store.maintenance.check import check_store
from tests.support.proxy import Weather, proxy
from tests.support.seaweed import Seaweed, free_ports
from tests.support.stores import fill, snapshot
from tests.support.wire import Wire, wire

MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "in")


@pytest.mark.parametrize(
    "wrong", [{"AWS_SECRET_ACCESS_KEY": "guessed"}, {"AWS_ACCESS_KEY_ID": "nobody"}]
)
def test_wrong_credentials_are_named(
    seaweedfs: Seaweed, folder: Path, tmp_path: Path, wrong: dict[str, str]
) -> None:
    url = f"s3://{seaweedfs.bucket()}/forge"
    good = open_store(url, environment=seaweedfs.environment, cache=tmp_path / "cache")
    digest = good.put_tree(folder).digest
    store = open_store(url, environment={**seaweedfs.environment, **wrong})
    for use in (lambda: store.put_tree(folder), lambda: store.unpack(digest, tmp_path / "out")):
        with pytest.raises(StoreError, match="denied access") as caught:
            use()
        assert caught.value.exit_code == 9
        assert "check AWS_ACCESS_KEY_ID" in str(caught.value)
        assert "guessed" not in str(caught.value)
    good.unpack(digest, tmp_path / "out")


def test_missing_credentials_are_named(
    seaweedfs: Seaweed, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    environment = {"FORGE_S3_ENDPOINT": seaweedfs.endpoint}
    url = f"s3://{seaweedfs.bucket()}"
    good = open_store(url, environment=seaweedfs.environment, cache=tmp_path / "cache")
    digest = good.put_tree(folder).digest
    store = open_store(url, environment=environment)
    for use in (lambda: store.put_tree(folder), lambda: store.unpack(digest, tmp_path / "out")):
        with pytest.raises(StoreError, match="No credentials") as caught:
            use()
        assert caught.value.exit_code == 9
        assert "set AWS_ACCESS_KEY_ID" in str(caught.value)
        assert not (tmp_path / "out").exists()
    good.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["whole", "stream"])
def test_a_body_that_drips_is_given_up(seaweedfs: Seaweed, how: str) -> None:
    """One byte each 0.2 s, which botocore's own limit would wait for; the grace of 30 s is one."""
    bucket = seaweedfs.bucket()
    S3Objects(bucket, "", seaweedfs.environment).write("packs/aa/x", os.urandom(MIB))
    port = int(seaweedfs.endpoint.rpartition(":")[2])
    with wire(port, Wire(drip_s=0.2, drips_after=8192)) as thin:
        environment = {**seaweedfs.environment, "FORGE_S3_ENDPOINT": f"http://127.0.0.1:{thin}"}
        quick = S3Objects(bucket, "", environment, minimum_rate=lambda: MinimumRate(grace_s=1.0))
        begun = time.monotonic()
        asked: dict[str, Callable[[], object]] = {
            "whole": lambda: quick.read("packs/aa/x", max_bytes=MIB),
            "stream": lambda: list(quick.stream("packs/aa/x", 0, MIB)),
        }
        with pytest.raises(StoreError, match="slower than 4096 bytes per second"):
            asked[how]()
        # Four times a second and what 8 KiB at the least rate earned, and the pauses.
        assert time.monotonic() - begun < 40


def test_packs_of_a_killed_writer_do_not_fill_the_disk(
    seaweedfs: Seaweed, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    url = f"s3://{seaweedfs.bucket()}/forge"
    store = open_store(url, environment=seaweedfs.environment, cache=tmp_path / "cache")
    scratch = store.objects.scratch()
    assert scratch.stat().st_mode & 0o777 == 0o700
    now = time.time()
    for name, age in (("pack-now", 0), ("pack-hours", 7200), ("pack-days", 200_000)):
        (scratch / name).write_bytes(b"half a pack")
        os.utime(scratch / name, (now - age,) * 2)
    store.put_tree(folder)
    assert sorted(path.name for path in scratch.iterdir()) == ["pack-hours", "pack-now"]
    assert store.objects.sweep(now - 3600) == 1
    assert [path.name for path in scratch.iterdir()] == ["pack-now"]


def test_scratch_folder_of_another_is_refused(
    seaweedfs: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = open_store("s3://bucket/forge", environment=seaweedfs.environment)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"forge-packs-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="belongs to another user") as caught:
        store.objects.scratch()
    assert caught.value.exit_code == 9
    assert "TMPDIR" in str(caught.value)


def test_missing_bucket_is_named(seaweedfs: Seaweed, folder: Path) -> None:
    store = open_store("s3://no-such-bucket/x", environment=seaweedfs.environment)
    with pytest.raises(StoreError, match="no-such-bucket") as caught:
        store.put_tree(folder)
    assert caught.value.exit_code == 9
    assert "aws s3 mb s3://no-such-bucket" in str(caught.value)


@pytest.mark.slow
def test_unreachable_endpoint_is_named(seaweedfs: Seaweed, folder: Path) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = open_store(
        "s3://bucket/x", environment={**seaweedfs.environment, "FORGE_S3_ENDPOINT": nobody}
    )
    with pytest.raises(StoreError, match="is unreachable") as caught:
        store.put_tree(folder)
    assert caught.value.exit_code == 9
    assert nobody in str(caught.value)
    assert "FORGE_S3_ENDPOINT" in str(caught.value)


def _through(url: str, server: Seaweed, bucket: str, cache: Path) -> Store:
    environment = {**server.environment, "FORGE_S3_ENDPOINT": url}
    return open_store(f"s3://{bucket}/forge", environment=environment, cache=cache)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
def bad_store(seaweedfs: Seaweed, weather: Weather, tmp_path: Path) -> Iterator[Store]:
    """A store behind the weather."""
    with proxy(seaweedfs.port, weather) as url:
        yield _through(url, seaweedfs, seaweedfs.bucket(), tmp_path / "cache")


def test_overloaded_store_is_asked_again(
    bad_store: Store, weather: Weather, folder: Path, tmp_path: Path
) -> None:
    weather.busy = 0.2
    digest = bad_store.put_tree(folder).digest
    bad_store.unpack(digest, tmp_path / "out")
    assert weather.spoilt > 0
    assert snapshot(tmp_path / "out") == snapshot(folder)
    weather.busy = 0
    assert check_store(bad_store).ok


@pytest.mark.slow
def test_store_that_stays_overloaded_is_named(
    bad_store: Store, weather: Weather, folder: Path, tmp_path: Path
) -> None:
    digest = bad_store.put_tree(folder).digest
    weather.busy = 1.0
    with pytest.raises(StoreError, match="overloaded") as caught:
        bad_store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert "503" in str(caught.value)
    assert "wait a moment" in str(caught.value)
    assert not (tmp_path / "out").exists()
    weather.busy = 0
    bad_store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_answers_that_break_off_are_asked_for_again(
    bad_store: Store, weather: Weather, folder: Path, tmp_path: Path
) -> None:
    digest = bad_store.put_tree(folder).digest
    # No more answers break off than one request may see and still succeed.
    weather.cuts, weather.most = 1.0, ATTEMPTS - 1
    bad_store.unpack(digest, tmp_path / "out")
    assert weather.spoilt == weather.most
    assert snapshot(tmp_path / "out") == snapshot(folder)


@pytest.mark.slow
def test_answers_that_always_break_off_are_named(
    bad_store: Store, weather: Weather, folder: Path, tmp_path: Path
) -> None:
    digest = bad_store.put_tree(folder).digest
    # Also the last byte: half of what is left would be progress.
    weather.cuts, weather.large = 1.0, 1
    with pytest.raises(StoreError, match="is unreachable") as caught:
        bad_store.unpack(digest, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert not (tmp_path / "out").exists()
    weather.cuts = 0
    bad_store.unpack(digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_bit_flipped_on_the_way_is_asked_for_again(
    bad_store: Store, weather: Weather, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "large", large=24 * MIB)
    digest = bad_store.put_tree(folder).digest
    weather.flips, weather.most = 1.0, 1
    bad_store.unpack(digest, tmp_path / "out")
    assert weather.spoilt > 0
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_bits_that_always_flip_are_never_served(
    bad_store: Store, weather: Weather, folder: Path, tmp_path: Path
) -> None:
    digest = bad_store.put_tree(folder).digest
    weather.flips = 1.0
    with pytest.raises(CorruptedError, match="packs/") as caught:
        bad_store.unpack(digest, tmp_path / "out")
    assert "forge store verify --repair" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.sample
@pytest.mark.slow
def test_server_killed_during_put_leaves_the_old_state_and_a_second_put_succeeds(
    own_seaweedfs: Seaweed, tmp_path: Path
) -> None:
    url = f"s3://{own_seaweedfs.bucket()}/forge"
    store = open_store(url, environment=own_seaweedfs.environment, cache=tmp_path / "cache")
    old = store.put_tree(fill(tmp_path / "old", seed=1))
    new = fill(tmp_path / "new", large=80 * MIB, seed=2)

    def kill(_done: int, _size: int) -> None:
        own_seaweedfs.stop()

    with pytest.raises(StoreError, match="is unreachable") as caught:
        store.put(new, progress=kill)
    assert caught.value.exit_code == 9
    assert own_seaweedfs.endpoint in str(caught.value)
    own_seaweedfs.start()
    assert check_store(store).ok
    store.unpack(old.digest, tmp_path / "out-old")
    assert snapshot(tmp_path / "out-old") == snapshot(tmp_path / "old")
    digest = store.put_tree(new).digest
    store.unpack(digest, tmp_path / "out-new")
    assert snapshot(tmp_path / "out-new") == snapshot(new)


@pytest.mark.slow
def test_server_killed_during_unpack_costs_only_what_was_not_fetched(
    own_seaweedfs: Seaweed, tmp_path: Path
) -> None:
    url = f"s3://{own_seaweedfs.bucket()}/forge"
    store = open_store(url, environment=own_seaweedfs.environment, cache=tmp_path / "cache")
    folder = fill(tmp_path / "in", large=96 * MIB)
    digest = store.put_tree(folder).digest

    def kill(done: int, size: int) -> None:
        if done > size // 2:
            own_seaweedfs.stop()

    with pytest.raises(StoreError, match="is unreachable") as caught:
        store.unpack(digest, tmp_path / "out", progress=kill)
    assert caught.value.exit_code == 9
    assert own_seaweedfs.endpoint in str(caught.value)
    assert not (tmp_path / "out").exists()
    own_seaweedfs.start()
    transfer = store.unpack(digest, tmp_path / "out")
    assert transfer.reused_bytes > 40 * MIB
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert not list(tmp_path.glob(".out*"))
