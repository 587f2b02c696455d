"""Bad networks, bad servers and bad mirrors between a device and its store.

The server is nginx; between it and the client stand a proxy that spoils answers by a seed and a
wire that drips, breaks and counts.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from forge.bundle import TreeReference
from forge.errors import CorruptedError, NotInStoreError, StoreError, TrustError
from forge.store import Objects, Store, open_store
from forge.store.backends.mirrors import Mirrors
from forge.store.backends.throttle import MinimumRate
from forge.store.backends.web import WebObjects
from forge.store.formats.chunker import MAXIMUM
from forge.trust.client import TrustedStore
from tests.support.proxy import Answer, Weather, proxy
from tests.support.release_world import NOW, World
from tests.support.stores import fill, snapshot
from tests.support.webserver import WebServer, web_server
from tests.support.wire import Wire, wire

MIB = 1024 * 1024
TREE = 3 * MIB
RUNS = 4


class Pauses(list[float]):
    """Takes the place of sleeping, so that a minute of Retry-After is no minute of a test."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TreeReference]:
    """A store with one tree, and the tree's folder beside it."""
    folder = tmp_path_factory.mktemp("original")
    store = open_store(str(folder / "store"), cache=folder / "cache")
    return folder, store.put_tree(fill(folder / "in", large=TREE))


@pytest.fixture(scope="module")
def server(
    original: tuple[Path, TreeReference], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WebServer]:
    with web_server(original[0] / "store", tmp_path_factory.mktemp("web") / "nginx") as running:
        yield running


def web(url: str, sleep: Callable[[float], None], *, attempts: int = 5) -> WebObjects:
    quick = lambda: MinimumRate(grace_s=1.0)  # noqa: E731  instead of half a minute
    return WebObjects(url, {}, attempts=attempts, minimum_rate=quick, sleep=sleep)


def unpacks(objects: Objects, original: tuple[Path, TreeReference], out: Path) -> int:
    """Bytes it took."""
    moved = Store(objects, cache=out.parent / "cache").unpack(original[1].digest, out)
    assert snapshot(out) == snapshot(original[0] / "in")
    return moved.fetched_bytes


def unpacks_in_the_end(
    objects: Callable[[], Objects], original: tuple[Path, TreeReference], out: Path
) -> None:
    """Run a pull again when it gave up, as its hint says; each goes on from the one before.

    Which thread meets which answer is not in the seed, and a chunk that is wrong three times in a
    row ends a pull: with two wrong of ten, one pull in a hundred.
    """
    for _ in range(RUNS - 1):
        with contextlib.suppress(StoreError):
            unpacks(objects(), original, out)
            return
        assert not out.exists()
    unpacks(objects(), original, out)


def changed(answer: Answer, status: int | None = None, **headers: str) -> Answer:
    """An answer with another status and other headers."""
    names = {key.replace("_", "-").lower(): value for key, value in headers.items()}
    kept = [(key, value) for key, value in answer[1] if key.lower() not in names]
    more = [(key, value) for key, value in names.items() if value]
    return status or answer[0], [*kept, *more], answer[2]


def range_shifted(answer: Answer) -> Answer:
    return changed(answer, content_range="bytes 1-2/3") if answer[0] == 206 else answer


def too_long(answer: Answer) -> Answer:
    return answer if answer[0] != 206 else (answer[0], answer[1], answer[2] + b"more")


def too_long_and_says_so(answer: Answer) -> Answer:
    if answer[0] != 206:
        return answer
    longer = (answer[0], answer[1], answer[2] + b"more")
    return changed(longer, content_length=str(len(longer[2])))


def too_short(answer: Answer) -> Answer:
    """It claims the whole length and closes earlier."""
    return changed(answer, content_length=str(len(answer[2]) + 5), connection="close")


PASSING: dict[str, Callable[[Answer], Answer]] = {
    "503": lambda one: changed(one, 503),
    "500": lambda one: changed(one, 500),
    "408": lambda one: changed(one, 408),
    "429 and a pause": lambda one: changed(one, 429, retry_after="7"),
    "429 and an hour": lambda one: changed(one, 429, retry_after="3600"),
    "429 and nonsense": lambda one: changed(one, 429, retry_after="soon"),
    "another range": range_shifted,
    "more than it says": too_long,
    "more than was asked for": too_long_and_says_so,
    "less than it says": too_short,
}


