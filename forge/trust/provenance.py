"""SLSA v1 provenance: an in-toto statement in a DSSE envelope, signed with the build key.

Specifications: in-toto attestation v1, SLSA provenance v1, DSSE v1.0 (secure-systems-lab/dsse).
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.errors import TrustError
from forge.trust.envelope import (
    PAYLOAD_TYPE,
    StatementPart,
    StatementSubject,
    refused,
    verified_payload,
)
from forge.trust.proof_keys import ProofKeys
from forge.validation import validation_text

__all__ = [
    "MAX_PROVENANCE_BYTES",
    "PAYLOAD_TYPE",
    "PREDICATE_TYPE",
    "STATEMENT_TYPE",
    "TREE_SUBJECT",
    "Provenance",
    "verify_provenance",
]

MAX_PROVENANCE_BYTES: Final = (
    64 * 1024 * 1024
)  # that of a tree document, since it lists every engine file
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
# The subject of the whole repository, whose digest is that of the tree document.
TREE_SUBJECT: Final = "tree"


class _Builder(StatementPart):
    id: str


class _Metadata(StatementPart):
    startedOn: str  # noqa: N815  the specification's spelling
    finishedOn: str  # noqa: N815


class _RunDetails(StatementPart):
    builder: _Builder
    metadata: _Metadata


class _CommitDigest(StatementPart):
    gitCommit: str = ""  # noqa: N815


class _Source(StatementPart):
    uri: str = ""
    digest: _CommitDigest = _CommitDigest()


class _ExternalParameters(StatementPart):
    pipeline: str = ""
    source: _Source = _Source()


class _BuildDefinition(StatementPart):
    buildType: str  # noqa: N815
    externalParameters: _ExternalParameters = _ExternalParameters()  # noqa: N815


class _Predicate(StatementPart):
    buildDefinition: _BuildDefinition  # noqa: N815
    runDetails: _RunDetails  # noqa: N815


class _Statement(StatementPart):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["https://slsa.dev/provenance/v1"]  # noqa: N815
    subject: tuple[StatementSubject, ...] = Field(min_length=1)
    predicate: _Predicate


class Provenance(BaseModel):
    """Provenance of a tree, as signed by its builder."""

    model_config = ConfigDict(frozen=True)

    tree: str
    build_type: str
    builder: str
    started: str
    finished: str
    pipeline: str = ""
    source: str = Field(default="", description="URI of the repository, `git+https://…`")
    commit: str = Field(default="", description="empty for a bundle of an earlier version")
    files: dict[str, str] = Field(description="SHA-256 of each engine file by path in the tree")


def verify_provenance(data: bytes, keys: ProofKeys, *, tree: str) -> Provenance:
    """Verify the signature and the subject of provenance, and return it.

    Args:
        data: the DSSE envelope.
        keys: from `TrustedStore.proof_keys`.
        tree: expected digest of the tree.

    Raises:
        TrustError: not signed by a trusted build key, not SLSA provenance, or for another tree.
    """
    if len(data) > MAX_PROVENANCE_BYTES:
        raise TrustError(f"The provenance is larger than {MAX_PROVENANCE_BYTES} bytes")
    payload = verified_payload(data, keys, "provenance")
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise _refused(f"it is not valid SLSA provenance, {validation_text(error)}") from None
    subjects = {one.name: one.digest.sha256 for one in statement.subject}
    found = subjects.pop(TREE_SUBJECT, "")
    if found != tree:
        raise _refused(f"it is for tree {found[:12] or 'none'}, not {tree[:12]}")
    run = statement.predicate.runDetails
    external = statement.predicate.buildDefinition.externalParameters
    return Provenance(
        tree=tree,
        build_type=statement.predicate.buildDefinition.buildType,
        builder=run.builder.id,
        started=run.metadata.startedOn,
        finished=run.metadata.finishedOn,
        pipeline=external.pipeline,
        source=external.source.uri,
        commit=external.source.digest.gitCommit,
        files=subjects,
    )


def _refused(why: str) -> TrustError:
    return refused("provenance", why)
