# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Which token comes next: the engine's logits and the parameters of a request. Pure numpy.

The order is that of transformers: penalties, tokens that may not come, temperature, top_k, top_p,
min_p. Logarithms are of the engine's own distribution, before all of these, as in vLLM's API.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sampling import Sampling


@dataclass(frozen=True)
class Chosen:
    """One token.

    Attributes:
        token: its id.
        logprob: the natural logarithm of its probability; 0 where none was wanted.
        top: ids and logarithms of the likeliest tokens, likeliest first.
    """

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


@dataclass
class Chooser:
    """Chooses the tokens of one sequence.

    Attributes:
        sampling: the parameters of its request.
        prompt: tokens of the prompt, for the repetition penalty.
        stop: tokens that end an answer.
        random: numbers for all sequences; a request with a seed gets its own.
    """

    sampling: Sampling
    prompt: frozenset[int]
    stop: frozenset[int]
    random: np.random.Generator
    made: int = 0
    times: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take the request's own random numbers."""
        if self.sampling.seed is not None:
            self.random = np.random.default_rng(self.sampling.seed % 2**64)

    def choose(self, logits: Any, allowed: Any = None) -> Chosen:
        """Return the next token.

        Args:
            logits: of the engine, [vocabulary].
            allowed: whether each token may come, [vocabulary]; None: all may.

        Raises RuntimeError for logits that are not finite: an engine that overflowed.
        """
        values = np.asarray(logits, dtype=np.float64)
        if not np.isfinite(values.max()):
            raise RuntimeError("the engine returned logits that are not finite")
        token = self._token(self._allowed(self._penalised(values), allowed))
        self.made += 1
        self.times[token] = self.times.get(token, 0) + 1
        wanted = self.sampling.top_logprobs
        if wanted is None:
            return Chosen(token)
        logarithms = log_softmax(values)
        top = tuple((one, float(logarithms[one])) for one in likeliest(logarithms, wanted))
        return Chosen(token, float(logarithms[token]), top)

    def ends(self, token: int) -> bool:
        """Return whether a token ends the answer."""
        return token in self.stop and not self.sampling.ignore_eos

    def _penalised(self, values: Any) -> Any:
        one = self.sampling
        if one.repetition_penalty == 1 and one.presence_penalty == one.frequency_penalty == 0:
            return values
        values = values.copy()
        if one.repetition_penalty != 1:
            seen = np.array(sorted(self.prompt | set(self.times)), np.int64)
            found = values[seen]
            divided, multiplied = found / one.repetition_penalty, found * one.repetition_penalty
            values[seen] = np.where(found > 0, divided, multiplied)
        if self.times:
            tokens = np.array(list(self.times), np.int64)
            counts = np.array(list(self.times.values()), np.float64)
            values[tokens] -= one.presence_penalty + one.frequency_penalty * counts
        return values

    def _allowed(self, values: Any, allowed: Any) -> Any:
        early = self.made < self.sampling.min_tokens and bool(self.stop)
        if allowed is None and not early:
            return values
        values = values.copy()
        if allowed is not None:
            values[~allowed] = -np.inf
        if early:
            stop = np.array(sorted(self.stop), np.int64)
            kept = values[stop].copy()
            values[stop] = -np.inf
            if np.isneginf(values.max()):  # the form that is required ends here
                values[stop] = kept
        if np.isneginf(values.max()):
            raise RuntimeError("no token is allowed here")
        return values

    def _token(self, values: Any) -> int:
        if self.sampling.temperature <= 0:
            return int(values.argmax())
        chances = probabilities(values, self.sampling)
        return int(self.random.choice(len(chances), p=chances))


def probabilities(values: Any, sampling: Sampling) -> Any:
    """Return the probability of each token, [vocabulary], at a temperature above 0."""
    values = (values - values.max()) / sampling.temperature
    if 0 < sampling.top_k < len(values):
        values = np.where(values < np.partition(values, -sampling.top_k)[-sampling.top_k],
                          -np.inf, values)  # fmt: skip
    chances = np.exp(values)
    chances /= chances.sum()
    if sampling.top_p < 1:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        chances[order[before >= sampling.top_p]] = 0  # the likeliest one always stays
    if sampling.min_p > 0:
        chances[chances < sampling.min_p * chances.max()] = 0
    return chances / chances.sum()


def likeliest(values: Any, count: int) -> list[int]:
    """Return the indices of the highest values, highest first."""
    if count <= 0:
        return []
    count = min(count, len(values))
    found = np.argpartition(values, -count)[-count:]
    return [int(one) for one in found[np.argsort(-values[found], kind="stable")]]


def log_softmax(logits: Any) -> Any:
    """Return the logarithms of the probabilities; logits [..., vocabulary]."""
    values = np.asarray(logits, dtype=np.float64)
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def scores(logits: Any, following: list[int], top: int) -> list[Chosen]:
    """The logarithm of the probability of each following token, with the `top` likeliest ones.

    Args:
        logits: [tokens, vocabulary].
        following: the tokens that follow, [tokens].
        top: how many alternatives.

    Raises RuntimeError for logits that are not finite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(values).all():
        raise RuntimeError("the engine returned logits that are not finite")
    found = []
    for row, token in zip(log_softmax(values), following, strict=True):
        best = tuple((one, float(row[one])) for one in likeliest(row, top))
        found.append(Chosen(token, float(row[token]), best))
    return found
