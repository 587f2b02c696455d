"""CycloneDX 1.6 bill of materials of an image, from its content and not from its lock file.

Deterministic: equal images make equal bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from forge.extras import needs_extra
from forge.images.packages import Package

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

__all__ = ["encode"]

# Namespace of this document's UUIDs: uuid5(NAMESPACE_URL, "urn:forge:sbom:image").
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forge:sbom:image")


def encode(name: str, digest: str, packages: Sequence[Package]) -> bytes:
    """Return the SBOM of a platform's image.

    Args:
        name: name of the image.
        digest: digest of its manifest, `sha256:…`.
        packages: packages in the image.
    """
    with needs_extra("build", "Writing an SBOM"):
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
    # A time stamp would make the bytes of equal images differ.
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
