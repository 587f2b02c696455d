"""Stores on a real web server, with TLS by an authority of the tests' own."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forge.device.state.directory import StateDirectory
from forge.device.state.settings import read_settings
from forge.errors import ConfigurationError, NotInStoreError, StoreError
from forge.store import Store, open_objects, open_store
from forge.store.backends.web import WebObjects
from forge.store.download.downloader import WORKERS
from forge.store.formats.chunker import MAXIMUM
from forge.store.formats.names import FILES, TREES
from tests.support.bundle_pull import pull, release
from tests.support.device_world import World as DeviceWorld
from tests.support.release_world import World
from tests.support.seaweed import Seaweed
from tests.support.stores import fill, noise, snapshot
from tests.support.webserver import Authority, make_authority, web_server
from tests.support.wire import Wire, wire

PROJECT = Path(__file__).parents[2]
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def forge(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forge", *argv],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_metadata_and_bundle_come_over_https(tmp_path: Path, authority: Authority) -> None:
    world = World(tmp_path)
    bundle, proofs = fill(tmp_path / "bundle", large=8 * MIB), fill(tmp_path / "proofs", large=1)
    release(world, "1.0.0", bundle, proofs)
    with web_server(tmp_path / "store", tmp_path / "web", authority=authority) as server:
        objects = open_objects(server.url, environment={"SSL_CERT_FILE": str(authority.ca)})
        pull(world, objects, tmp_path / "device", "a")
        assert snapshot(tmp_path / "device" / "a" / "tree") == snapshot(bundle)
        ranges = [answer for answer in server.answers() if answer[0] == 206]
        assert ranges
        before = server.sent()
        pull(world, objects, tmp_path / "device", "b", "a")
        assert 0 < server.sent() - before < 20_000
    assert snapshot(tmp_path / "device" / "b" / "tree") == snapshot(bundle)


def test_commands_that_read_take_an_https_store(tmp_path: Path, authority: Authority) -> None:
    world = World(tmp_path)
    release(world, "1.0.0", fill(tmp_path / "bundle"), fill(tmp_path / "proofs", large=1))
    with web_server(tmp_path / "store", tmp_path / "web", authority=authority) as server:
        trust = {"SSL_CERT_FILE": str(authority.ca)}
        listed = forge("bundle", "list", "--store", server.url, "--json", **trust)
        assert listed.returncode == 0, listed.stderr
        assert "1.0.0" in listed.stdout
        stranger = forge("bundle", "list", "--store", server.url, SSL_CERT_FILE="")
        assert stranger.returncode == 9
        assert "could not be verified" in stranger.stderr
        assert "SSL_CERT_FILE" in stranger.stderr
        verified = forge("store", "verify", "--store", server.url, **trust)
        assert verified.returncode == 3
        assert "cannot be listed" in verified.stderr


def test_expired_certificate_is_named(tmp_path: Path) -> None:
    old = make_authority(tmp_path / "old", days=-1)
    (tmp_path / "store").mkdir()
    with web_server(tmp_path / "store", tmp_path / "web", authority=old) as server:
        objects = open_objects(server.url, environment={"SSL_CERT_FILE": str(old.ca)})
        with pytest.raises(StoreError, match="certificate has expired") as caught:
            objects.read("tuf/metadata/timestamp.json", max_bytes=100)
        assert "date -u" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://store.example.com/prod",
        "http://10.0.0.1/prod",
        "https://user:secret@store.example.com/prod",
        "https://store.example.com/prod?signature=secret",
        "https:///prod",
        "https://store.example.com:99999/prod",
        "https://store.example.com/../prod",
        "ftp://store.example.com/prod",
    ],
)
def test_url_that_is_no_safe_store_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_objects(url, environment={})
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_plain_http_is_for_this_machine_and_for_who_asked_for_it() -> None:
    assert open_objects("http://127.0.0.1:1/x", environment={}).url == "http://127.0.0.1:1/x"
    assert open_objects("http://[::1]:1/x", environment={}).url == "http://[::1]:1/x"
    allowed = {"FORGE_ALLOW_HTTP": "1"}
    assert open_objects("http://plant.example.com/x/", environment=allowed).url.endswith("/x")
    with pytest.raises(ConfigurationError, match="is not encrypted") as caught:
        open_objects("http://127.0.0.1.example.com/x", environment={})
    assert "FORGE_ALLOW_HTTP=1" in str(caught.value)


def test_store_on_the_web_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with web_server(tmp_path / "store", tmp_path / "web") as server:
        store = open_store(server.url, environment={}, cache=tmp_path)
        with pytest.raises(ConfigurationError, match="it is read-only") as caught:
            store.put_tree(fill(tmp_path / "in"))
    assert caught.value.exit_code == 3


def test_server_without_ranges_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Python's own web server sends whole files, whatever it is asked for."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    digest = store.put_tree(fill(tmp_path / "in")).digest
    handler = partial(Quiet, directory=str(tmp_path / "store"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        read = open_store(url, environment={}, cache=tmp_path / "cache")
        assert read.tree(digest).size > 0
        with pytest.raises(StoreError, match="does not support ranges") as caught:
            read.unpack(digest, tmp_path / "out")
        assert "Range" in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _puller(url: str, digest: str, out: Path, limit: int = 0) -> list[str]:
    return [
        sys.executable, "-m", "tests.support.pulling", url, digest, str(out), str(limit),
    ]  # fmt: skip


def _weighed(url: str, digest: str, out: Path, limit: int = 0) -> dict[str, int]:
    done = subprocess.run(
        _puller(url, digest, out, limit),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=3000,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "size_mib", [96, pytest.param(2048, marks=[pytest.mark.exhaustive, pytest.mark.timeout(3600)])]
)
def test_memory_stays_bounded_whatever_the_size(tmp_path: Path, size_mib: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    wanted = hashlib.sha256()
    with (folder / "model.bin").open("wb") as file:
        for number in range(size_mib):
            block = noise(MIB, number)
            wanted.update(block)
            file.write(block)
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    digest = store.put_tree(folder).digest
    (folder / "model.bin").unlink()
    with web_server(tmp_path / "store", tmp_path / "web") as server:
        begun = time.monotonic()
        cost = _weighed(server.url, digest, tmp_path / "out")
        seconds = time.monotonic() - begun
    print(f"{size_mib} MiB: {cost['peak_kib'] // 1024} MiB RSS, {seconds:.1f} s")  # noqa: T201
    with (tmp_path / "out" / "model.bin").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == wanted.digest()
    assert cost["peak_kib"] < 256 * 1024
    assert size_mib * MIB <= cost["fetched"] < size_mib * MIB * 1.01


def _kill_at(url: str, digest: str, out: Path, how: Wire, carried: float) -> None:
    """SIGKILL a pull when so many bytes have gone over its wire."""
    with subprocess.Popen(_puller(url, digest, out), cwd=PROJECT) as process:
        while how.carried < carried and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)


@contextmanager
def _thin(tmp_path: Path, how: Wire) -> Iterator[str]:
    with (
        web_server(tmp_path / "store", tmp_path / "web") as server,
        wire(server.port, how) as port,
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("at", [(0.15,), (0.5,), (0.9,), (0.2, 0.4, 0.6, 0.8)])
def test_killed_pull_goes_on_and_fetches_nothing_whole_again(
    tmp_path: Path, at: tuple[float, ...]
) -> None:
    """What may come twice: one chunk, and what lay in the buffers of each connection unread."""
    size = 24 * MIB
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in", large=size)
    tree = store.put_tree(folder)
    documents = sum(one.size for kind in (FILES, TREES) for one in store.objects.entries(kind))
    how = Wire(bytes_per_s=8 * MIB)
    with _thin(tmp_path, how) as url:
        for share in at:
            _kill_at(url, tree.digest, tmp_path / "out", how, share * size)
            assert not (tmp_path / "out").exists()
        cost = _weighed(url, tree.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)
    assert not list(tmp_path.glob(".out*"))
    runs = len(at) + 1
    again = how.carried - tree.size - runs * documents
    print(f"killed at {at}: {again} bytes more than once, headers included")  # noqa: T201
    buffers = 64 * 1024
    assert again < len(at) * (MAXIMUM + WORKERS * buffers) + how.connections * 4096
    assert cost["reused"] > 0.8 * at[-1] * size - len(at) * MAXIMUM


def test_what_a_power_cut_left_where_a_chunk_was_begun_costs_one_more_request(
    tmp_path: Path,
) -> None:
    size = 24 * MIB
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    folder = fill(tmp_path / "in", large=size)
    tree = store.put_tree(folder)
    how = Wire(bytes_per_s=8 * MIB)
    with _thin(tmp_path, how) as url:
        _kill_at(url, tree.digest, tmp_path / "out", how, 0.5 * size)
        parts = [one for one in (tmp_path / ".out.parts").rglob("*") if one.is_file()]
        assert parts
        for part in parts:
            data = bytearray(part.read_bytes())
            for start in range(0, len(data), MIB):
                if any(data[start : start + 4096]):
                    data[start : start + 4096] = b"\xff" * 4096
                else:  # nothing came here yet, and now something seems to have
                    data[start : start + 2] = b"\xff\xff"
            part.write_bytes(data)
        _weighed(url, tree.digest, tmp_path / "out")
    assert snapshot(tmp_path / "out") == snapshot(folder)


def test_rate_limit_holds_on_the_wire_over_all_connections(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    tree = store.put_tree(fill(tmp_path / "in", large=6 * MIB))
    rate = 2 * MIB
    how = Wire()
    with _thin(tmp_path, how) as url:
        _weighed(url, tree.digest, tmp_path / "out", limit=rate)
    assert how.connections > 1
    # What the kernels hold of each connection is ahead of the limit; a second's worth covers it.
    begin = how.moments[0][0]
    for moment, carried in how.moments:
        assert carried <= rate * (moment - begin) + rate
    seconds = how.moments[-1][0] - begin
    print(f"{how.carried / seconds / MIB:.2f} MiB/s at a limit of 2, {seconds:.1f} s")  # noqa: T201
    assert 0.5 * rate < how.carried / seconds < 1.3 * rate
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_equal_file_of_another_mode_shares_its_blocks_where_the_disk_can(
    tmp_path: Path, kind: str
) -> None:
    """It cannot be linked, since a link has one mode; it must not be there twice either."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * MIB)
    for argv in (
        [f"mkfs.{kind}", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(disk)],
    ):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        except FileNotFoundError:
            pytest.skip(f"mkfs.{kind} is not installed: apt-get install btrfs-progs xfsprogs")
        if done.returncode:
            pytest.skip(f"{argv[0]} is not possible here: {done.stderr.strip()}")
    try:
        size = 32 * MIB
        (disk / "seed").mkdir()
        (disk / "seed" / "tool").write_bytes(noise(size))
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "tool").write_bytes(noise(size))
        (folder / "tool").chmod(0o755)
        store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
        digest = store.put_tree(folder).digest
        os.sync()
        before = os.statvfs(disk)
        store.unpack(digest, disk / "out", seeds=[disk / "seed"])
        os.sync()
        after = os.statvfs(disk)
        assert snapshot(disk / "out") == snapshot(folder)
        assert (disk / "seed" / "tool").stat().st_mode & 0o777 == 0o644
        taken = (before.f_bfree - after.f_bfree) * before.f_frsize
        print(f"{kind}: {taken} bytes of disk for {size} equal ones")  # noqa: T201
        assert taken < size // 8
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=30)


