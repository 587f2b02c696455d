"""`receipt.json`: what `forge.builders.tools.receipt` measured of an engine."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from forge.bundle import Digest

__all__ = [
    "RECEIPT_FILE",
    "Receipt",
    "ReceiptSection",
    "WorstFigures",
    "accuracy_text",
    "read_receipt",
]

RECEIPT_FILE: Final = "receipt.json"

# null: not a finite number, so nothing that may pass
Figure = Annotated[float | None, Field(allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReceiptSection(_Document):
    """An engine's divergence from the reference over some positions."""

    positions: int = Field(ge=1)
    batch: int = Field(ge=1, description="sequences computed together")
    context: int = Field(ge=1, description="tokens of the longest sequence")
    kl_mean: Figure = Field(description="mean Kullback-Leibler divergence, nats")
    kl_p99: Figure = Field(description="its 99th percentile over the positions, nats")
    same_top: Figure = Field(description="share of positions with the same most likely token")
    perplexity: Figure = Field(description="of the engine on the text")
    perplexity_ratio: Figure = Field(description="the engine's perplexity by the reference's")


class TextFacts(_Document):
    """The text that was compared on."""

    sha256: Digest
    tokens: int = Field(ge=1)


class ReferenceFacts(_Document):
    """The computation that the engine was compared with."""

    sha256: Digest = Field(description="of reference.npz")
    precision: str
    architecture: str
    text: TextFacts


class Receipt(_Document):
    """How near an engine is to its checkpoint."""

    schema_version: Literal[1] = 1
    executed: str = Field(description="what was executed, and by what")
    precision: str = Field(description="type of most weights, as found in what was executed")
    reference: ReferenceFacts
    sections: dict[Literal["short", "batch", "long", "decode"], ReceiptSection] = Field(
        min_length=1
    )
    seconds: float = Field(ge=0)

    def worst(self) -> WorstFigures:
        """Return the worst figure of all sections; None where one is not a finite number."""
        found = tuple(self.sections.values())
        return WorstFigures(
            kl_mean=_most([one.kl_mean for one in found]),
            same_top=_most([one.same_top for one in found], least=True),
            perplexity_ratio=_most([one.perplexity_ratio for one in found]),
        )


class WorstFigures(_Document):
    """The worst figures of a receipt."""

    kl_mean: Figure
    same_top: Figure
    perplexity_ratio: Figure


def accuracy_text(receipt: Receipt) -> str:
    """Return a receipt in one line."""
    worst = receipt.worst()
    if worst.kl_mean is None or worst.same_top is None or worst.perplexity_ratio is None:
        return f"{receipt.precision}: not a finite number"
    return (
        f"{receipt.precision}: KL {worst.kl_mean:.2g} nats, same token {worst.same_top:.1%},"
        f" perplexity x {worst.perplexity_ratio:.3f} ({receipt.executed})"
    )


def read_receipt(envelope: bytes) -> Receipt:
    """Return the receipt of an attestation, a DSSE envelope, whose signature is not verified.

    Raises ValueError.
    """
    try:
        payload = base64.b64decode(json.loads(envelope)["payload"], validate=True)
        return Receipt.model_validate(json.loads(payload)["predicate"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an attestation: {error!r}") from None


def _most(values: list[float | None], *, least: bool = False) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return min(known) if least else max(known)
