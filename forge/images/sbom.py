"""CycloneDX 1.6 bill of materials of an image, of what lies in it rather than what was asked for.

Deterministic: the same image makes the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forge.images.packages import Package

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

__all__ = ["encode"]

# Namespace of this document's UUIDs: uuid5(NAMESPACE_URL, "urn:forge:sbom:image").
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forge:sbom:image")


def encode(name: str, digest: str, packages: Sequence[Package]) -> bytes:
    """The document of one platform's image.

    Args:
        name: of the image.
        digest: `sha256:…` of its manifest.
        packages: that lie in it.
    """
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    image = Component(
        name=name,
        version=digest,
        type=ComponentType.CONTAINER,
        bom_ref=f"image:{digest}",
        hashes=[
            HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:")),
        ],
    )
    components = [_component(package) for package in packages]
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, f"{name}\n{digest}"),
        metadata=BomMetaData(component=image),
        components=components,
    )
    # Without this the same image would not make the same bytes.
    bom.metadata.timestamp = None  # type: ignore[assignment]  # optional in CycloneDX 1.6
    bom.register_dependency(image, components)
    return JsonV1Dot6(bom).output_as_string(indent=1).encode()


def _component(package: Package) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    namespace = "debian" if package.kind == "deb" else None
    qualifiers = {"arch": package.architecture} if package.architecture else None
    purl = PackageURL(package.kind, namespace, package.name, package.version, qualifiers)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
    )