def test_equal_files_of_one_tree_are_fetched_and_kept_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "again").mkdir(parents=True)
    for path in ("model.bin", "again/model.bin"):
        (folder / path).write_bytes(noise(4 * MIB))
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    moved = store.unpack(store.put_tree(folder).digest, tmp_path / "out")
    assert moved.fetched_bytes < 4.2 * MIB
    assert (tmp_path / "out/model.bin").samefile(tmp_path / "out/again/model.bin")


def test_resumed_pull_needs_no_room_for_a_second_copy(tmp_path: Path) -> None:
    """On a disk that takes the bundle once."""
    disk = tmp_path / "disk"
    disk.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip(f"mount is not permitted here: {done.stderr.strip()}")
    try:
        store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
        tree = store.put_tree(fill(tmp_path / "in", large=24 * MIB))
        how = Wire(bytes_per_s=16 * MIB)
        with _thin(tmp_path, how) as url:
            _kill_at(url, tree.digest, disk / "out", how, 18 * MIB)
            cost = _weighed(url, tree.digest, disk / "out")
        assert cost["reused"] > 12 * MIB
        assert snapshot(disk / "out") == snapshot(tmp_path / "in")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, timeout=30)


@pytest.mark.slow
def test_device_updates_over_https_past_a_dead_mirror(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    world = DeviceWorld(tmp_path / "world")
    world.publish("1.0.0")
    device = world.device()
    with web_server(world.folder / "store", tmp_path / "web", authority=authority) as server:
        argv = [
            "--store",
            "https://localhost:9/gone",
            "--mirror",
            server.url,
            "--limit-rate",
            "50M",
        ]
        root = tmp_path / "root.json"
        root.write_bytes(world.root)
        more = ["--root", str(root), "--name", "llm", "--state", str(device.state), "--json"]
        made = forge("device", "provision", *argv, *more)
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["mirrors"] == [server.url]
        device.once()
    home = StateDirectory(device.state)
    assert read_settings(home.path)[0].limit_rate == 50_000_000
    active = home.current()
    assert active is not None
    manifest = home.slots.manifest(active)
    assert manifest is not None
    assert manifest.version == "1.0.0"


def test_file_of_a_few_bytes_less_is_named(tmp_path: Path) -> None:
    """A pack that was cut short on the server."""
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    digest = store.put_tree(fill(tmp_path / "in")).digest
    pack = max((tmp_path / "store" / "packs").rglob("?" * 64), key=lambda path: path.stat().st_size)
    os.truncate(pack, pack.stat().st_size - random.Random(1).randrange(1, 100))  # noqa: S311
    with web_server(tmp_path / "store", tmp_path / "web") as server:
        read = Store(open_objects(server.url, environment={}), cache=tmp_path / "cache")
        with pytest.raises(StoreError, match="is truncated"):
            read.unpack(digest, tmp_path / "out")
        with pytest.raises(NotInStoreError):
            read.tree("0" * 64)


def test_proxy_of_the_environment_is_used(tmp_path: Path) -> None:
    """A server that takes whole URLs is one; the name is known to nobody else."""
    (tmp_path / "store" / "prod").mkdir(parents=True)
    (tmp_path / "store" / "prod" / "one").write_bytes(b"1")
    with web_server(tmp_path / "store", tmp_path / "web") as server:
        environment = {"FORGE_ALLOW_HTTP": "1", "HTTP_PROXY": server.url}
        objects = open_objects("http://plant.invalid/prod", environment=environment)
        assert objects.read("one", max_bytes=10).data == b"1"
        environment["NO_PROXY"] = "localhost, .invalid"
        web = WebObjects("http://plant.invalid/prod", environment, attempts=1)
        with pytest.raises(StoreError, match="is unreachable"):
            web.read("one", max_bytes=10)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY is not a valid proxy URL") as caught:
        open_objects("https://a.invalid", environment={"HTTPS_PROXY": "socks5://me:secret@b"})
    assert "secret" not in str(caught.value)


def test_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("not a certificate")
    for file in ("no.pem", "gone.pem"):
        environment = {"SSL_CERT_FILE": str(tmp_path / file)}
        with pytest.raises(
            ConfigurationError, match="Could not read a certificate authority"
        ) as caught:
            open_objects("https://a.invalid", environment=environment)
        assert file in str(caught.value)


def test_rate_limit_holds_for_a_bucket_too(seaweedfs: Seaweed, tmp_path: Path) -> None:
    url = f"s3://{seaweedfs.bucket()}/forge"
    store = open_store(url, environment=seaweedfs.environment, cache=tmp_path / "cache")
    digest = store.put_tree(fill(tmp_path / "in", large=6 * MIB)).digest
    thin = open_store(
        url, environment=seaweedfs.environment, cache=tmp_path / "cache", limit_rate=3 * MIB
    )
    begun = time.monotonic()
    thin.unpack(digest, tmp_path / "out")
    assert time.monotonic() - begun > 1.9
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "in")
