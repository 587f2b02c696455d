"""Signed statements that a published bundle is, or is not, affected by a vulnerability.

    vex/<tree>/<sha256>.json   a DSSE envelope: an in-toto statement about the tree of a bundle, its
                               predicate is an OpenVEX document (https://openvex.dev/ns/v0.2.0)

Signed with the build key after the release, so the bundle itself does not change. An attacker of
the store cannot write a statement, but can hide one: the bundle is then listed without it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import Manifest
from forge.canonical import Json
from forge.errors import ConfigurationError, CorruptedError, TrustError, UsageError
from forge.release.attest.predicates import signed_predicate
from forge.release.attest.signing_keys import build_key
from forge.release.components import BundleComponent
from forge.release.keys.keyring import Keyring
from forge.store.backends.protocol import Objects
from forge.store.formats.names import is_digest
from forge.trust.predicates import verify_predicate
from forge.trust.proof_keys import ProofKeys

__all__ = [
    "JUSTIFICATIONS",
    "STATUSES",
    "VexStatement",
    "component_id",
    "read_statements",
    "sign_statement",
    "trees_with_statements",
]

VEX: Final = "vex/"
VEX_TYPE: Final = "https://openvex.dev/ns/v0.2.0"
MAX_VEX_BYTES: Final = 256 * 1024
_MAX_STATEMENTS: Final = 1000  # about one tree
STATUSES: Final = ("not_affected", "affected", "fixed", "under_investigation")
JUSTIFICATIONS: Final = (
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
)
_VULNERABILITY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{2,63}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VexStatement:
    """What the publisher says about a vulnerability and components of a bundle.

    Attributes:
        vulnerability: its id, such as CVE-2025-53643.
        status: one of `STATUSES`.
        components: ids of the components, from `component_id`.
        justification: one of `JUSTIFICATIONS`; empty for another status than `not_affected`.
        note: why, or what to do, in words.
        timestamp: when it was signed, RFC 3339, UTC.
    """

    vulnerability: str
    status: str
    components: tuple[str, ...]
    justification: str = ""
    note: str = ""
    timestamp: str = ""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class _Vulnerability(_Part):
    name: str


class _Subcomponent(_Part):
    id: str = Field(alias="@id")


class _Product(_Part):
    subcomponents: tuple[_Subcomponent, ...]


class _Statement(_Part):
    vulnerability: _Vulnerability
    products: tuple[_Product, ...]
    status: Literal["not_affected", "affected", "fixed", "under_investigation"]
    justification: str = ""
    impact_statement: str = ""
    action_statement: str = ""


class _Document(_Part):
    timestamp: str
    statements: tuple[_Statement, ...]


def component_id(component: BundleComponent) -> str:
    """Return how a statement names a component: its package URL, else its kind and name."""
    return component.purl or f"{component.kind}:{component.name}"


def sign_statement(
    objects: Objects,
    keyring: Keyring,
    manifest: Manifest,
    statement: VexStatement,
    now: datetime,
) -> str:
    """Sign a statement about a bundle's profile, store it, and return the name of its object.

    Raises:
        UsageError: the statement is not complete, or the build key is missing.
        TrustError: the list of trusted keys is damaged.
        StoreError: the store cannot be reached.
    """
    _check(statement)
    keyid = build_key(keyring, keyring.proof_keys()).keyid
    document = _open_vex(manifest, statement, f"build key {keyid}", now)
    envelope = signed_predicate(VEX_TYPE, manifest.tree.digest, document, keyring)
    name = f"{VEX}{manifest.tree.digest}/{canonical.sha256(envelope)}.json"
    objects.write_new(name, envelope)
    return name


def trees_with_statements(objects: Objects) -> set[str]:
    """Return the digests of the trees that objects in the store are about. Raises StoreError.

    A web server cannot list its objects: then there is a warning, and no statement is known.
    """
    try:
        names = [entry.name for entry in objects.entries(VEX)]
    except ConfigurationError as error:
        _log.warning("Statements about vulnerabilities are not known. %s", error.what)
        return set()
    found = {name.removeprefix(VEX).partition("/")[0] for name in names}
    return {one for one in found if is_digest(one)}


def read_statements(objects: Objects, keys: ProofKeys, tree: str) -> tuple[VexStatement, ...]:
    """Return the statements about a tree, the newest first; those of other keys are ignored.

    Raises StoreError.
    """
    found: list[VexStatement] = []
    for number, entry in enumerate(objects.entries(f"{VEX}{tree}/")):
        if number >= _MAX_STATEMENTS:
            _log.warning("More than %s statements about the tree %s", _MAX_STATEMENTS, tree)
            break
        try:
            data = objects.read(entry.name, max_bytes=MAX_VEX_BYTES).data
            found += _parse(verify_predicate(data, keys, tree=tree, predicate_type=VEX_TYPE))
        except (TrustError, CorruptedError) as error:
            _log.warning("%s is ignored: %s: %s", entry.name, error.what, error.why)
    return tuple(sorted(found, key=lambda one: one.timestamp, reverse=True))


def _check(statement: VexStatement) -> None:
    """Require what OpenVEX requires of a status. Raises UsageError."""
    if not _VULNERABILITY.fullmatch(statement.vulnerability):
        message = f"{statement.vulnerability!r} is not an id of a vulnerability"
        raise UsageError(message, hint="for example CVE-2025-53643")
    if statement.justification and statement.justification not in JUSTIFICATIONS:
        message = f"OpenVEX has no justification {statement.justification!r}"
        raise UsageError(message, hint=f"use one of: {', '.join(JUSTIFICATIONS)}")
    if statement.status == "not_affected" and not (statement.justification or statement.note):
        names = ", ".join(JUSTIFICATIONS)
        message = "The status not_affected requires a reason"
        raise UsageError(message, hint=f"--justification with one of: {names}; or --note")
    if statement.justification and statement.status != "not_affected":
        raise UsageError("--justification is for the status not_affected", hint="use --note")
    if statement.status == "affected" and not statement.note:
        message = "The status affected requires what to do about it"
        raise UsageError(message, hint="--note 'update to 1.2.0'")


def _open_vex(
    manifest: Manifest, statement: VexStatement, author: str, now: datetime
) -> Mapping[str, Json]:
    stamp = f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    product: dict[str, Json] = {
        "@id": f"pkg:generic/{manifest.name}@{manifest.version}?profile={manifest.profile}",
        "hashes": {"sha-256": manifest.tree.digest},
        "subcomponents": [{"@id": one} for one in statement.components],
    }
    said: dict[str, Json] = {
        "vulnerability": {"name": statement.vulnerability},
        "products": [product],
        "status": statement.status,
    }
    if statement.justification:
        said["justification"] = statement.justification
    if statement.note:
        key = "action_statement" if statement.status == "affected" else "impact_statement"
        said[key] = statement.note
    body: dict[str, Json] = {
        "@context": VEX_TYPE,
        "author": author,
        "timestamp": stamp,
        "version": 1,
        "statements": [said],
    }
    return {**body, "@id": f"urn:forge:vex:{canonical.digest(body)}"}


def _parse(predicate: Mapping[str, Any]) -> Iterator[VexStatement]:
    try:
        document = _Document.model_validate(predicate)
    except ValidationError as error:
        raise CorruptedError("The statement is not valid OpenVEX", why=str(error)) from None
    for one in document.statements:
        yield VexStatement(
            vulnerability=one.vulnerability.name,
            status=one.status,
            components=tuple(part.id for product in one.products for part in product.subcomponents),
            justification=one.justification,
            note=one.impact_statement or one.action_statement,
            timestamp=document.timestamp,
        )
