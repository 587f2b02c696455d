"""Read a CycloneDX SBOM for showing: nothing in it is trusted but that it is what was signed."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.errors import CorruptedError
from forge.report.report import BillOfMaterials, SbomPackage
from forge.validation import validation_text

__all__ = ["MAX_SBOM_BYTES", "parse_sbom"]

MAX_SBOM_BYTES: Final = 32 * 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _NamedLicence(_Part):
    id: str | None = None
    name: str | None = None


class _Licence(_Part):
    """CycloneDX has a licence, or an expression of several."""

    license: _NamedLicence | None = None
    expression: str | None = None

    def text(self) -> str:
        named = self.license
        return self.expression or (named and (named.id or named.name)) or ""


class _Property(_Part):
    name: str
    value: str = ""


class _Component(_Part):
    name: str
    version: str = ""
    type: str = ""
    licenses: tuple[_Licence, ...] = ()
    properties: tuple[_Property, ...] = ()
    components: tuple[_Component, ...] = ()


class _Metadata(_Part):
    component: _Component | None = None


class _Sbom(_Part):
    metadata: _Metadata = Field(default_factory=_Metadata)
    components: tuple[_Component, ...] = ()


def parse_sbom(data: bytes, what: str) -> BillOfMaterials:
    """Return what an SBOM lists.

    Args:
        data: CycloneDX JSON.
        what: the document, for the message.

    Raises:
        CorruptedError: it is not CycloneDX.
    """
    try:
        found = _Sbom.model_validate_json(data)
    except ValidationError as error:
        raise CorruptedError(f"{what} is not valid", why=validation_text(error)) from None
    model = found.metadata.component or _Component(name="")
    return BillOfMaterials(
        model=model.name,
        properties={one.name.removeprefix("forge:"): one.value for one in model.properties},
        packages=tuple(map(_package, found.components)),
        files=sum(one.type == "file" for one in model.components),
    )


def _package(component: _Component) -> SbomPackage:
    names = dict.fromkeys(one.text() for one in component.licenses)
    return SbomPackage(component.name, component.version, " AND ".join(filter(None, names)))
