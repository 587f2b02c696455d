"""Verify a DSSE envelope that a build key signed. Specification: DSSE v1.0 (secure-systems-lab)."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from forge.bundle import Digest
from forge.errors import TrustError
from forge.trust.proof_keys import ProofKeys

__all__ = ["PAYLOAD_TYPE", "StatementPart", "StatementSubject", "refused", "verified_payload"]

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


class StatementPart(BaseModel):
    """A part of an in-toto statement; fields of later versions are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Digest(StatementPart):
    sha256: Digest


class StatementSubject(StatementPart):
    """What a statement is about."""

    name: str
    digest: _Digest


def verified_payload(data: bytes, keys: ProofKeys, what: str) -> bytes:
    """Return the payload of an envelope of an in-toto statement, after verifying its signature.

    Args:
        data: the envelope as JSON.
        keys: from `TrustedStore.proof_keys`.
        what: the document, for the message.

    Raises:
        TrustError: not an envelope, of another payload type, or not signed by a trusted build key.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import Key

    try:
        document: dict[str, Any] = json.loads(data)
        envelope = Envelope.from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is not a valid DSSE envelope, {type(error).__name__}: {error}"
        raise refused(what, why) from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise refused(what, f"its payload type is {envelope.payload_type!r}")
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
        raise refused(what, "it is not signed by a trusted build key") from None
    return envelope.payload


def refused(what: str, why: str) -> TrustError:
    """Return the error of a document that could not be verified."""
    hint = "do not use this bundle; contact its publisher"
    return TrustError(f"The {what} of this bundle could not be verified", why=why, hint=hint)