@pytest.mark.parametrize("name", PASSING)
def test_fault_that_passes_is_tried_again_after_a_pause(
    name: str, original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    left, lock = [3], threading.Lock()  # so many answers are spoilt, whoever asks

    def twist(_path: str, right: Answer) -> Answer:
        spoilt = PASSING[name](right)
        with lock:
            if left[0] and spoilt != right:
                left[0] -= 1
                return spoilt
        return right

    pauses = Pauses()
    with proxy(server.port, Weather(twist=twist)) as url:
        unpacks(web(url, pauses), original, tmp_path / "out")
    assert left[0] < 3
    # What lies behind the body is the next answer's trouble, if there is one on that connection.
    if name != "more than it says":
        assert left == [0]
        assert pauses
    if name == "429 and a pause":
        assert set(pauses) == {7.0}
    if name == "429 and an hour":
        assert set(pauses) == {60.0}
    assert all(0 < pause <= 60 for pause in pauses)


# What lies behind an announced length is the next answer's trouble only.
@pytest.mark.parametrize("name", sorted(PASSING.keys() - {"more than it says"}))
def test_fault_that_stays_ends_within_bounds_and_says_what_to_do(
    name: str, original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    pauses = Pauses()
    with (
        proxy(server.port, Weather(twist=lambda _path, right: PASSING[name](right))) as url,
        pytest.raises(StoreError, match="is unreachable") as caught,
    ):
        unpacks(web(url, pauses), original, tmp_path / "out")
    assert caught.value.exit_code == 9
    assert "then run the command again: it resumes" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert sum(pauses) <= 6 * 4 * 60


FINAL: dict[str, tuple[Callable[[Answer], Answer], type[StoreError], str, str]] = {
    "302 to another host": (
        lambda one: changed(one, 302, location="http://127.0.0.1:9/"),
        StoreError, "redirects", "final URL",
    ),
    "301 to a file": (
        lambda one: changed(one, 301, location="file:///etc/passwd"),
        StoreError, "redirects", "final URL",
    ),
    "401": (lambda one: changed(one, 401), StoreError, "denied access", "without a password"),
    "403": (lambda one: changed(one, 403), NotInStoreError, "returned 403", ""),
    "404": (lambda one: changed(one, 404), NotInStoreError, "is not in the store", ""),
    "418": (lambda one: changed(one, 418), StoreError, "418", "unchanged and without a login"),
    "gzip that nobody asked for": (
        lambda one: changed(one, content_encoding="gzip"),
        StoreError, "'gzip'", "unchanged and without a login",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FINAL)
def test_fault_that_will_not_pass_is_not_tried_again(
    name: str, original: tuple[Path, TreeReference], server: WebServer
) -> None:
    twist, kind, message, hint = FINAL[name]
    asked = []

    def counting(path: str, right: Answer) -> Answer:
        asked.append(path)
        return twist(right)

    with (
        proxy(server.port, Weather(twist=counting)) as url,
        pytest.raises(kind, match=message) as caught,
    ):
        web(url, Pauses()).read(f"trees/{original[1].digest}.json", max_bytes=MIB)
    assert len(asked) == 1
    assert hint in str(caught.value)


def test_whole_file_for_a_range_is_refused(
    original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    def whole(path: str, right: Answer) -> Answer:
        return changed(right, 200, content_range="") if "/packs/" in path else right

    with (
        proxy(server.port, Weather(twist=whole)) as url,
        pytest.raises(StoreError, match="does not support ranges"),
    ):
        unpacks(web(url, Pauses()), original, tmp_path / "out")


def test_endless_metadata_is_cut_at_its_cap(server: WebServer) -> None:
    endless = lambda _path, right: (200, [("Content-Length", "20000000")], b"x" * 20_000_000)  # noqa: ARG005, E731
    with (
        proxy(server.port, Weather(twist=endless)) as url,
        pytest.raises(CorruptedError, match="larger than 16384 bytes"),
    ):
        web(url, Pauses()).read("tuf/metadata/timestamp.json", max_bytes=16_384)


def test_name_that_does_not_resolve_is_tried_again_and_named() -> None:
    pauses = Pauses()
    objects = web("https://store.invalid/prod", pauses)
    with pytest.raises(StoreError, match="is unreachable") as caught:
        objects.read("tuf/metadata/timestamp.json", max_bytes=100)
    assert len(pauses) == 4
    assert "check the network" in str(caught.value)


@pytest.mark.parametrize("seed", range(6))
def test_pull_gets_through_bad_weather(
    seed: int, original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    weather = Weather(busy=0.5, cuts=0.5, flips=0.2, most=12, dice=random.Random(seed))  # noqa: S311
    with proxy(server.port, weather) as url:
        unpacks_in_the_end(lambda: web(url, Pauses(), attempts=12), original, tmp_path / "out")
    assert weather.spoilt


def test_connections_that_break_in_the_middle_lose_only_the_rest(
    original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    how = Wire(breaks_after=300_000)
    with wire(server.port, how) as port:
        objects = web(f"http://127.0.0.1:{port}", Pauses())
        fetched = unpacks(objects, original, tmp_path / "out")
    assert how.connections > TREE // 300_000
    assert fetched < TREE * 1.1


def test_one_flipped_bit_costs_one_chunk_again(
    original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    with proxy(server.port, Weather(flips=1.0, most=1)) as url:
        fetched = unpacks(web(url, Pauses()), original, tmp_path / "out")
    assert original[1].size < fetched < original[1].size + MAXIMUM + 2 * 64 * 1024


@pytest.mark.parametrize("what", ["headers", "body"])
def test_dripping_server_does_not_hold_a_request(
    what: str, server: WebServer, original: tuple[Path, TreeReference]
) -> None:
    """One byte each 0.2 s; the grace of 30 s is one second here."""
    how = Wire(drip_s=0.2, drips_after=0 if what == "headers" else 8192)
    packs = (original[0] / "store" / "packs").rglob("?" * 64)
    pack = max(packs, key=lambda path: path.stat().st_size).name
    with wire(server.port, how) as port:
        objects = web(f"http://127.0.0.1:{port}", Pauses(), attempts=1)
        begun = time.monotonic()
        with pytest.raises(StoreError, match="slower than 4096 bytes per second"):
            objects.read_range(f"packs/{pack[:2]}/{pack}", 0, MIB)
        # A second, and what 16 KiB at the least rate earned.
        assert time.monotonic() - begun < 8


@pytest.mark.parametrize("trouble", ["silence", "429"])
def test_signal_ends_a_pull_that_waits_for_a_server(
    trouble: str, original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    """A service has a minute to stop; a server may ask for as much."""
    code = (
        "import sys; from pathlib import Path; from forge.store import open_store;"
        "from forge.device.shared.signals import StopAskedError, stop_on_signals\n"
        "try:\n"
        "    with stop_on_signals():\n"
        "        open_store(sys.argv[1]).unpack(sys.argv[2], Path(sys.argv[3]))\n"
        "except StopAskedError: print('stopped')"
    )
    packs = []

    def busy(path: str, right: Answer) -> Answer:
        if "/packs/" not in path:
            return right
        packs.append(path)
        if trouble == "silence":
            time.sleep(20)
        return changed(right, 429, retry_after="60")

    with proxy(server.port, Weather(twist=busy)) as url:
        argv = [sys.executable, "-c", code, url, original[1].digest, str(tmp_path / "out")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            while not packs and process.poll() is None:
                time.sleep(0.01)
            time.sleep(0.5)
            process.terminate()
            said, _ = process.communicate(timeout=8)
    assert said.strip() == "stopped"


@pytest.mark.exhaustive
def test_one_byte_every_20_s_ends_an_update_in_minutes(tmp_path: Path) -> None:
    """As the device has it: python-tuf's own client would wait for ever."""
    world = World(tmp_path)
    world.publish("1.0.0")
    how = Wire(drip_s=20.0)
    with web_server(tmp_path / "store", tmp_path / "web") as server, wire(server.port, how) as port:
        store = open_store(f"http://127.0.0.1:{port}", environment={}, cache=tmp_path / "cache")
        root = (world.keys / "metadata" / "1.root.json").read_bytes()
        begun = time.monotonic()
        with pytest.raises(StoreError, match="slower than"):
            TrustedStore(store.objects, tmp_path / "device", root, now=NOW).refresh()
        seconds = time.monotonic() - begun
    print(f"given up after {seconds:.0f} s")  # noqa: T201
    assert seconds < 300


# Mirrors


@contextmanager
def mirrors(roots: list[Path], work: Path) -> Iterator[tuple[Mirrors, list[WebServer]]]:
    """One nginx for each folder, asked in this order."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(web_server(root, work / f"nginx-{number}"))
            for number, root in enumerate(roots)
        ]
        yield Mirrors([web(one.url, Pauses(), attempts=2) for one in servers]), servers


def copies(original: tuple[Path, TreeReference], tmp_path: Path, count: int) -> list[Path]:
    roots = [tmp_path / f"mirror-{number}" for number in range(count)]
    for root in roots:
        shutil.copytree(original[0] / "store", root)
    return roots


def spoil(root: Path, kind: str) -> int:
    """Flip a bit of each object of a kind; how many."""
    paths = [path for path in (root / kind).rglob("*") if path.is_file() and path.stat().st_size]
    for path in paths:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    return len(paths)


@pytest.mark.parametrize("kind", ["packs", "files", "trees"])
def test_lying_mirror_is_left_for_the_next(
    kind: str, original: tuple[Path, TreeReference], tmp_path: Path
) -> None:
    roots = copies(original, tmp_path, 3)
    assert spoil(roots[0], kind)
    assert spoil(roots[1], kind)
    with mirrors(roots, tmp_path) as (objects, servers):
        unpacks(objects, original, tmp_path / "out")
        assert all(server.answers() for server in servers)


def test_list_of_chunks_that_is_well_formed_and_false_is_seen_through(
    original: tuple[Path, TreeReference], tmp_path: Path
) -> None:
    """Lists are not signed: the chunks are as it says, and only the file's digest tells."""
    other = open_store(str(tmp_path / "other"), cache=tmp_path / "cache")
    fill(tmp_path / "false", large=TREE, seed=99)
    other.put_tree(tmp_path / "false")
    roots = copies(original, tmp_path, 2)
    true, false = (
        max((root / "files").iterdir(), key=lambda path: path.stat().st_size)
        for root in (roots[0], tmp_path / "other")
    )
    shutil.copyfile(false, true)
    shutil.copytree(tmp_path / "other" / "packs", roots[0] / "packs", dirs_exist_ok=True)
    with mirrors(roots, tmp_path) as (objects, _):
        unpacks(objects, original, tmp_path / "out")
    with (
        mirrors(roots[:1], tmp_path / "alone") as (objects, _),
        pytest.raises(CorruptedError, match="is damaged"),
    ):
        unpacks(objects, original, tmp_path / "out-alone")


def test_chunk_that_one_mirror_lacks_comes_from_another(
    original: tuple[Path, TreeReference], tmp_path: Path
) -> None:
    roots = copies(original, tmp_path, 3)
    for root in roots[:2]:
        shutil.rmtree(root / "packs")
    with mirrors(roots, tmp_path) as (objects, _):
        unpacks(objects, original, tmp_path / "out")


def test_what_no_mirror_has_is_said(original: tuple[Path, TreeReference], tmp_path: Path) -> None:
    roots = copies(original, tmp_path, 2)
    for root in roots:
        shutil.rmtree(root / "packs")
    with (
        mirrors(roots, tmp_path) as (objects, _),
        pytest.raises(CorruptedError, match="is incomplete"),
    ):
        unpacks(objects, original, tmp_path / "out")


def test_mirrors_that_take_turns_in_breaking_off_get_a_pull_through(
    original: tuple[Path, TreeReference], tmp_path: Path, server: WebServer
) -> None:
    with ExitStack() as stack:
        ports = [
            stack.enter_context(wire(server.port, Wire(breaks_after=200_000 + 70_000 * number)))
            for number in range(3)
        ]
        places = [web(f"http://127.0.0.1:{port}", Pauses(), attempts=2) for port in ports]
        unpacks(Mirrors(places), original, tmp_path / "out")


@pytest.mark.parametrize(
    "seeds", [range(3), pytest.param(range(3, 200), marks=pytest.mark.exhaustive)], ids=str
)
def test_three_mirrors_in_bad_weather_get_every_pull_through(
    seeds: range, original: tuple[Path, TreeReference], server: WebServer, tmp_path: Path
) -> None:
    """Each fails, cuts and falsifies three answers of ten, for ever."""
    spoilt = 0
    for seed in seeds:
        weathers = [
            Weather(busy=0.3, cuts=0.3, flips=0.3, dice=random.Random(3 * seed + number))  # noqa: S311
            for number in range(3)
        ]
        with ExitStack() as stack:
            urls = [stack.enter_context(proxy(server.port, one)) for one in weathers]
            unpacks_in_the_end(
                lambda urls=urls: Mirrors(  # type: ignore[misc]  # urls is bound in this turn
                    [web(url, Pauses(), attempts=2) for url in urls], sleep=Pauses()
                ),
                original,
                tmp_path / f"out-{seed}",
            )
        shutil.rmtree(tmp_path / f"out-{seed}")
        spoilt += sum(one.spoilt for one in weathers)
    print(f"{len(seeds)} pulls, {spoilt} answers spoilt")  # noqa: T201
    assert spoilt > len(seeds)


def test_dead_mirror_is_asked_again_when_it_may_be_back(
    original: tuple[Path, TreeReference], tmp_path: Path
) -> None:
    now = [0.0]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{one.getsockname()[1]}"
    roots = copies(original, tmp_path, 1)
    name = f"trees/{original[1].digest}.json"
    asked = []

    class Preferred(WebObjects):
        def read(self, name: str, *, max_bytes: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            asked.append(name)
            return super().read(name, max_bytes=max_bytes)

    with web_server(roots[0], tmp_path / "web") as server:
        preferred = Preferred(dead, {}, attempts=1)
        objects = Mirrors([preferred, web(server.url, Pauses())], clock=lambda: now[0])
        for moment, expected in ((0, 1), (1, 1), (29, 1), (31, 2), (60, 2), (90, 2), (92, 3)):
            now[0] = float(moment)
            objects.read(name, max_bytes=MIB)
            assert len(asked) == expected, moment


def test_slow_mirror_is_left_for_the_next(
    original: tuple[Path, TreeReference], tmp_path: Path, server: WebServer
) -> None:
    with wire(server.port, Wire(drip_s=0.5)) as port:
        slow = web(f"http://127.0.0.1:{port}", Pauses(), attempts=1)
        begun = time.monotonic()
        unpacks(Mirrors([slow, web(server.url, Pauses())]), original, tmp_path / "out")
        assert time.monotonic() - begun < 20


def _trusting(world: World, objects: Objects) -> TrustedStore:
    root = (world.keys / "metadata" / "1.root.json").read_bytes()
    return TrustedStore(objects, world.folder / "device", root, now=world.now)


def _newest(client: TrustedStore) -> str:
    client.refresh()
    version = client.channel("demo", "canary").version
    client.manifest("demo", version, "development")
    client.proof_keys()
    return version


@pytest.mark.parametrize(
    "role", [".timestamp", ".snapshot", ".targets", ".bundles", ".channels", ""]
)
def test_mirror_with_false_metadata_is_left_for_the_next(role: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    shutil.copytree(tmp_path / "store", tmp_path / "false")
    found = list(
        (tmp_path / "false" / "tuf").rglob(f"*{role}.json")
        if role != ".timestamp"
        else (tmp_path / "false").rglob("timestamp.json")
    )
    assert found
    for path in found:
        path.write_bytes(path.read_bytes().replace(b'"version":', b'"version": 1', 1))
    with mirrors([tmp_path / "false", tmp_path / "store"], tmp_path) as (objects, _):
        assert _newest(_trusting(world, objects)) == "1.0.0"
    shutil.rmtree(world.folder / "device")
    with (
        mirrors([tmp_path / "false"], tmp_path / "alone") as (objects, _),
        pytest.raises((TrustError, StoreError)),
    ):
        _newest(_trusting(world, objects))


def test_mirror_that_was_left_behind_is_noticed_by_who_saw_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    shutil.copytree(tmp_path / "store", tmp_path / "old")
    world.publish("1.1.0")
    with mirrors([tmp_path / "store"], tmp_path / "first") as (objects, _):
        assert _newest(_trusting(world, objects)) == "1.1.0"
    with mirrors([tmp_path / "old", tmp_path / "store"], tmp_path) as (objects, _):
        assert _newest(_trusting(world, objects)) == "1.1.0"
    with (
        mirrors([tmp_path / "old"], tmp_path / "alone") as (objects, _),
        pytest.raises(TrustError, match="older than the metadata seen before"),
    ):
        _newest(_trusting(world, objects))


def test_dead_mirror_does_not_slow_each_look(tmp_path: Path) -> None:
    """Each look asks for a root that is not there yet: not of the dead one, too."""
    world = World(tmp_path)
    world.publish("1.0.0")
    asked = []

    class Dead(WebObjects):
        def read(self, name: str, *, max_bytes: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
            asked.append(name)
            return super().read(name, max_bytes=max_bytes)

    with web_server(tmp_path / "store", tmp_path / "web") as server:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            dead = Dead(f"http://127.0.0.1:{one.getsockname()[1]}", {}, attempts=1)
        client = _trusting(world, Mirrors([dead, web(server.url, Pauses())]))
        for _ in range(5):
            assert _newest(client) == "1.0.0"
    assert len(asked) == 1
