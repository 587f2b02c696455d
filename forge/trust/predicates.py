"""Predicates about a tree: in-toto statements in DSSE envelopes, signed with the build key.

    PROOFS/performance.dsse.json   what the smoke benchmark measured, since version 0.2
    PROOFS/accuracy.dsse.json      how near the engine is to its checkpoint, since version 0.2
    PROOFS/checkpoint.dsse.json    who signed the checkpoint; only where the pipeline names a signer

The types are our own and not https://in-toto.io/attestation/test-result/v0.1: that one holds the
names of tests that passed or failed and no figures, and has no field to put them in. A bundle of an
earlier version has no such file and stays valid.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from forge.trust.envelope import StatementPart, StatementSubject, refused, verified_payload
from forge.trust.proof_keys import ProofKeys
from forge.trust.provenance import TREE_SUBJECT
from forge.validation import validation_text

__all__ = [
    "ACCURACY",
    "ACCURACY_TYPE",
    "CHECKPOINT",
    "CHECKPOINT_TYPE",
    "MAX_PREDICATE_BYTES",
    "PERFORMANCE",
    "PERFORMANCE_TYPE",
    "verify_predicate",
]

MAX_PREDICATE_BYTES: Final = 4 * 1024 * 1024
PERFORMANCE: Final = "performance.dsse.json"
PERFORMANCE_TYPE: Final = "urn:forge:predicate:performance:1"
ACCURACY: Final = "accuracy.dsse.json"
ACCURACY_TYPE: Final = "urn:forge:predicate:accuracy:1"
CHECKPOINT: Final = "checkpoint.dsse.json"
CHECKPOINT_TYPE: Final = "urn:forge:predicate:checkpoint-signature:1"


class _Statement(StatementPart):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: str  # noqa: N815  the specification's spelling
    subject: tuple[StatementSubject, ...] = Field(min_length=1)
    predicate: dict[str, Any]


def verify_predicate(
    data: bytes, keys: ProofKeys, *, tree: str, predicate_type: str
) -> dict[str, Any]:
    """Verify the signature, the type and the subject of a predicate, and return the predicate.

    Args:
        data: the DSSE envelope.
        keys: from `TrustedStore.proof_keys`.
        tree: expected digest of the tree.
        predicate_type: expected type.

    Raises:
        TrustError: not signed by a trusted build key, of another type, or for another tree.
    """
    what = f"predicate {predicate_type}"
    if len(data) > MAX_PREDICATE_BYTES:
        raise refused(what, f"it is larger than {MAX_PREDICATE_BYTES} bytes")
    payload = verified_payload(data, keys, what)
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise refused(what, f"it is not a valid statement, {validation_text(error)}") from None
    if statement.predicateType != predicate_type:
        raise refused(what, f"its type is {statement.predicateType!r}")
    found = {one.name: one.digest.sha256 for one in statement.subject}.get(TREE_SUBJECT, "")
    if found != tree:
        raise refused(what, f"it is for tree {found[:12] or 'none'}, not {tree[:12]}")
    return statement.predicate
