"""Golden prompts: questions whose answers are known, asked before anything is trusted."""

from __future__ import annotations

from dataclasses import dataclass

from forge.errors import SmokeGateError
from forge.profiles import Golden
from forge.serving.client import Ask, Timeouts, answer
from forge.serving.spec import Spec

__all__ = ["GoldenResult", "ask_golden", "check", "probe"]

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One golden prompt and what came back."""

    prompt: str
    expect: tuple[str, ...]
    got: str
    ok: bool


def ask_golden(
    url: str, model: str, golden: tuple[Golden, ...], timeouts: Timeouts | None = None
) -> tuple[GoldenResult, ...]:
    """Ask every golden prompt of a running server. Raises StepFailedError or UsageError."""
    results = []
    for item in golden:
        ask = Ask(url, model, item.prompt, item.max_tokens, timeouts=timeouts or Timeouts())
        got, _ = answer(ask)
        ok = any(part.casefold() in got.casefold() for part in item.expect)
        results.append(GoldenResult(item.prompt, item.expect, got, ok))
    return tuple(results)


def probe(url: str, spec: Spec) -> tuple[GoldenResult, ...]:
    """Ask the golden prompts of a spec. Raises SmokeGateError if an answer is wrong."""
    results = ask_golden(url, spec.model, spec.golden)
    check(results)
    return results


def check(results: tuple[GoldenResult, ...]) -> None:
    """Raise SmokeGateError with a table of the answers that are wrong, if any is."""
    wrong = [result for result in results if not result.ok]
    if not wrong:
        return
    message = f"{len(wrong)} of {len(results)} golden prompts got a wrong answer"
    rows = [("prompt", "expected", "got")]
    rows += [
        (_short(item.prompt), _short(" or ".join(item.expect)), _short(item.got)) for item in wrong
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    hint = "the checkpoint, its precision or its chat template is not what it should be"
    raise SmokeGateError(message, why=f"\n{table}", hint=hint)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}…"
