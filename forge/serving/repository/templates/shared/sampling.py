# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""How the next token is chosen; forge/serving/sampling.py declares the same for the API. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turns import RequestError

# Inclusive, as the API declares them; where a lowest value is itself not allowed, see below.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_k": (0, 100_000),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, 10),
    "min_tokens": (0, 32_768),
    "top_logprobs": (0, 20),
}
ABOVE = ("top_p", "repetition_penalty")
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
FORMS = ("json", "json_object", "regex", "choice", "grammar")


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters; a request that gives none gets the defaults.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: draw from the likeliest tokens whose probabilities add up to it.
        top_k: draw from so many of the likeliest tokens; 0: from all.
        min_p: draw from tokens with at least this part of the likeliest one's probability.
        seed: of the draws; None for another one each time.
        presence_penalty: subtracted from the logits of tokens that were answered.
        frequency_penalty: the same, for each time that they were.
        repetition_penalty: divides positive logits of tokens of prompt and answer.
        min_tokens: of the answer, before a token may end it.
        ignore_eos: whether the end-of-text token ends nothing.
        stop: texts that end the answer and are not part of it.
        top_logprobs: alternatives of each token; None if no logarithms are wanted.
        structured_outputs: the form of the answer, one of FORMS with its value; or None.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    structured_outputs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Raise RequestError for a value that is out of range."""
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if name in ABOVE and value <= lowest:
                raise RequestError(f"{name} must be above {lowest:g} and at most {highest:g}")
            if not lowest <= value <= highest:
                raise RequestError(f"{name} must be between {lowest:g} and {highest:g}")
        texts = all(
            isinstance(one, str) and 0 < len(one) <= MAX_STOP_CHARACTERS for one in self.stop
        )
        if not texts or len(self.stop) > MAX_STOPS:
            raise RequestError(
                f"stop must be at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARACTERS} characters"
            )
        form = self.structured_outputs
        if form is not None and (len(form) != 1 or next(iter(form)) not in FORMS):
            raise RequestError(f"structured_outputs must be one of {', '.join(FORMS)}")
