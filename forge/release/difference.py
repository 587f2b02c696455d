"""Compare two published versions: what differs, and what a device that has one must download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forge.bundle import Manifest
from forge.errors import NotInStoreError, TrustError
from forge.release.catalog import Catalog
from forge.release.components import BundleComponent, parse_sbom, read_sbom
from forge.release.measured import read_proof
from forge.release.repository.verified_index import VerifiedIndex
from forge.store import Store, Tree
from forge.store.download.estimate import DownloadEstimate, estimate_download
from forge.trust.proof_keys import ProofKeys
from forge.trust.proofs import PROVENANCE
from forge.trust.provenance import MAX_PROVENANCE_BYTES, verify_provenance

__all__ = ["Change", "ProfileDifference", "VersionDifference", "compare_versions", "signers"]

# Compared as sections of their own, or different in every version.
_NOT_FIELDS: Final = {"version", "created", "tree", "proofs", "smoke", "chain"}
_KEY_CHARACTERS: Final = 12


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; None: this side does not have it.

    Attributes:
        name: name of the field, file, package, figure, …
        before: in the first version.
        after: in the second version.
    """

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class ProfileDifference:
    """What differs for one profile. Only what differs is listed.

    Attributes:
        profile: the SKU.
        same_tree: whether both versions serve equal bytes.
        fields: fields of the manifest: fit, serving, operating.
        steps: keys of the steps that the versions were built by.
        files: sizes in bytes with the beginning of the SHA-256.
        fetch: what a device that has the first version downloads; None: a tree is not in the store.
        packages: versions of the environment's packages; None: a version has no SBOM in the store.
        figures: what the benchmark measured, with units.
        accuracy: figures of the accuracy receipt.
        signers: ids of the trusted keys that signed the provenance.
    """

    profile: str
    same_tree: bool
    fields: tuple[Change, ...]
    steps: tuple[Change, ...]
    files: tuple[Change, ...]
    fetch: DownloadEstimate | None
    packages: tuple[Change, ...] | None
    figures: tuple[Change, ...]
    accuracy: tuple[Change, ...]
    signers: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """Two versions of one bundle.

    Attributes:
        name: name of the bundle.
        first: version.
        second: version.
        only_first: profiles that the second version lacks.
        only_second: profiles that the first version lacks.
        profiles: what differs for each profile that both have.
    """

    name: str
    first: str
    second: str
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    profiles: tuple[ProfileDifference, ...]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads what is compared; the manifests are those of a verified index."""

    store: Store
    catalog: Catalog
    keys: ProofKeys | None

    def tree(self, digest: str) -> Tree | None:
        try:
            return self.store.tree(digest)
        except NotInStoreError:  # garbage collection kept the manifest only
            return None

    def packages(self, manifest: Manifest) -> dict[str, str] | None:
        data = read_sbom(self.store.objects, manifest)
        return None if data is None else _packages(parse_sbom(data))

    def figures(self, manifest: Manifest) -> dict[str, str]:
        result = self.catalog.performance(manifest)
        if result is None:
            smoke = manifest.smoke
            at = f"at {smoke.concurrency}"
            return {
                f"TTFT p50 {at}": f"{smoke.ttft_ms_p50:.1f} ms",
                f"inter-token p50 {at}": f"{smoke.inter_token_ms_p50:.2f} ms",
                f"output {at}": f"{smoke.output_tokens_per_s:.1f} tokens/s",
                "memory": f"{smoke.peak_rss_mib:.0f} MiB",
                "machine": smoke.machine,
            }
        found = {"memory": f"{manifest.smoke.peak_rss_mib:.0f} MiB",
                 "machine": manifest.smoke.machine}  # fmt: skip
        for level in result.levels:
            at = f"at {level.concurrency}"
            first, token = level.time_to_first_token, level.inter_token_latency
            for name, one, unit in (
                ("TTFT p50", first.p50 if first else None, "ms"),
                ("inter-token p50", token.p50 if token else None, "ms"),
                ("output", level.output_token_throughput, "tokens/s"),
                ("energy", level.energy_per_output_token, "J/token"),
            ):
                if one is not None:
                    found[f"{name} {at}"] = f"{one.mean:.4g} {unit}"
        return found

    def accuracy(self, manifest: Manifest) -> dict[str, str]:
        receipt = self.catalog.accuracy(manifest)
        if receipt is None:
            return {}
        worst = receipt.worst().model_dump()
        shown = {name: "not finite" if one is None else f"{one:.4g}" for name, one in worst.items()}
        reference = receipt.reference
        return {
            "precision": receipt.precision,
            "checkpoint": f"sha256:{reference.sha256[:_KEY_CHARACTERS]}",
            "executed": receipt.executed,
            **shown,
        }

    def signers(self, manifest: Manifest) -> dict[str, str]:
        data = read_proof(self.store.objects, manifest, PROVENANCE, MAX_PROVENANCE_BYTES)
        if data is None or self.keys is None:
            return {}
        found = signers(data, self.keys, manifest.tree.digest)
        return {one[:_KEY_CHARACTERS]: "signed" for one in found} or {"trusted key": "none"}


def compare_versions(
    store: Store, index: VerifiedIndex, name: str, versions: tuple[str, str], profile: str | None
) -> VersionDifference:
    """Compare two versions of a bundle.

    Args:
        store: the store.
        index: what is published in it.
        name: name of the bundle.
        versions: first and second; a device goes from the first to the second.
        profile: compare this one only; None: all that both have.

    Raises:
        NotFoundError: a version, or its part for the profile, is not published.
        CorruptedError: an object is damaged.
        StoreError: the store cannot be reached.
    """
    catalog = Catalog(store.objects, index)
    for version in versions:
        catalog.require(name, version, profile)
    first, second = (
        {profile} if profile else set(catalog.profiles(name, version)) for version in versions
    )
    reader = _Reader(store, catalog, index.proof_keys)
    found = []
    for one in sorted(first & second):
        pair = [catalog.manifest(name, version, one) for version in versions]
        found.append(_compare(reader, pair[0], pair[1]))
    return VersionDifference(
        name, *versions, tuple(sorted(first - second)), tuple(sorted(second - first)), tuple(found)
    )


def signers(envelope: bytes, keys: ProofKeys, tree: str) -> tuple[str, ...]:
    """Return the ids of the trusted build keys whose signature of the provenance is valid.

    Args:
        envelope: the signed provenance.
        keys: the trusted keys.
        tree: digest of the tree that it must be about.
    """
    found = []
    for key in keys.build:
        try:
            verify_provenance(envelope, ProofKeys(build=(key,), model=keys.model), tree=tree)
        except TrustError:
            continue
        found.append(key.keyid)
    return tuple(found)


def _compare(reader: _Reader, first: Manifest, second: Manifest) -> ProfileDifference:
    before, after = (reader.tree(one.tree.digest) for one in (first, second))
    packages = [reader.packages(one) for one in (first, second)]
    return ProfileDifference(
        profile=first.profile,
        same_tree=first.tree.digest == second.tree.digest,
        fields=_changes(_fields(first), _fields(second)),
        steps=_changes(_steps(first), _steps(second)),
        files=_changes(_files(before), _files(after)) if before and after else (),
        fetch=_fetch(reader, before, after, second),
        packages=(
            None
            if packages[0] is None or packages[1] is None
            else _changes(packages[0], packages[1])
        ),
        figures=_changes(reader.figures(first), reader.figures(second)),
        accuracy=_changes(reader.accuracy(first), reader.accuracy(second)),
        signers=_changes(reader.signers(first), reader.signers(second)),
    )


def _fetch(
    reader: _Reader, before: Tree | None, after: Tree | None, manifest: Manifest
) -> DownloadEstimate | None:
    """Return what a device downloads: the tree with the first as its seed, the proofs whole."""
    proofs = reader.tree(manifest.proofs.digest)
    if after is None or proofs is None:
        return None
    objects = reader.store.objects
    return estimate_download(objects, after, before) + estimate_download(objects, proofs)


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    names = dict.fromkeys([*before, *after])
    return tuple(
        Change(name, before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    )


def _fields(manifest: Manifest) -> dict[str, str]:
    return dict(_flat("", manifest.model_dump(mode="json", exclude=_NOT_FIELDS)))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, one)
    elif isinstance(value, list):
        yield prefix, ", ".join(map(str, value)) or "none"
    elif value is not None:
        yield prefix, str(value).lower() if isinstance(value, bool) else str(value)


def _steps(manifest: Manifest) -> dict[str, str]:
    return {link.step: link.key[:_KEY_CHARACTERS] for link in manifest.chain}


def _files(tree: Tree) -> dict[str, str]:
    return {
        one.path: f"{one.size} B, {one.sha256[:_KEY_CHARACTERS]}"
        + (", executable" if one.mode & 0o111 else "")
        for one in tree.entries
    }


def _packages(components: tuple[BundleComponent, ...]) -> dict[str, str]:
    """Return the version of each package, with its licence if it is known."""
    found: dict[str, str] = {}
    for one in components:
        if one.kind == "library":
            shown = f"{one.version} ({one.licence})" if one.licence else one.version
            found[one.name] = f"{found[one.name]}, {shown}" if one.name in found else shown
    return found
