"""Sign a predicate about a model repository, such as its performance.

`forge.trust.predicates` names their files and types, and verifies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from google.protobuf.json_format import MessageToDict
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from forge import canonical
from forge.accuracy.receipt import RECEIPT_FILE, Receipt
from forge.canonical import Json
from forge.checkpoint.verified import RECORD, VerifiedSignature
from forge.files import write_durably
from forge.release.attest.signing_keys import build_key
from forge.release.keys.keyring import Keyring
from forge.serving.repository.spec import read_document
from forge.smoke.result import RESULT_FILE, Result
from forge.trust.envelope import PAYLOAD_TYPE
from forge.trust.predicates import (
    ACCURACY,
    ACCURACY_TYPE,
    CHECKPOINT,
    CHECKPOINT_TYPE,
    PERFORMANCE,
    PERFORMANCE_TYPE,
    verify_predicate,
)
from forge.trust.provenance import TREE_SUBJECT

__all__ = ["Predicate", "signed_predicate", "signed_statement", "write_predicate"]


@dataclass(frozen=True, slots=True)
class Predicate:
    """A predicate to sign.

    Attributes:
        file: name of its file among the proofs.
        type: URI of its type.
        content: JSON values only.
    """

    file: str
    type: str
    content: Mapping[str, Json]

    @classmethod
    def performance(cls, result: Path) -> Self:
        """Return the predicate of a folder with result.json. Raises ConfigurationError."""
        found = read_document(result / RESULT_FILE, Result)
        return cls(PERFORMANCE, PERFORMANCE_TYPE, found.model_dump(mode="json"))

    @classmethod
    def accuracy(cls, receipt: Path) -> Self:
        """Return the predicate of a folder with receipt.json. Raises ConfigurationError."""
        found = read_document(receipt / RECEIPT_FILE, Receipt)
        return cls(ACCURACY, ACCURACY_TYPE, found.model_dump(mode="json"))

    @classmethod
    def checkpoint(cls, verified: Path) -> Self:
        """Return the predicate of a folder with signature.json. Raises ConfigurationError."""
        found = read_document(verified / RECORD, VerifiedSignature)
        return cls(CHECKPOINT, CHECKPOINT_TYPE, found.model_dump(mode="json"))


def write_predicate(predicate: Predicate, tree: str, keyring: Keyring, output: Path) -> str:
    """Sign a predicate about a tree into the folder of the proofs, and return its SHA-256.

    Raises as `signed_predicate`.
    """
    envelope = signed_predicate(predicate.type, tree, predicate.content, keyring)
    write_durably(output / predicate.file, envelope)
    return canonical.sha256(envelope)


def signed_predicate(
    predicate_type: str, tree: str, predicate: Mapping[str, Json], keyring: Keyring
) -> bytes:
    """Return a signed in-toto statement about a tree; equal predicates give equal payloads.

    Args:
        predicate_type: URI of the type.
        tree: digest of the model repository's tree, the subject.
        predicate: the content, JSON values only.
        keyring: holds the build key.

    Raises:
        UsageError: the private key is missing, or does not belong to its entry in keys.json.
        TrustError: the list of trusted keys is damaged, or the result is not valid under it.
    """
    subject = ResourceDescriptor(name=TREE_SUBJECT, digest={"sha256": tree})
    subject.validate()
    statement = Statement([subject.pb], predicate_type, dict(predicate))
    statement.validate()
    # protobuf keeps every number as a float: an integer would come back as 32.0.
    document = {**MessageToDict(statement.pb), "predicate": dict(predicate)}
    envelope = signed_statement(document, keyring)
    trusted = keyring.proof_keys()
    verify_predicate(envelope, trusted, tree=tree, predicate_type=predicate_type)
    return envelope


def signed_statement(statement: Mapping[str, Json], keyring: Keyring) -> bytes:
    """Return a DSSE envelope of an in-toto statement, signed with the build key.

    Raises as `signed_predicate`.
    """
    from securesystemslib.dsse import Envelope

    envelope = Envelope(canonical.dumps(statement), PAYLOAD_TYPE, {})
    envelope.sign(keyring.signer(build_key(keyring, keyring.proof_keys())))
    return canonical.dumps(envelope.to_dict())
