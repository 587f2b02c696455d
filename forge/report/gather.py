"""Gather the report of a published version, from verified metadata and verified proofs only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from forge.accuracy.gate import GATE_FILE as ACCURACY_GATE_FILE
from forge.accuracy.gate import AccuracyReport
from forge.bundle import Manifest
from forge.errors import CorruptedError, NotInStoreError, TrustError
from forge.report.proofs import Measured, ProofReader, Proven
from forge.report.report import (
    BuildStep,
    DownloadSize,
    GateResults,
    ProfileReport,
    ReleaseReport,
    VersionFigures,
)
from forge.report.verified import VerifiedStore
from forge.smoke.gate import GATE_FILE, Report
from forge.store import Store
from forge.store.download.estimate import estimate_download
from forge.validation import validation_text

__all__ = ["DEFAULT_VERSIONS", "gather"]

DEFAULT_VERSIONS: Final = 8
"""Versions that a plot shows: a page of 360 px has room for no more names below its axis."""

_VERDICT: Final = "verdict"  # output of each step that has to pass before proofs are signed
_MAX_GATE_BYTES: Final = 4 * 1024 * 1024
_LICENCE: Final = re.compile(r"(?i)(^|/)(licen[cs]e|copying|notice)[^/]*$")
_Model = TypeVar("_Model", bound=BaseModel)


def gather(
    store: Store,
    root: bytes,
    name: str,
    version: str,
    *,
    versions: int = DEFAULT_VERSIONS,
    now: datetime | None = None,
) -> ReleaseReport:
    """Return the report of a version.

    Args:
        store: where it is published.
        root: root metadata to verify it from; see `verified_index.first_root`.
        name: of the bundle.
        version: to report.
        versions: number of versions to compare, this one included; at least 1.
        now: the time to compare expiries with; None: the clock of this machine.

    Raises:
        NotFoundError: this version is not published.
        TrustError: metadata, a proof or a measurement of this version is not valid.
        CorruptedError: stored bytes of this version are damaged.
        StoreError: the store cannot be reached.
    """
    with TemporaryDirectory(prefix="forge-report-") as folder:
        verified = VerifiedStore(store.objects, root, Path(folder), now)
        verified.require(name, version)
        reader = _Reader(store, verified, versions)
        pointing = verified.channels(name)
        return ReleaseReport(
            name=name,
            version=version,
            root_sha256=verified.root_sha256,
            channels=tuple(one for one, target in pointing.items() if target == version),
            profiles=tuple(
                reader.profile(name, version, one) for one in verified.profiles(name, version)
            ),
            roles=verified.roles(),
            yanked=verified.yanked(name, version),
        )


class _Reader:
    """Reads the profiles of one bundle."""

    def __init__(self, store: Store, verified: VerifiedStore, versions: int) -> None:
        self._store = store
        self._verified = verified
        self._versions = versions
        self._proofs = ProofReader(store, verified.proof_keys())

    def profile(self, name: str, version: str, profile: str) -> ProfileReport:
        manifest = self._verified.manifest(name, version, profile)
        proven = self._proven(manifest)
        current = _figures(manifest, proven.measured if proven else None)
        history = (*self._before(manifest), current)
        return ProfileReport(
            manifest=manifest,
            manifest_sha256=self._verified.manifest_sha256(name, version, profile),
            history=history,
            downloads=tuple(self._downloads([one.manifest for one in history])),
            gates=self._gates(manifest),
            steps=tuple(self._steps(manifest)),
            licences=self._licences(manifest),
            sbom=proven.sbom if proven else None,
            proofs=proven.proofs if proven else None,
        )

    def _proven(self, manifest: Manifest) -> Proven | None:
        """Return the proofs; None if garbage collection has deleted them."""
        try:
            return self._proofs.proven(manifest)
        except NotInStoreError:
            return None

    def _before(self, current: Manifest) -> Iterator[VersionFigures]:
        """Yield the versions before this one that have the profile, oldest first."""
        name, profile = current.name, current.profile
        known = self._verified.versions(name)
        below = known[known.index(current.version) + 1 :]
        have = [one for one in below if profile in self._verified.profiles(name, one)]
        for version in reversed(have[: self._versions - 1]):
            manifest = self._verified.manifest(name, version, profile)
            try:
                yield _figures(manifest, self._proofs.measured(manifest))
            except NotInStoreError:
                yield _figures(manifest, None)
            except (TrustError, CorruptedError) as error:
                yield VersionFigures(manifest, None, None, error.what)

    def _downloads(self, history: list[Manifest]) -> Iterator[DownloadSize]:
        """Yield what a device without a version fetches, then a device with each earlier one."""
        current = history[-1]
        yield self._download(current, None)
        for before in reversed(history[:-1]):
            yield self._download(current, before)

    def _download(self, current: Manifest, before: Manifest | None) -> DownloadSize:
        size, note = None, ""
        try:
            # Proofs are fetched whole: a device has no seeds for them.
            size = self._fetched(current.proofs.digest, None)
            size += self._fetched(current.tree.digest, before.tree.digest if before else None)
        except (NotInStoreError, CorruptedError) as error:
            size, note = None, error.what
        environments = before.serving.environments if before else {}
        changed = current.serving.environments != environments
        return DownloadSize(before.version if before else None, size, changed, note)

    def _fetched(self, digest: str, held: str | None) -> int:
        """Return the bytes of a tree's document and of what a device with another tree fetches."""
        tree = self._store.tree(digest)
        seed = self._store.tree(held) if held else None
        estimate = estimate_download(self._store.objects, tree, seed)
        return estimate.bytes + len(tree.encode())

    def _gates(self, manifest: Manifest) -> GateResults:
        steps = {
            link.step: link.outputs[_VERDICT] for link in manifest.chain if _VERDICT in link.outputs
        }
        return GateResults(
            smoke=self._first(steps.values(), GATE_FILE, Report),
            accuracy=self._first(steps.values(), ACCURACY_GATE_FILE, AccuracyReport),
            steps=steps,
        )

    def _first(self, trees: Iterable[str], file: str, model: type[_Model]) -> _Model | None:
        """Return the document of the first tree that has the file; None: not stored any more."""
        for tree in trees:
            try:
                data = self._store.read_file(tree, file, max_bytes=_MAX_GATE_BYTES)
            except NotInStoreError:
                continue
            try:
                return model.model_validate_json(data)
            except ValidationError as error:
                what = f"{file} of tree {tree[:12]} is not valid"
                raise CorruptedError(what, why=validation_text(error)) from None
        return None

    def _steps(self, manifest: Manifest) -> Iterator[BuildStep]:
        for link in manifest.chain:
            record = self._store.action(link.key)
            inputs = record.inputs if record else None
            yield BuildStep(link.step, link.key, link.outputs, inputs)

    def _licences(self, manifest: Manifest) -> tuple[str, ...]:
        try:
            tree = self._store.tree(manifest.tree.digest)
        except NotInStoreError:
            return ()
        return tuple(one.path for one in tree.entries if _LICENCE.search(one.path))


def _figures(manifest: Manifest, measured: Measured | None) -> VersionFigures:
    if measured is None:
        return VersionFigures(manifest, None, None, "its proofs are not stored any more")
    missing = [
        what
        for what, found in (("benchmark", measured.result), ("accuracy", measured.receipt))
        if found is None
    ]
    note = f"published without: {', '.join(missing)}" if missing else ""
    return VersionFigures(manifest, measured.result, measured.receipt, note)
