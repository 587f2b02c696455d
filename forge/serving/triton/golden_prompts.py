"""Golden prompts: prompts whose answers are known, checked before a release is used."""

from __future__ import annotations

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from forge.errors import SmokeGateError, StepFailedError
from forge.profiles import GoldenSection, ProbeSection
from forge.serving.repository.spec import Spec
from forge.serving.triton.client import stream
from forge.serving.triton.request import GenerateRequest, HttpTimeouts
from forge.serving.triton.stream import Finished

__all__ = ["GoldenResult", "ask_golden", "ask_golden_together", "check", "check_pace", "probe"]

_SHOWN = 60
# The machine may be busy: in blue-green the old server works too. One slow round proves nothing.
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One golden prompt, what came back, and how fast.

    Attributes:
        ttft_ms: from sending the request to the first text.
        tokens_per_s: of what came after the first token; None for an answer of one token.
    """

    prompt: str
    expect: tuple[str, ...]
    got: str
    ok: bool
    ttft_ms: float
    tokens_per_s: float | None


def ask_golden(
    url: str, model: str, golden: tuple[GoldenSection, ...], timeouts: HttpTimeouts | None = None
) -> tuple[GoldenResult, ...]:
    """Send every golden prompt to a running server. Raises StepFailedError or UsageError."""
    return tuple(_ask(url, model, item, timeouts or HttpTimeouts()) for item in golden)


def ask_golden_together(
    url: str,
    model: str,
    golden: tuple[GoldenSection, ...],
    together: int,
    timeouts: HttpTimeouts | None = None,
) -> tuple[GoldenResult, ...]:
    """Send the golden prompts so that `together` of them are always computed at once.

    Every prompt is sent, and again from the first one until the last batch is full. An answer may
    differ from the one that the prompt gets alone: sums are made in another order, and of two
    tokens that are nearly as likely the other one may come. So what is checked is whether it is
    still right. Raises StepFailedError or UsageError.
    """
    count = -(-len(golden) // together) * together
    asked = tuple(itertools.islice(itertools.cycle(golden), count))
    with ThreadPoolExecutor(together) as pool:
        return tuple(pool.map(lambda one: _ask(url, model, one, timeouts or HttpTimeouts()), asked))


def probe(url: str, spec: Spec) -> tuple[GoldenResult, ...]:
    """Send the golden prompts of a spec, one at a time and then in full batches.

    One at a time they are sent up to three times if the answers are too slow; of full batches only
    the answers count.

    Raises:
        SmokeGateError: an answer is wrong, or the best of all is slower than the spec allows.
        StepFailedError: a prompt got no answer.
    """
    results = _ask_and_check(url, spec)
    for _ in range(_ROUNDS - 1):
        if not _too_slow(results, spec.probe):
            break
        results += _ask_and_check(url, spec)
    check_pace(results, spec.probe)
    if spec.max_batch_size > 1:
        batch = spec.max_batch_size
        check(ask_golden_together(url, spec.model, spec.golden, batch), together=batch)
    return results[-len(spec.golden) :]


def _ask_and_check(url: str, spec: Spec) -> tuple[GoldenResult, ...]:
    results = ask_golden(url, spec.model, spec.golden)
    check(results)
    return results


def _ask(url: str, model: str, item: GoldenSection, timeouts: HttpTimeouts) -> GoldenResult:
    request = GenerateRequest(item.prompt, item.max_tokens)
    text: list[str] = []
    end: Finished | None = None
    sent = time.monotonic()
    first = ended = 0.0
    with contextlib.closing(stream(url, model, request, timeouts=timeouts)) as events:
        for event in events:
            ended = time.monotonic()
            first = first or ended
            if isinstance(event, Finished):
                end = event
            else:
                text.append(event.text)
    if end is None:
        raise StepFailedError("Triton's answer ended before it was complete")
    more, seconds = end.output_tokens - 1, ended - first
    got = "".join(text)
    return GoldenResult(
        prompt=item.prompt,
        expect=item.expect,
        got=got,
        ok=any(part.casefold() in got.casefold() for part in item.expect),
        ttft_ms=1000 * (first - sent),
        tokens_per_s=more / seconds if more > 0 and seconds > 0 else None,
    )


def check(results: tuple[GoldenResult, ...], together: int = 1) -> None:
    """Raise SmokeGateError with a table of the answers that are wrong, if any is.

    Args:
        results: the answers.
        together: how many were asked at once.
    """
    wrong = [result for result in results if not result.ok]
    if not wrong:
        return
    how = f" with {together} requests at once" if together > 1 else ""
    message = f"{len(wrong)} of {len(results)} golden prompts got a wrong answer{how}"
    rows = [("prompt", "expected", "got")]
    rows += [
        (_short(item.prompt), _short(" or ".join(item.expect)), _short(item.got)) for item in wrong
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    hint = "the checkpoint, its precision or its chat template is wrong"
    if together > 1:
        hint = "alone the answers are right: the engine or its runtime computes batches wrongly"
    raise SmokeGateError(message, why=f"\n{table}", hint=hint)


def check_pace(results: tuple[GoldenResult, ...], floor: ProbeSection) -> None:
    """Raise SmokeGateError with what was measured and what is allowed, if even the best is slow."""
    if slow := _too_slow(results, floor):
        raise SmokeGateError(
            "The golden prompts were answered too slowly",
            why=f"best of {len(results)}: {'; '.join(slow)}",
            hint="find what made the model slow, or change serving.probe of the profile",
        )


def _too_slow(results: tuple[GoldenResult, ...], floor: ProbeSection) -> list[str]:
    found = []
    first = min((one.ttft_ms for one in results), default=0.0)
    if floor.ttft_ms_max is not None and first > floor.ttft_ms_max:
        found.append(f"{first:.4g} ms to the first token, allowed {floor.ttft_ms_max:g} ms")
    least = floor.output_tokens_per_s_min
    rates = [one.tokens_per_s for one in results if one.tokens_per_s is not None]
    if least is not None and rates and max(rates) < least:
        found.append(f"{max(rates):.3g} tokens/s, at least {least:g} tokens/s wanted")
    return found


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}…"
