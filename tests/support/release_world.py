"""A real store with real keys in a temporary folder, a publisher and clients of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from forge.bundle import Fallback, Fit, Manifest, Operating, ServingSettings, SmokeSummary
from forge.canonical import digest
from forge.errors import ForgeError
from forge.profiles import MatchSection, PowerSection, ThermalSection
from forge.release.attest.attest import prove
from forge.release.attest.predicates import Predicate, write_predicate
from forge.release.keys.keyring import Keyring
from forge.release.keys.model import Expiry
from forge.release.lifecycle import keys
from forge.release.manifest import PlannedManifest
from forge.release.publish import Published, promote, publish
from forge.steps import Link
from forge.store import Store, Tree, TreeEntry
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.memory import MemoryObjects
from forge.store.backends.protocol import Entry, Objects, Stored
from forge.trust.client import TrustedStore
from tests.support import cheap_keys

cheap_keys.use()  # also in programs that a test starts
PASSPHRASE = "correct horse battery staple"
NOW = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


@dataclass
class Wrapped:
    """A real store that calls `before_write` in front of each write."""

    inner: Objects
    before_write: Callable[[str], None]

    @property
    def url(self) -> str:
        return self.inner.url

    def read(self, name: str, *, max_bytes: int) -> Stored:
        return self.inner.read(name, max_bytes=max_bytes)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self.inner.read_range(name, start, length)

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        yield self.read_range(name, start, length)

    def report_bad_copy(self, name: str) -> bool:
        return self.inner.report_bad_copy(name)

    def write(self, name: str, data: bytes) -> str:
        self.before_write(name)
        return self.inner.write(name, data)

    def write_new(self, name: str, data: bytes) -> str:
        if self.inner.size(name) is None:  # else it writes nothing
            self.before_write(name)
        return self.inner.write_new(name, data)

    def write_if(self, name: str, data: bytes, etag: str) -> str:
        self.before_write(name)
        return self.inner.write_if(name, data, etag)

    def write_file(self, name: str, path: Path, *, take: bool = False) -> None:
        self.inner.write_file(name, path, take=take)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def size(self, name: str) -> int | None:
        return self.inner.size(name)

    def entry(self, name: str) -> Entry | None:
        return self.inner.entry(name)

    def touch(self, name: str) -> None:
        self.inner.touch(name)

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self.inner.entries(prefix)

    def scratch(self) -> Path:
        return self.inner.scratch()

    def sweep(self, before: float) -> int:
        return self.inner.sweep(before)


@dataclass
class World:
    """One store, one keys folder, and the time; with `memory` the store is in memory."""

    folder: Path
    now: datetime = NOW
    expiry: Expiry | None = None
    memory: bool = False
    objects: Objects = field(init=False)

    def __post_init__(self) -> None:
        if self.expiry is None:
            shutil.copytree(_keys(), self.folder / "keys")
        else:
            keys.init(self.keys, passphrase=PASSPHRASE, now=self.now, expiry=self.expiry)
        self.objects = MemoryObjects() if self.memory else DirectoryObjects(self.folder / "store")

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    @property
    def store(self) -> Store:
        return Store(self.objects, cache=self.folder / "cache")

    def ring(self) -> Keyring:
        return Keyring(self.keys, lambda: PASSPHRASE)

    def publish(
        self, version: str, *profiles: str, channel: str = "canary", tree: str = ""
    ) -> Published:
        planned = [self.planned(version, one, tree=tree) for one in profiles or ("development",)]
        return self.publish_planned(*planned, channel=channel)

    def publish_planned(self, *planned: PlannedManifest, channel: str = "canary") -> Published:
        """Publish manifests whose proofs are made up, and so not looked at."""
        return publish(
            self.store, self.ring(), planned, channel, now=self.now, check=lambda *_: None
        )

    def release(
        self,
        version: str,
        *predicates: Predicate,
        sbom: str = "{}",
        files: Mapping[str, bytes] | None = None,
        profile: str = "development",
    ) -> Manifest:
        """Publish a version with proofs as a real release has them; its manifest.

        `files` are in the tree in addition to the engine.
        """
        work = Path(mkdtemp(dir=self.folder, prefix=f"release-{version}-"))
        (work / "tree/models/m/1/engine").mkdir(parents=True)
        (work / "tree/models/m/1/engine/engine.bin").write_text(f"engine of {version}")
        (work / "tree/serving.json").write_text('{"repository": "models", "model": "m"}')
        for path, data in (files or {}).items():
            (work / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (work / "tree" / path).write_bytes(data)
        tree = self.store.put_tree(work / "tree")
        (work / "proofs").mkdir()
        (work / "sbom.cdx.json").write_text(sbom)
        link = Link("r", "0" * 64, {}, {"r": tree.digest}, 1.0, "2026-11-24T00:00:00Z", "local")
        prove(
            repository=work / "tree",
            sbom=work,
            digests={"repository": tree.digest},
            links=[link],
            keyring=self.ring(),
            output=work / "proofs",
            profile=profile,
        )
        for one in predicates:
            write_predicate(one, tree.digest, self.ring(), work / "proofs")
        proofs = self.store.put_tree(work / "proofs")
        made = manifest(version, profile).model_copy(update={"tree": tree, "proofs": proofs})
        planned = PlannedManifest(made, digest([made.identity()]))
        publish(self.store, self.ring(), [planned], "canary", now=self.now)
        return made

    def promote(
        self, version: str, channel: str, *, force: bool = False, fallback: Fallback | None = None
    ) -> str | None:
        """Promote a version whose proofs may be made up."""
        return promote(
            self.store, self.ring(), "demo", version, channel, now=self.now, force=force,
            fallback=fallback, check=lambda *_: None,
        )  # fmt: skip

    def planned(
        self, version: str, profile: str = "development", *, tree: str = ""
    ) -> PlannedManifest:
        content = manifest(version, profile, tree=tree, created=self.now)
        for one in (_tree(version, profile, tree), _tree("proofs", version, profile)):
            self.objects.write(f"trees/{one.reference().digest}.json", one.encode())
        return PlannedManifest(content, digest([content.identity()]))

    def operating(self, version: str, throttle_c: float) -> PlannedManifest:
        """As `planned`, of a profile with this temperature."""
        power = PowerSection(mode=None, limit_w=None, lock_clocks=False)
        thermal = ThermalSection(throttle_c=throttle_c, critical_c=95, batch_floor=1)
        operating = Operating(power=power, thermal=thermal)
        content = self.planned(version).manifest.model_copy(update={"operating": operating})
        return PlannedManifest(content, digest([content.identity()]))

    def refresh(self, *, force: bool = True) -> bool:
        return keys.refresh(self.objects, self.ring(), now=self.now, force=force)

    def rotate(self, role: str, *, replace: str | None = None, revoke: bool = False) -> str:
        return keys.rotate(
            self.objects, self.ring(), role, now=self.now, replace=replace, revoke=revoke  # type: ignore[arg-type]
        )  # fmt: skip

    def client(
        self, name: str = "device", *, now: datetime | None = None, root: int = 1
    ) -> TrustedStore:
        data = (self.keys / "metadata" / f"{root}.root.json").read_bytes()
        return TrustedStore(self.objects, self.folder / name, data, now=now or self.now)

    def later(self, **delta: float) -> datetime:
        self.now += timedelta(**delta)
        return self.now

    @contextmanager
    def tampered(self) -> Iterator[Path]:
        """The store's folder, to be damaged in the body and put back as it was afterwards."""
        store, saved = self.folder / "store", self.folder / "saved"
        shutil.copytree(store, saved)
        try:
            yield store / "tuf"
        finally:
            shutil.rmtree(store)
            saved.rename(store)


