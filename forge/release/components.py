"""The components of a published bundle: what its SBOM lists, and the digests of its manifest.

The manifest names the tree of the proofs by digest, and that tree the SBOM: a verified
manifest makes a verified SBOM.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forge import canonical
from forge.bundle import Manifest
from forge.errors import CorruptedError
from forge.release.measured import read_proof
from forge.store.backends.protocol import Objects
from forge.trust.proofs import SBOM

__all__ = [
    "MAX_SBOM_BYTES",
    "SERVED_TREE",
    "BundleComponent",
    "name_key",
    "parse_sbom",
    "read_components",
    "read_sbom",
]

SERVED_TREE: Final = "model repository"
"""Name of the component that is the tree of the manifest."""

MAX_SBOM_BYTES: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 8  # components within components
_SHA256: Final = "SHA-256"
_SEPARATORS: Final = re.compile(r"[-_.]+")


@dataclass(frozen=True, slots=True)
class BundleComponent:
    """A package, a file, a model, an image or a tree of a bundle.

    Attributes:
        kind: the type in CycloneDX, such as `library`; else `tree`, `image` or `lock`.
        name: name of the package, path of the file, …
        version: empty where it has none.
        purl: package URL; empty where it has none.
        licence: SPDX expression or name; empty: not known.
        digests: SHA-256 of its files; a package has one for each of its distributions.
    """

    kind: str
    name: str
    version: str = ""
    purl: str = ""
    licence: str = ""
    digests: tuple[str, ...] = ()

    def identity(self) -> str:
        """Return a digest of all fields."""
        fields = [self.kind, self.name, self.version, self.purl, self.licence, *self.digests]
        return canonical.sha256("\0".join(fields).encode())


def name_key(name: str) -> str:
    """Return the form in which two names are compared, that of PEP 503."""
    return _SEPARATORS.sub("-", name).lower()


def read_components(objects: Objects, manifest: Manifest) -> tuple[BundleComponent, ...] | None:
    """Return all components of a bundle's profile; None if it has no SBOM in the store.

    Raises:
        CorruptedError: the SBOM or the tree of the proofs is damaged.
        StoreError: the store cannot be reached.
    """
    data = read_sbom(objects, manifest)
    return None if data is None else (*parse_sbom(data), *_of_manifest(manifest))


def read_sbom(objects: Objects, manifest: Manifest) -> bytes | None:
    """Return the SBOM of a bundle's profile. Returns None and raises as `read_components`."""
    return read_proof(objects, manifest, SBOM, MAX_SBOM_BYTES)


def parse_sbom(data: bytes) -> tuple[BundleComponent, ...]:
    """Return the components of a CycloneDX document, those within others too.

    Raises CorruptedError.
    """
    try:
        document: Any = json.loads(data)
        metadata = document.get("metadata") or {}
        top = [metadata["component"]] if "component" in metadata else []
        return tuple(_components([*top, *document.get("components", ())], 0))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CorruptedError(f"{SBOM} is not valid CycloneDX", why=why) from None


def _components(found: list[Mapping[str, Any]], depth: int) -> Iterator[BundleComponent]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"components are nested deeper than {_MAX_DEPTH}")
    for one in found:
        hashes = one.get("hashes", ())
        yield BundleComponent(
            kind=str(one["type"]),
            name=str(one["name"]),
            version=str(one.get("version", "")),
            purl=str(one.get("purl", "")),
            licence=_licence(one.get("licenses", ())),
            digests=tuple(str(each["content"]) for each in hashes if each["alg"] == _SHA256),
        )
        ancestors = one.get("pedigree", {}).get("ancestors", ())
        yield from _components([*one.get("components", ()), *ancestors], depth + 1)


def _licence(found: list[Mapping[str, Any]]) -> str:
    """Return the licences of a component as one text: expression, id or name of each."""
    names = [one.get("expression") or one.get("license") or {} for one in found]
    return ", ".join(
        one if isinstance(one, str) else str(one.get("id") or one.get("name") or "")
        for one in names
    )


def _of_manifest(manifest: Manifest) -> Iterator[BundleComponent]:
    yield BundleComponent("tree", SERVED_TREE, digests=(manifest.tree.digest,))
    yield BundleComponent("tree", "proofs", digests=(manifest.proofs.digest,))
    for name, digest in manifest.serving.environments.items():
        yield BundleComponent("lock", name, digests=(digest,))
    for image in manifest.serving.images.values():
        digest = image.rpartition("@sha256:")[2]
        yield BundleComponent("image", image, digests=(digest,))
    for link in manifest.chain:
        for output, digest in link.outputs.items():
            yield BundleComponent("tree", f"{link.step}/{output}", digests=(digest,))
