"""CycloneDX SBOM of a model repository: the engine's files and the packages that serve it.

Deterministic: equal repositories give equal bytes, so that the step's result can be shared.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forge.canonical import sha256
from forge.errors import ConfigurationError
from forge.extras import needs_extra
from forge.files import sha256_file, write_durably
from forge.serving.repository.spec import Spec, read_spec
from forge.trust.proofs import SBOM, engine_folder

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

__all__ = ["Requirement", "parse_lock", "write_sbom"]

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Namespace of this document's UUIDs: uuid5(NAMESPACE_URL, "urn:forge:sbom").
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:forge:sbom")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A pinned package of a lock file."""

    name: str
    version: str
    hashes: tuple[str, ...]


def write_sbom(repository: Path, output: Path) -> dict[str, Any]:
    """Write sbom.cdx.json of a model repository.

    Args:
        repository: the unpacked model repository.
        output: folder to write.

    Returns:
        Numbers of packages and files, and the SHA-256 of the SBOM.

    Raises:
        ConfigurationError: serving.json is missing or not valid, a line of the lock does not pin a
            version, or the extra `build` is not installed.
    """
    with needs_extra("build", "Writing an SBOM"):
        from cyclonedx.output.json import JsonV1Dot6

    spec = read_spec(repository)
    requirements: tuple[Requirement, ...] = ()
    if spec.lock is not None:
        requirements = parse_lock((repository / spec.lock).read_text(encoding="utf-8"))
    files = {
        path.relative_to(repository).as_posix(): sha256_file(path)
        for path in sorted(engine_folder(repository).rglob("*"))
        if path.is_file()
    }
    data = JsonV1Dot6(_bom(spec, requirements, files)).output_as_string(indent=1).encode()
    write_durably(output / SBOM, data)
    return {"packages": len(requirements), "files": len(files), "sha256": sha256(data)}


def parse_lock(text: str) -> tuple[Requirement, ...]:
    """Return the packages of a pip lock file with hashes, sorted by name.

    Raises:
        ConfigurationError: a line does not pin a version.
    """
    found = []
    for line in _logical_lines(text):
        match = _REQUIREMENT.match(line)
        if match is None:
            raise ConfigurationError(
                "A line of the lock does not pin a version",
                why=line[:120],
                hint="create the lock again",
            )
        name = re.sub(r"[-_.]+", "-", match["name"]).lower()  # PEP 503
        found.append(Requirement(name, match["version"], tuple(sorted(_HASH.findall(line)))))
    return tuple(sorted(found, key=lambda one: one.name))


def _logical_lines(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        bare = line.split(" #", 1)[0].strip()
        if bare and not bare.startswith(("#", "-")):
            yield bare


def _bom(spec: Spec, requirements: tuple[Requirement, ...], files: dict[str, str]) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData

    engine = _engine(spec, files)
    packages = [_package(one) for one in requirements]
    parts = [spec.model, *files.values(), *(f"{one.name}=={one.version}" for one in requirements)]
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, "\n".join(parts)),
        metadata=BomMetaData(component=engine),
        components=packages,
    )
    # Without this, equal repositories would not give equal bytes.
    bom.metadata.timestamp = None  # type: ignore[assignment]  # optional in CycloneDX 1.6
    bom.register_dependency(engine, packages)
    return bom


def _engine(spec: Spec, files: dict[str, str]) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    properties = [Property(name="forge:builder", value=spec.builder)]
    properties += [
        Property(name=f"forge:runtime:{name}", value=version)
        for name, version in sorted(spec.runtime.items())
    ]
    parts = [
        Component(
            name=path,
            type=ComponentType.FILE,
            bom_ref=f"file:{path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        )
        for path, digest in files.items()
    ]
    return Component(
        name=spec.model,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{spec.model}",
        components=parts,
        properties=properties,
    )


def _package(requirement: Requirement) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL("pypi", None, requirement.name, requirement.version)
    return Component(
        name=requirement.name,
        version=requirement.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        # The lock allows each of these distributions; the platform decides which one is installed.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in requirement.hashes],
    )
