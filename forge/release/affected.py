"""Find the published bundles that have a component: for the answer to a vulnerability's notice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.bundle import manifest_path, version_order
from forge.errors import CorruptedError, NotInStoreError, TrustError
from forge.release.catalog import Catalog, is_yanked, read_manifest
from forge.release.component_index import ComponentIndex, component_index_path, use_index
from forge.release.component_query import ComponentQuery
from forge.release.components import SERVED_TREE, BundleComponent, read_components
from forge.release.repository.unverified_index import PublishedEntry
from forge.release.repository.verified_index import VerifiedIndex
from forge.release.vex import VexStatement, component_id, read_statements, trees_with_statements
from forge.store.backends.protocol import Objects
from forge.trust.proof_keys import ProofKeys

__all__ = ["AffectedBundle", "AffectedResult", "UnreadBundle", "find_affected"]

_READERS: Final = 8


@dataclass(frozen=True, slots=True)
class AffectedBundle:
    """A profile of a published version, and the component that was asked for.

    Attributes:
        name: name of the bundle.
        version: its version.
        profile: the SKU.
        channels: those that point to this version.
        yanked: whether no channel may point to it again.
        component: what was found.
        certain: False: its version cannot be compared with the range, so look at it.
        statements: what the publisher signed about the component, the newest first.
    """

    name: str
    version: str
    profile: str
    channels: tuple[str, ...]
    yanked: bool
    component: BundleComponent
    certain: bool
    statements: tuple[VexStatement, ...] = ()


@dataclass(frozen=True, slots=True)
class UnreadBundle:
    """A profile of a published version whose components are not known."""

    name: str
    version: str
    profile: str
    channels: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class AffectedResult:
    """The answer, newest version first, and how many bundles' profiles were looked at."""

    found: tuple[AffectedBundle, ...]
    unread: tuple[UnreadBundle, ...]
    looked_at: int

    def on_channel(self, channel: str) -> AffectedResult:
        """Return the part of the answer that a channel points to."""
        found = tuple(one for one in self.found if channel in one.channels)
        unread = tuple(one for one in self.unread if channel in one.channels)
        return AffectedResult(found, unread, self.looked_at)


@dataclass(frozen=True, slots=True)
class _Place:
    """One published manifest."""

    path: str
    entry: PublishedEntry
    channels: tuple[str, ...]

    @property
    def parts(self) -> tuple[str, str, str]:
        """Return name, version and profile."""
        _, name, version, file = self.path.split("/")
        return name, version, file.removesuffix(".json")


def find_affected(
    objects: Objects, index: VerifiedIndex, query: ComponentQuery, cache: Path
) -> AffectedResult:
    """Return every published bundle that has the component.

    Each SBOM is read once: what it lists is kept in the cache, by the digest of the manifest.

    Args:
        objects: the store.
        index: what is published, and the keys that may sign statements.
        query: the component.
        cache: folder of the index of components.

    Raises:
        StoreError: the store cannot be reached.
    """
    places = _places(objects, index)
    keys = index.proof_keys

    def work(components: ComponentIndex) -> AffectedResult:
        unread = list(_read_new(objects, components, places))
        rows = (
            components.by_digest(query.digest) if query.digest else components.by_name(query.name)
        )
        found = {
            (places[digest].path, one): query.matches(one)
            for digest, one in rows
            if digest in places
        }
        by_path = {one.path: one for one in places.values()}
        said = _statements(objects, components, places, keys) if found and keys else {}
        affected = [
            _affected(by_path[path], component, said.get(path, ()), certain=certain is True)
            for (path, component), certain in found.items()
            if certain is not False
        ]
        return AffectedResult(
            found=tuple(sorted(affected, key=_order)), unread=tuple(unread), looked_at=len(places)
        )

    return use_index(component_index_path(cache), work)


def _places(objects: Objects, index: VerifiedIndex) -> dict[str, _Place]:
    """Return the published manifests by their digest."""
    catalog = Catalog(objects, index)
    pointing = {name: catalog.channels(name) for name in catalog.names()}
    places = {}
    for path, entry in index.bundles.items():
        name, version = path.split("/")[1:3]
        on = tuple(one for one, target in pointing[name].items() if target == version)
        places[entry.sha256] = _Place(path, entry, on)
    return places


def _read_new(
    objects: Objects, components: ComponentIndex, places: Mapping[str, _Place]
) -> Iterator[UnreadBundle]:
    """Add the bundles that the index lacks; yield those that cannot be read."""
    known = components.known()
    missing = [place for digest, place in places.items() if digest not in known]
    with ThreadPoolExecutor(_READERS) as pool:
        for place, read in zip(missing, pool.map(lambda one: _read(objects, one), missing),
                               strict=True):  # fmt: skip
            if isinstance(read, str):
                yield UnreadBundle(*place.parts, place.channels, read)
            else:
                components.add(place.entry.sha256, read)


def _read(objects: Objects, place: _Place) -> tuple[BundleComponent, ...] | str:
    """Return the components of a bundle, or why they are not known."""
    try:
        manifest = read_manifest(objects, place.path, place.entry)
        if manifest_path(manifest.name, manifest.version, manifest.profile) != place.path:
            return "its manifest is that of another bundle"
        return read_components(objects, manifest) or "it has no SBOM in the store"
    except (CorruptedError, NotInStoreError, TrustError) as error:
        return error.what


def _statements(
    objects: Objects,
    components: ComponentIndex,
    places: Mapping[str, _Place],
    keys: ProofKeys,
) -> dict[str, tuple[VexStatement, ...]]:
    """Return the signed statements about the trees of the bundles, by path of the manifest."""
    found: dict[str, tuple[VexStatement, ...]] = {}
    for tree in trees_with_statements(objects):
        said = read_statements(objects, keys, tree)
        for digest, component in components.by_digest(tree):
            if digest in places and component.name == SERVED_TREE:
                found[places[digest].path] = said
    return found


def _affected(
    place: _Place,
    component: BundleComponent,
    statements: tuple[VexStatement, ...],
    *,
    certain: bool,
) -> AffectedBundle:
    about = tuple(one for one in statements if component_id(component) in one.components)
    return AffectedBundle(
        *place.parts, place.channels, is_yanked(place.entry), component, certain, about
    )  # fmt: skip


def _order(one: AffectedBundle) -> tuple[object, ...]:
    newest_first = tuple(-part for part in version_order(one.version)[:4])
    return (
        one.name,
        newest_first,
        one.version,
        one.profile,
        one.component.name,
        one.component.version,
    )
