"""Read one published bundle as a device reads it, and remember the signed objects that this takes.

What is read can then be stored elsewhere: it is all that a device needs but the trees.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from forge.bundle import Manifest
from forge.release.attest.verify import engine_digests
from forge.release.repository.unverified_index import later_roots
from forge.release.repository.verified_index import first_root
from forge.store import Store
from forge.store.backends.protocol import Entry, Objects, Stored
from forge.store.backends.read_only import ReadOnly
from forge.trust import layout, model, predicates, provenance
from forge.trust.client import TrustedStore
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import MODEL_SIGNATURE, PROVENANCE

__all__ = ["BundlePart", "SignedBundle", "read_bundle", "verify_proofs"]


@dataclass(frozen=True, slots=True)
class BundlePart:
    """One version of a bundle for one profile."""

    name: str
    version: str
    profile: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} for {self.profile}"


@dataclass(frozen=True, slots=True)
class SignedBundle:
    """What is signed about a bundle.

    Attributes:
        manifest: its manifest.
        keys: keys that verify its proofs.
        channels: channels that point to it, sorted.
        documents: every signed object that a device reads, by name.
        expires: until when a device accepts these objects.
    """

    manifest: Manifest
    keys: ProofKeys
    channels: tuple[str, ...]
    documents: dict[str, bytes]
    expires: datetime


def read_bundle(
    objects: Objects, root: bytes, part: BundlePart, now: datetime | None = None
) -> SignedBundle:
    """Read and verify metadata, channels and manifest.

    Args:
        objects: the store.
        root: the root metadata to trust, of any version that the store continues.
        part: what to read.
        now: current time; None: the clock of this machine.

    Raises:
        NotInStoreError: it is not published.
        TrustError: a signature, an expiry, a version or a digest is not valid.
        StoreError: the store cannot be reached.
    """
    recorder = _Recorder(objects)
    with TemporaryDirectory(prefix="forge-trusted-") as folder:
        trusted = TrustedStore(recorder, Path(folder, "given"), root, now)
        trusted.refresh()
        manifest = trusted.manifest(part.name, part.version, part.profile)
        found = []
        for path, target in trusted.targets(layout.CHANNELS).items():
            _, name, file = path.split("/")  # as the delegation's pattern says
            custom = target.unrecognized_fields.get("custom")
            version = custom.get("version") if isinstance(custom, dict) else None
            if (name, version) == (part.name, part.version):
                channel = trusted.channel(name, file.removesuffix(".json"))
                trusted.channel_manifest(channel, part.profile)
                found.append(channel.channel)
        keys = trusted.proof_keys()
        # A device may begin with any root of the chain, so all of it is read.
        start = first_root(objects)
        TrustedStore(objects, Path(folder, "first"), start, now).refresh()
    roots = {layout.metadata_name("root", n): data for n, data in later_roots(objects, 1)}
    documents = recorder.documents | roots
    expires = _expires(documents, newest_root=layout.metadata_name("root", len(roots)))
    return SignedBundle(manifest, keys, tuple(sorted(found)), documents, expires)


def verify_proofs(store: Store, manifest: Manifest, keys: ProofKeys) -> None:
    """Verify the proofs of a bundle as a device does, by the digests of its files.

    Raises:
        TrustError: devices would refuse them.
        StoreError: they cannot be read.
    """
    proofs, tree = manifest.proofs.digest, manifest.tree.digest
    envelope = store.read_file(proofs, PROVENANCE, max_bytes=provenance.MAX_PROVENANCE_BYTES)
    provenance.verify_provenance(envelope, keys, tree=tree)
    if any(one.path == predicates.ACCURACY for one in store.tree(proofs).entries):
        limit = predicates.MAX_PREDICATE_BYTES
        receipt = store.read_file(proofs, predicates.ACCURACY, max_bytes=limit)
        kind = predicates.ACCURACY_TYPE
        predicates.verify_predicate(receipt, keys, tree=tree, predicate_type=kind)
    signature = store.read_file(proofs, MODEL_SIGNATURE, max_bytes=model.MAX_SIGNATURE_BYTES)
    model.verify_model_digests(signature, engine_digests(store, manifest), keys)


class _Recorder(ReadOnly):
    """Objects that remember what was read, in the form that was read last."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.documents: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return self._objects.url

    def read(self, name: str, *, max_bytes: int) -> Stored:
        stored = self._objects.read(name, max_bytes=max_bytes)
        self.documents[name] = stored.data
        return stored

    def read_range(self, name: str, start: int, length: int) -> bytes:
        return self._objects.read_range(name, start, length)

    def stream(self, name: str, start: int, length: int) -> Generator[bytes]:
        return self._objects.stream(name, start, length)

    def report_bad_copy(self, name: str) -> bool:
        return self._objects.report_bad_copy(name)

    def size(self, name: str) -> int | None:
        return self._objects.size(name)

    def entry(self, name: str) -> Entry | None:
        return self._objects.entry(name)


def _expires(documents: dict[str, bytes], newest_root: str) -> datetime:
    """Return when the first of the verified metadata expires."""
    names = [
        name
        for name in documents
        if name.startswith(layout.METADATA_PREFIX) and not name.endswith(".root.json")
    ]
    return min(_expiry(documents[name]) for name in (*names, newest_root))


def _expiry(document: bytes) -> datetime:
    signed: Any = json.loads(document)["signed"]
    return datetime.strptime(signed["expires"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
