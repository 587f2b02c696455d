"""SLSA v1 provenance: an in-toto statement in a DSSE envelope, signed with the build key.

Specifications: in-toto attestation v1, SLSA provenance v1, DSSE v1.0 (secure-systems-lab/dsse).
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.bundle import Digest
from forge.errors import TrustError
from forge.trust.proof_keys import ProofKeys

__all__ = [
    "MAX_PROVENANCE_BYTES",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "TREE_SUBJECT",
    "Provenance",
    "verify_provenance",
]

MAX_PROVENANCE_BYTES: Final = 64 * 1024 * 1024  # as a tree document: it names every engine file
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
# The subject that stands for the whole repository: its digest is that of the tree document.
TREE_SUBJECT: Final = "tree"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Digest(_Part):
    sha256: Digest


class _Subject(_Part):
    name: str
    digest: _Digest


class _Builder(_Part):
    id: str


class _Metadata(_Part):
    startedOn: str  # noqa: N815  the specification's spelling
    finishedOn: str  # noqa: N815


class _RunDetails(_Part):
    builder: _Builder
    metadata: _Metadata


class _BuildDefinition(_Part):
    buildType: str  # noqa: N815


class _Predicate(_Part):
    buildDefinition: _BuildDefinition  # noqa: N815
    runDetails: _RunDetails  # noqa: N815


class _Statement(_Part):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["https://slsa.dev/provenance/v1"]  # noqa: N815
    subject: tuple[_Subject, ...] = Field(min_length=1)
    predicate: _Predicate


class Provenance(BaseModel):
    """Where a tree came from, as its builder signed it."""

    model_config = ConfigDict(frozen=True)

    tree: str
    build_type: str
    builder: str
    started: str
    finished: str
    files: dict[str, str] = Field(description="SHA-256 of each engine file by path in the tree")


def verify_provenance(data: bytes, keys: ProofKeys, *, tree: str) -> Provenance:
    """Verify the signature, then that it speaks of this tree.

    Args:
        data: the DSSE envelope.
        keys: from `TrustedStore.proof_keys`.
        tree: digest of the tree it must be about.

    Raises:
        TrustError: not signed by a trusted build key, not SLSA provenance, or of another tree.
    """
    if len(data) > MAX_PROVENANCE_BYTES:
        raise TrustError(f"The provenance is larger than {MAX_PROVENANCE_BYTES} bytes")
    payload = _verified_payload(data, keys)
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _refused(f"it is no SLSA provenance, {place}: {first['msg']}") from None
    subjects = {one.name: one.digest.sha256 for one in statement.subject}
    found = subjects.pop(TREE_SUBJECT, "")
    if found != tree:
        raise _refused(f"it is about tree {found[:12] or 'none'}, not {tree[:12]}")
    run = statement.predicate.runDetails
    return Provenance(
        tree=tree,
        build_type=statement.predicate.buildDefinition.buildType,
        builder=run.builder.id,
        started=run.metadata.startedOn,
        finished=run.metadata.finishedOn,
        files=subjects,
    )


def _verified_payload(data: bytes, keys: ProofKeys) -> bytes:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import Key

    try:
        document: dict[str, Any] = json.loads(data)
        envelope = Envelope.from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(f"it is no DSSE envelope, {type(error).__name__}: {error}") from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _refused(f"its payload is {envelope.payload_type!r}")
    trusted = [
        Key.from_dict(
            key.keyid,
            {"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": key.public}},
        )
        for key in keys.build
    ]
    try:
        envelope.verify(trusted, 1)
    except (VerificationError, ValueError):
        raise _refused("no trusted build key signed it") from None
    return envelope.payload


def _refused(why: str) -> TrustError:
    hint = "do not use this bundle; report its publisher"
    return TrustError("The provenance of this bundle cannot be believed", why=why, hint=hint)
