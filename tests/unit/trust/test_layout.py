"""Names of signed objects are the same for publisher and client, whatever a role's name is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)

from forge.bundle import manifest_path
from forge.errors import TrustError
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.memory import MemoryObjects
from forge.store.backends.protocol import Objects
from forge.store.backends.web import WebObjects
from forge.trust import layout
from forge.trust.client import TrustedStore
from tests.support.release_world import World, manifest

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ODD = ["a?b", "a#b", "/x", "../x", "a/../../x", "a b", "a%3Fb", "ü", "..", "c:d", "&=+"]
BUNDLE = manifest_path("demo", "1.0.0", "development")


def repository(objects: Objects, role: str) -> bytes:
    """Write a repository whose bundles are delegated to `role`; return its root."""
    signer = CryptoSigner.generate_ed25519()
    expires = NOW + timedelta(days=30)

    def put(name: str, signed: T) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(signer)
        objects.write(name, metadata.to_bytes())
        return metadata.to_bytes()

    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for one in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(signer.public_key, one)
    data = manifest("1.0.0", "development").encode()
    delegated = Targets(version=1, expires=expires)
    delegated.targets[BUNDLE] = TargetFile.from_data(BUNDLE, data, ["sha256"])
    objects.write(layout.target_name(BUNDLE, delegated.targets[BUNDLE].hashes["sha256"]), data)
    targets = Targets(version=1, expires=expires, delegations=Delegations({}, {}))
    assert targets.delegations is not None
    targets.delegations.roles = {role: DelegatedRole(role, [], 1, False, paths=["bundles/*/*/*"])}
    targets.add_key(signer.public_key, role)
    snapshot = Snapshot(version=1, expires=expires)
    put(layout.metadata_name("targets", 1), targets)
    put(layout.metadata_name(role, 1), delegated)
    snapshot.meta = {"targets.json": MetaFile(1), f"{role}.json": MetaFile(1)}
    put(layout.metadata_name("snapshot", 1), snapshot)
    put(layout.TIMESTAMP_NAME, Timestamp(version=1, expires=expires))
    return put(layout.metadata_name("root", 1), root)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def reads_the_manifest(objects: Objects, root: bytes, state: Path) -> None:
    client = TrustedStore(objects, state, root, now=NOW)
    client.refresh()
    assert client.manifest("demo", "1.0.0", "development").version == "1.0.0"


@pytest.mark.parametrize("role", ODD)
def test_client_reads_a_role_of_any_name_from_every_backend(tmp_path: Path, role: str) -> None:
    memory, folder = MemoryObjects(), DirectoryObjects(tmp_path / "store")
    reads_the_manifest(memory, repository(memory, role), tmp_path / "client-1")
    root = repository(folder, role)
    reads_the_manifest(folder, root, tmp_path / "client-2")
    with served(tmp_path / "store") as url:
        reads_the_manifest(WebObjects(url, {}), root, tmp_path / "client-3")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "client-1", "client-2", "client-3", "store",
    ]  # fmt: skip
    assert len(list((tmp_path / "store/tuf/metadata").iterdir())) == 5  # no folder of a role


def test_roles_of_two_names_are_two_objects() -> None:
    names = {layout.metadata_name(role, 1) for role in ODD}
    assert len(names) == len(ODD)
    assert all(name.count("/") == 2 for name in names)
    assert layout.metadata_name("a?b", 3) == "tuf/metadata/3.a%3Fb.json"
    assert layout.metadata_name("channels", 3) == "tuf/metadata/3.channels.json"


@pytest.mark.parametrize("path", ["../../outside", "keys/../../../outside", "/outside"])
def test_path_signed_by_a_stolen_targets_key_does_not_leave_the_keys_folder(
    tmp_path: Path, path: str
) -> None:
    ring = World(tmp_path, memory=True).ring()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TrustError, match="Unsafe path"):
        ring.keep_target(path, b"written by a thief")
    with pytest.raises(TrustError, match="Unsafe path"):
        ring.target(path, "0" * 64)
    assert sorted(tmp_path.rglob("*")) == before
