"""The accuracy probe: the served model scores known tokens, and must agree with its own receipt."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import SmokeGateError, StepFailedError
from forge.serving.repository.accuracy_probe import ACCURACY_FILE, AccuracyProbe
from forge.serving.repository.spec import read_document
from forge.serving.triton.client import answer
from forge.serving.triton.request import GenerateRequest, HttpTimeouts

__all__ = ["ProbeAgreement", "check_accuracy", "compare", "read_probe"]

# A right engine on the same kind of machine differs by the KV cache's precision and the order of
# sums: 0.02 to 0.1 nats for SmolLM2-135M (docs/results/accuracy.md). A damaged one differs by more
# than 0.5.
_MAX_MEAN: Final = 0.25
_MAX_RATIO: Final = 1.15
_TIMEOUTS: Final = HttpTimeouts(first=60.0, total=60.0)


@dataclass(frozen=True, slots=True)
class ProbeAgreement:
    """How the served model's logarithms differ from those of its receipt.

    Attributes:
        positions: tokens that were scored.
        mean: mean absolute difference, nats.
        perplexity_ratio: perplexity by the receipt's; above 1 is worse.
    """

    positions: int
    mean: float
    perplexity_ratio: float


def read_probe(tree: Path) -> AccuracyProbe | None:
    """Return the probe of a rendered tree; None for one that has none.

    Raises ConfigurationError, StoreError.
    """
    path = tree / ACCURACY_FILE
    return read_document(path, AccuracyProbe) if path.is_file() else None


def check_accuracy(
    url: str, model: str, probe: AccuracyProbe, *, together: int = 1
) -> tuple[ProbeAgreement, ...]:
    """Let a running model score the probe's tokens, `together` times at once.

    Raises:
        SmokeGateError: the model computes something else than the engine of the receipt.
        StepFailedError: it did not answer.
    """
    request = GenerateRequest(json.dumps(probe.tokens), input_format="tokens")

    def scored(_number: int) -> ProbeAgreement:
        text, _ = answer(url, model, request, timeouts=_TIMEOUTS)
        return compare(probe, _parse(text))

    with ThreadPoolExecutor(together) as pool:
        found = tuple(pool.map(scored, range(together)))
    for agreement in found:
        _require(agreement, together)
    return found


def compare(probe: AccuracyProbe, logprobs: list[float]) -> ProbeAgreement:
    """Compare a model's logarithms with the probe's. Raises StepFailedError for another number."""
    count = len(probe.logprobs)
    if len(logprobs) != count:
        message = f"The model scored {len(logprobs)} tokens instead of {count}"
        raise StepFailedError(message, hint="see Triton's log")
    pairs = list(zip(logprobs, probe.logprobs, strict=True))
    mean = sum(abs(found - known) for found, known in pairs) / count
    ratio = math.exp(min(50.0, sum(known - found for found, known in pairs) / count))
    return ProbeAgreement(count, mean, ratio)


def _require(found: ProbeAgreement, together: int) -> None:
    # Written so that a value that is not a number fails.
    if found.mean <= _MAX_MEAN and found.perplexity_ratio <= _MAX_RATIO:
        return
    how = f"{together} requests at once" if together > 1 else "one request"
    raise SmokeGateError(
        "The model does not compute what its engine computed when it was built",
        why=f"over {found.positions} tokens, {how}: mean difference {found.mean:.3g} nats, allowed"
        f" {_MAX_MEAN:g}; perplexity ratio {found.perplexity_ratio:.4g}, allowed {_MAX_RATIO:g}",
        hint="the engine is damaged, or its runtime or driver computes wrongly on this machine",
    )


def _parse(text: str) -> list[float]:
    try:
        values = json.loads(text)
        return [float(value) for value in values]
    except (ValueError, TypeError, RecursionError):
        message = "The model did not return logarithms"
        raise StepFailedError(message, why=text[:200], hint="see Triton's log") from None
