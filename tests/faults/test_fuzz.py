"""Documents from a store, a bundle or a device's folder, damaged in any way there is.

Each gives what it should or one of Forge's own errors with the exit code that belongs to it: never
a traceback, never more than seconds, never much memory. The inputs are made from FORGE_FAULTS_SEED
and a number, and a failure names both.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest

from forge import canonical, profiles
from forge.bundle import Channel, parse_channel, parse_manifest
from forge.device import commands
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.state.lock import hold
from forge.device.state.settings import DeviceSettings, read_settings, write_settings
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.telemetry.history import DeviceEvent, History
from forge.device.telemetry.status import read_agent
from forge.errors import ForgeError
from forge.release.repository.unverified_index import read_index
from forge.serving.repository.spec import read_spec, write_spec
from forge.store.formats import action as actions
from forge.store.formats import chunk_list
from forge.store.formats import tree as trees
from forge.store.locks import leases
from forge.store.locks.leases import LeaseRecord
from forge.trust import model, provenance
from forge.trust.proof_keys import parse_proof_keys
from tests.support.campaign import Campaign, sample, seed
from tests.support.mutate import mutated
from tests.support.release_world import World, manifest
from tests.support.spec import a_spec
from tests.support.stores import action, fill

_SLOW_S = 5.0
_HANG_S = 30
_MEMORY_MIB = 256  # beyond what the process held before; the largest good tree needs more than that
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """Something that reads bytes it does not trust.

    Attributes:
        good: documents it accepts.
        read: reads one; raises ForgeError.
        exits: exit codes its errors may have; none: it raises nothing.
    """

    good: tuple[bytes, ...]
    read: Callable[[bytes], object]
    exits: frozenset[int]


Make = Callable[[Path], Target]


def a_release() -> Release:
    return Release.of(manifest("1.0.0", "development"))


def manifests(_folder: Path) -> Target:
    return Target((manifest("1.0.0", "development").encode(),), parse_manifest, frozenset({7}))


def channels(_folder: Path) -> Target:
    one = Channel(name="demo", channel="stable", version="1.0.0", profiles={})
    return Target((one.encode(),), parse_channel, frozenset({7}))


def tree_documents(folder: Path) -> Target:
    world = World(folder)
    tree = world.store.put_tree(fill(folder / "in"))
    good = world.store.tree(tree.digest).encode()
    return Target(
        (good,), lambda data: trees.parse(data, canonical.sha256(data), "x"), frozenset({7, 9})
    )


def chunk_lists(folder: Path) -> Target:
    world = World(folder)
    world.store.put_tree(fill(folder / "in"))
    good = [
        world.objects.read(one.name, max_bytes=10**6).data
        for one in world.objects.entries("files/")
    ]
    return Target(
        tuple(good), lambda data: chunk_list.decode(data, size=None, name="x"), frozenset({9})
    )


def journals(folder: Path) -> Target:
    home = StateDirectory(folder)
    verdict = FailedRelease(release=a_release(), reason="no", at="2026-11-24T00:00:00Z")
    journal = Journal(active="a", slots={"a": a_release()}, bad=(verdict,), held=verdict)
    home.write_journal(journal)
    path = folder / "state.json"
    good = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = home.journal()
        home.write_journal(found)
        assert home.journal() == found

    return Target((good,), read, frozenset())


def settings(folder: Path) -> Target:
    home = StateDirectory(folder)
    write_settings(home.path, DeviceSettings(store_url="/s", name="llm", channel="stable"), b"{}")
    path = folder / "device.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_settings(home.path)

    return Target((path.read_bytes(),), read, frozenset({3}))


def roots(folder: Path) -> Target:
    """What somebody provisions a device with."""
    good = (World(folder).keys / "metadata" / "1.root.json").read_bytes()

    def read(data: bytes) -> None:
        commands.provision(folder / "device", "/store", data, "llm", "stable")

    return Target((good,), read, frozenset({3}))


def histories(folder: Path) -> Target:
    history = History(folder)
    for kind in ("started", "committed"):
        history.append(DeviceEvent(at="2026-11-24T00:00:00Z", event=kind, release=a_release()))
    path = folder / "history.jsonl"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        history.append(DeviceEvent(at="2026-11-24T00:00:00Z", event="started"))
        assert history.read()[-1].event == "started"

    return Target((path.read_bytes(),), read, frozenset())


def reports(folder: Path) -> Target:
    home = StateDirectory(folder)

    def read(data: bytes) -> None:
        (folder / "agent.json").write_bytes(data)
        with hold(folder / "lock"):
            read_agent(home)

    return Target((b'{"pid": 1, "url": null, "started": "x", "look": null}',), read, frozenset())


def locks(folder: Path) -> Target:
    def read(data: bytes) -> None:
        (folder / "lock").write_bytes(data)
        StateDirectory(folder).holder()
        with StateDirectory(folder).locked():
            (folder / "lock").write_bytes(data)
            StateDirectory(folder).holder()

    return Target((b"12345",), read, frozenset())


def specs(folder: Path) -> Target:
    write_spec(folder, a_spec())
    path = folder / "serving.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_spec(folder)

    return Target((path.read_bytes(),), read, frozenset({3, 7}))


def proofs(name: str) -> Make:
    def make(folder: Path) -> Target:
        world = World(folder)
        made = world.release("1.0.0")
        world.store.unpack(made.proofs.digest, folder / "proofs")
        client = world.client()
        client.refresh()
        keys = client.proof_keys()
        good = (folder / "proofs" / name).read_bytes()
        if name == "model.sig":
            return Target((good,), lambda data: model.check_signer(data, keys), frozenset({7}))
        return Target(
            (good,),
            lambda data: provenance.verify_provenance(data, keys, tree=made.tree.digest),
            frozenset({7}),
        )

    return make


def proof_keys(folder: Path) -> Target:
    world = World(folder)
    world.release("1.0.0")
    client = world.client()
    client.refresh()
    return Target((client.proof_keys().encode(),), parse_proof_keys, frozenset({7}))


def metadata(role: str) -> Make:
    """What a device reads of a store whose metadata of this role is not what it was."""

    def make(folder: Path) -> Target:
        world, numbers = World(folder), itertools.count()
        world.publish("1.0.0")
        found = sorted((folder / "store" / "tuf" / "metadata").glob(f"*{role}.json"))
        path = found[-1]
        good = path.read_bytes()

        def read(data: bytes) -> None:
            path.chmod(0o644)
            path.write_bytes(data)
            device = world.client(f"device-{next(numbers)}")
            try:
                device.refresh()
                device.channel("demo", "canary")
                device.manifest("demo", "1.0.0", "development")
            finally:
                path.write_bytes(good)
                shutil.rmtree(folder / f"device-{next(numbers) - 1}", ignore_errors=True)

        return Target((good,), read, frozenset({7, 9}))

    return make


def own_metadata(role: str) -> Make:
    """A device whose own copy is damaged reads it again, and believes no less than before."""

    def make(folder: Path) -> Target:
        world = World(folder)
        world.publish("1.0.0")
        client = world.client()
        client.refresh()
        client.channel("demo", "canary")
        client.manifest("demo", "1.0.0", "development")
        path = folder / "device" / "metadata" / f"{role}.json"
        good = path.read_bytes()

        def read(data: bytes) -> None:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            device = world.client()
            device.refresh()
            assert device.channel("demo", "canary").version == "1.0.0"

        return Target((good,), read, frozenset())

    return make


def indexes(folder: Path) -> Target:
    """What a publisher reads before it publishes."""
    world = World(folder)
    world.publish("1.0.0")
    path = max((folder / "store" / "tuf" / "metadata").glob("*.targets.json"))
    good = path.read_bytes()

    def read(data: bytes) -> None:
        path.chmod(0o644)
        path.write_bytes(data)
        read_index(world.objects)

    return Target((good,), read, frozenset({7, 9}))


def lease_records(_folder: Path) -> Target:
    good = LeaseRecord(owner="me", token="0" * 32, expires=2e9).encode()
    return Target((good,), lambda data: leases.live(data, 1e9), frozenset())


def action_results(folder: Path) -> Target:
    world = World(folder)
    one = action(world.store.put_tree(fill(folder / "in")))
    return Target((one.encode(),), lambda data: actions.parse(data, one.key, "x"), frozenset({9}))


def profile_files(folder: Path) -> Target:
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    names = ("jetson-agx-thor", "rtx-pro-4000", "development")
    good = tuple((ROOT / "profiles" / f"{name}.yaml").read_bytes() for name in names)

    def read(data: bytes) -> None:
        (folder / "profiles" / "fuzzed.yaml").write_bytes(data)
        profiles.load("fuzzed", folder / "profiles")

    return Target(good, read, frozenset({3}))


QUICK: dict[str, Make] = {
    "manifest": manifests, "channel": channels, "tree": tree_documents, "chunk-list": chunk_lists,
    "journal": journals, "device.json": settings, "root": roots, "history": histories,
    "agent.json": reports, "lock": locks, "serving.json": specs,
    "provenance": proofs("provenance.dsse.json"),
    "model-signature": proofs("model.sig"), "proof-keys": proof_keys, "lease": lease_records,
    "action": action_results, "profile": profile_files,
}  # fmt: skip
SLOW: dict[str, Make] = {
    **{f"store-{role}": metadata(role)
       for role in ("timestamp", "snapshot", "targets", "bundles", "channels", "root")},
    **{f"device-{role}": own_metadata(role)
       for role in ("timestamp", "snapshot", "targets", "bundles", "channels", "root")},
    "index": indexes,
}  # fmt: skip
TARGETS = QUICK | SLOW


@contextmanager
def no_hang() -> Iterator[None]:
    """Fails what does not come back."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"no answer within {_HANG_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_mib() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def one_input(target: Target, data: bytes) -> str:
    """What is wrong with what this input leads to."""
    began = time.monotonic()
    try:
        with no_hang():
            target.read(data)
    except ForgeError as error:
        if error.exit_code not in target.exits:
            return f"{type(error).__name__} {error}"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return f"{type(error).__name__} {error}"[:500]
    seconds = time.monotonic() - began
    return f"it took {seconds:.1f} s" if seconds > _SLOW_S else ""


def fuzz(name: str, folder: Path, out: Path, inputs: int, most: int | None) -> None:
    campaign = Campaign(out, f"fuzz-{name}", f"damaged {name}", "inputs", possible=inputs)
    target = TARGETS[name](folder)
    for good in target.good:
        assert not one_input(target, good), "the good document is refused"
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = peak_mib()
    for number in sample(inputs, most):
        good = target.good[number % len(target.good)]
        data = mutated(good, f"{seed()} {name} {number}")
        campaign.tried += 1
        if wrong := one_input(target, data):
            campaign.failures.append(f"input {number}: {wrong}\n  {data[:300]!r}")
        if len(campaign.failures) >= 10:
            break
    if (grown := peak_mib() - before) > _MEMORY_MIB:
        campaign.failures.append(f"memory grew by {grown:.0f} MiB")
    campaign.finish()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_documents_are_refused_clearly(name: str, tmp_path: Path, faults_out: Path) -> None:
    fuzz(name, tmp_path, faults_out / "bounded", 100_000, 200 if name in QUICK else 30)


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_documents_are_refused_clearly(
    name: str, tmp_path: Path, faults_out: Path
) -> None:
    fuzz(name, tmp_path, faults_out, 20_000 if name in QUICK else 2_000, None)
