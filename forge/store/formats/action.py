"""`actions/<key>.json`: the result of a step, with its inputs, outputs and log."""

from __future__ import annotations

import logging
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from forge import canonical
from forge.bundle import Digest, TreeReference
from forge.errors import UsageError
from forge.store.formats.names import ACTIONS, is_digest
from forge.validation import validation_text

__all__ = ["MAX_ACTION_BYTES", "ActionResult", "action_name", "parse"]

MAX_ACTION_BYTES: Final = 1024 * 1024
_MAX_LOG_BYTES: Final = 16 * 1024
_log = logging.getLogger(__name__)


class ActionResult(BaseModel):
    """A step's result.

    Attributes:
        key: digest of everything the result depends on.
        step: the step's id.
        fields: digests that the key was computed from, for `forge why`.
        outputs: output trees by name.
        inputs: digests of the input trees by name.
        parents: keys of the steps that made the inputs.
        log_tail: end of the log, at most 16 KiB; empty for a step with secrets.
        seconds: wall time.
        started: RFC 3339, UTC.
        runner: name and platform of the runner.
        builder: name of the trusted builder whose signature was verified; never stored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    key: Digest
    step: str
    fields: dict[str, str]
    outputs: dict[str, TreeReference]
    inputs: dict[str, Digest] = Field(default_factory=dict)
    parents: tuple[Digest, ...] = ()
    log_tail: str = ""
    seconds: float = Field(ge=0)
    started: str
    runner: str
    builder: str = Field(default="", exclude=True)

    @field_validator("log_tail")
    @classmethod
    def _shorten(cls, text: str) -> str:
        return text.encode(errors="replace")[-_MAX_LOG_BYTES:].decode(errors="ignore")

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


def action_name(key: str) -> str:
    """Return the object name of the result of a key. Raises UsageError."""
    if not is_digest(key):
        raise UsageError(f"{key!r} is not a valid step key", hint="a key is 64 hexadecimal digits")
    return f"{ACTIONS}{key}.json"


def parse(data: bytes, key: str, where: str) -> ActionResult | None:
    """Parse a result; if it is not valid, log a warning and return None.

    A result is a cache entry: a damaged one makes the step run again and is not an error.
    """
    try:
        result = ActionResult.model_validate_json(data)
    except ValidationError as error:
        reason = validation_text(error)
    else:
        if result.key == key:
            return result.model_copy(update={"builder": ""})  # a record cannot say so itself
        reason = f"it contains the result of {result.key}"
    _log.warning(
        "The result of %s in %s is damaged and ignored: %s. The step runs again.",
        key, where, reason,
    )  # fmt: skip
    return None
