"""The data of a report: frozen, complete, and free of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from forge.accuracy.gate import AccuracyReport
from forge.accuracy.receipt import Receipt
from forge.bundle import Manifest
from forge.smoke.gate import Report
from forge.smoke.result import Result

__all__ = [
    "BillOfMaterials",
    "BuildStep",
    "DownloadSize",
    "GateResults",
    "ProfileReport",
    "ProofFile",
    "ReleaseReport",
    "SbomPackage",
    "SignedRole",
    "VerifiedProofs",
    "VersionFigures",
]


@dataclass(frozen=True, slots=True)
class SbomPackage:
    """A package of an SBOM.

    Attributes:
        licence: expression or names as the SBOM states them; empty if it states none.
    """

    name: str
    version: str
    licence: str = ""


@dataclass(frozen=True, slots=True)
class BillOfMaterials:
    """What the SBOM of a bundle lists.

    Attributes:
        model: name of the model in Triton.
        properties: builder and versions of the runtime.
        packages: sorted as in the SBOM.
        files: number of files of the engine.
    """

    model: str
    properties: Mapping[str, str]
    packages: tuple[SbomPackage, ...]
    files: int


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A file among the proofs: size in bytes, SHA-256, and what its verification has shown."""

    name: str
    size: int
    sha256: str
    verified: str


@dataclass(frozen=True, slots=True)
class VerifiedProofs:
    """The proofs of a bundle, verified with the keys that devices trust.

    Attributes:
        files: every file of the proofs.
        builder: id of the builder in the provenance.
        started: RFC 3339, of the first step.
        finished: RFC 3339, of the last step.
        engine_files: number of engine files that the provenance names.
    """

    files: tuple[ProofFile, ...]
    builder: str
    started: str
    finished: str
    engine_files: int


@dataclass(frozen=True, slots=True)
class DownloadSize:
    """What a device fetches to get a version.

    Attributes:
        version: that the device has; None for a device that has nothing.
        bytes: content, chunk lists, tree documents and proofs; None if that is not known.
        environment_changed: whether packages of the serving environment are installed again.
        note: why `bytes` is not known.
    """

    version: str | None
    bytes: int | None
    environment_changed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """A version of a bundle for one profile, and what was measured of it.

    Attributes:
        result: the smoke benchmark; None: published without it, or not stored any more.
        receipt: the accuracy; None likewise.
        note: why a figure is missing; empty if none is.
    """

    manifest: Manifest
    result: Result | None
    receipt: Receipt | None
    note: str = ""

    @property
    def version(self) -> str:
        """Return the version."""
        return self.manifest.version

    def comparable(self, other: VersionFigures) -> bool:
        """Return whether both were measured on the same machine, at the same concurrency."""
        ours, theirs = self.manifest.smoke, other.manifest.smoke
        return (ours.machine, ours.concurrency) == (theirs.machine, theirs.concurrency)


@dataclass(frozen=True, slots=True)
class GateResults:
    """The gates that this version passed; their documents are named by the signed manifest.

    Attributes:
        smoke: None: not in the chain, or not stored any more.
        accuracy: None likewise.
        steps: the steps that gave a verdict, with the digest of it.
    """

    smoke: Report | None
    accuracy: AccuracyReport | None
    steps: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A step of the chain.

    Attributes:
        inputs: digest by name, from the step's own record, which is not signed; None: not stored
            any more.
    """

    step: str
    key: str
    outputs: Mapping[str, str]
    inputs: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """One profile of the version.

    Attributes:
        manifest_sha256: as the TUF metadata names it.
        history: this version and those before it for the profile, oldest first, this one last.
        downloads: from nothing first, then from each version of the history, newest first.
        licences: paths of files of licences in the bundle.
        sbom: None with `proofs`: the proofs are not stored any more.
    """

    manifest: Manifest
    manifest_sha256: str
    history: tuple[VersionFigures, ...]
    downloads: tuple[DownloadSize, ...]
    gates: GateResults
    steps: tuple[BuildStep, ...]
    licences: tuple[str, ...]
    sbom: BillOfMaterials | None
    proofs: VerifiedProofs | None

    @property
    def name(self) -> str:
        """Return the name of the profile."""
        return self.manifest.profile

    @property
    def current(self) -> VersionFigures:
        """Return the reported version."""
        return self.history[-1]

    @property
    def previous(self) -> VersionFigures | None:
        """Return the newest version before it; None if it is the first."""
        return self.history[-2] if len(self.history) > 1 else None


@dataclass(frozen=True, slots=True)
class SignedRole:
    """Verified metadata of TUF."""

    role: str
    version: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """A published version.

    Attributes:
        root_sha256: of the root metadata that everything was verified from.
        roles: root, targets, bundles, channels, snapshot, timestamp.
        channels: those that point to this version.
        yanked: when it was yanked, as signed; empty if it was not.
    """

    name: str
    version: str
    root_sha256: str
    roles: tuple[SignedRole, ...]
    channels: tuple[str, ...]
    profiles: tuple[ProfileReport, ...]
    yanked: str = field(default="")
