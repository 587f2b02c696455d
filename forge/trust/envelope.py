"""Verify a DSSE envelope that a build key signed. Specification: DSSE v1.0 (secure-systems-lab)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict

from forge.bundle import Digest
from forge.errors import TrustError
from forge.trust.proof_keys import ProofKeys

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = [
    "PAYLOAD_TYPE",
    "StatementPart",
    "StatementSubject",
    "envelope_payload",
    "refused",
    "verified_payload",
]

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
    from securesystemslib.signer import Key

    trusted = [
        Key.from_dict(
            key.keyid,
            {"keytype": key.keytype, "scheme": key.scheme, "keyval": {"public": key.public}},
        )
        for key in keys.build
    ]
    try:
        return envelope_payload(data, trusted, "a trusted build key")
    except ValueError as error:
        raise refused(what, str(error)) from None


def envelope_payload(data: bytes, trusted: Sequence[Key], signer: str) -> bytes:
    """Return the payload of an envelope of an in-toto statement, after verifying its signature.

    Args:
        data: the envelope as JSON.
        trusted: the keys, of which one must have signed it.
        signer: whose keys these are, for the message.

    Raises:
        ValueError: not an envelope, of another payload type, or not signed by any of the keys.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    try:
        document: dict[str, Any] = json.loads(data)
        envelope = Envelope.from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is not a valid DSSE envelope, {type(error).__name__}: {error}"
        raise ValueError(why) from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ValueError(f"its payload type is {envelope.payload_type!r}")
    try:
        envelope.verify(list(trusted), 1)
    except (VerificationError, ValueError):
        raise ValueError(f"it is not signed by {signer}") from None
    return envelope.payload


def refused(what: str, why: str) -> TrustError:
    """Return the error of a document that could not be verified."""
    hint = "do not use this bundle; contact its publisher"
    return TrustError(f"The {what} of this bundle could not be verified", why=why, hint=hint)
