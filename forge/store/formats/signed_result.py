"""`signed/<builder>/<key>.json`: a step's result, signed by the trusted builder that made it.

A DSSE envelope of an in-toto statement. Its subjects are the output trees, its predicate is the
whole record of `actions/<key>.json`, so that a reader takes nothing from outside of the envelope.
Each builder writes below its own prefix, to which its rights in the store can be limited.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from forge import canonical
from forge.bundle import Digest
from forge.canonical import Json
from forge.errors import CorruptedError
from forge.store.formats.action import MAX_ACTION_BYTES, ActionResult
from forge.validation import validation_text

__all__ = [
    "MAX_SIGNED_BYTES",
    "RESULT_TYPE",
    "BuilderName",
    "parse_statement",
    "result_statement",
    "unverified_result",
]

MAX_SIGNED_BYTES: Final = 2 * MAX_ACTION_BYTES  # base64 needs 4/3 of the record
RESULT_TYPE: Final = "urn:forge:predicate:step-result:1"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

BuilderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _TreeDigest(_Part):
    sha256: Digest


class _Subject(_Part):
    name: str
    digest: _TreeDigest


class _Predicate(_Part):
    builder: BuilderName
    result: ActionResult


class _Statement(_Part):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["urn:forge:predicate:step-result:1"]  # noqa: N815  in-toto's spelling
    subject: tuple[_Subject, ...]
    predicate: _Predicate


def result_statement(result: ActionResult, builder: str) -> bytes:
    """Return the canonical bytes of the statement that a builder signs."""
    subject: list[Json] = [
        {"name": name, "digest": {"sha256": tree.digest}}
        for name, tree in sorted(result.outputs.items())
    ]
    statement: dict[str, Json] = {
        "_type": _STATEMENT_TYPE,
        "predicateType": RESULT_TYPE,
        "subject": subject,
        "predicate": {"builder": builder, "result": result.model_dump(mode="json")},
    }
    return canonical.dumps(statement)


def parse_statement(data: bytes) -> ActionResult:
    """Return the result in a statement, with the name of the builder that it states.

    Args:
        data: the payload of the envelope.

    Raises:
        ValueError: it is not such a statement, or its subjects are not the result's outputs.
    """
    try:
        found = _Statement.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(validation_text(error)) from None
    result = found.predicate.result.model_copy(update={"builder": found.predicate.builder})
    stated = {one.name: one.digest.sha256 for one in found.subject}
    if stated != {name: tree.digest for name, tree in result.outputs.items()}:
        raise ValueError("its subjects are not the outputs of the result")
    return result


def unverified_result(envelope: bytes, name: str) -> ActionResult:
    """Return the result in an envelope without verifying who signed it, for garbage collection.

    Args:
        envelope: the object's bytes.
        name: the object's name, for the message.

    Raises:
        CorruptedError: it is not an envelope of a result.
    """
    try:
        document: dict[str, Any] = json.loads(envelope)
        return parse_statement(base64.b64decode(document["payload"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise CorruptedError(f"{name} is not a signed result", why=why) from None