def manifest(version: str, profile: str, *, tree: str = "", created: datetime = NOW) -> Manifest:
    """A manifest of the bundle `demo` whose tree digest is made from `tree` and the version."""
    return Manifest(
        name="demo",
        version=version,
        profile=profile,
        created=f"{created:%Y-%m-%dT%H:%M:%SZ}",
        tree=_tree(version, profile, tree).reference(),
        proofs=_tree("proofs", version, profile).reference(),
        fit=Fit(
            platform="linux/amd64",
            match=MatchSection.model_validate({}),
            compute_capability=None,
            memory_mib=1,
            free_disk_mib=1,
            driver_min=None,
            jetpack=(),
            runtime={"openvino": "2026.1.0"},
            power_mode=None,
        ),
        serving=ServingSettings(
            activation="swap", start_timeout_s=60.0, environments={}, images={}
        ),
        smoke=SmokeSummary(
            concurrency=1,
            ttft_ms_p50=10.0,
            inter_token_ms_p50=5.0,
            output_tokens_per_s=200.0,
            error_rate=0.0,
            peak_rss_mib=500.0,
            machine="test",
        ),
        chain=(),
    )


def _tree(*content: str) -> Tree:
    """A tree of one file that is made from `content`; the file itself is not stored."""
    return Tree(entries=(TreeEntry(path="file", mode=0o644, size=1, sha256=digest(content)),))


@lru_cache(maxsize=1)
def _keys() -> Path:
    folder = Path(mkdtemp(prefix="forge-test-keys-")) / "keys"
    keys.init(folder, passphrase=PASSPHRASE, now=NOW)
    return folder


def publish_at_once(world: World, publishers: int) -> None:
    """Versions 1.1.0, 1.2.0, … on channels of their own, from threads; each must get through."""
    errors: list[ForgeError] = []

    def work(number: int) -> None:
        try:
            world.publish(f"1.{number}.0", channel=f"channel-{number}")
        except ForgeError as error:
            errors.append(error)

    numbers = range(1, publishers + 1)
    threads = [threading.Thread(target=work, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
