"""What every Triton model does around its generator: order, limits, pieces of text, the end."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.templates import Request, load

batching = load("shared", "batching")
LIMITS = {"max_batch_size": 2, "max_input_len": 8, "max_seq_len": 12, "default_max_tokens": 4,
          "kv_cache_mib": 0, "kv_cache_percent": 0}  # fmt: skip


@dataclass(eq=False)
class Sequence:
    prompt: str
    left: list[int]
    fresh: list[int] = field(default_factory=list)
    finished: bool = False
    finish_reason: str = "stop"

    def new_tokens(self) -> list[int]:
        fresh, self.fresh = self.fresh, []
        return fresh

    def cancel(self) -> None:
        self.finished = True


@dataclass
class Echo:
    """Answers with the prompt's own bytes, one a step; tokens are bytes, so characters are cut."""

    begun: list[Sequence] = field(default_factory=list)
    most: int = 0
    broken: bool = False
    slow_s: float = 0.0

    def encode(self, said: list[dict[str, str]] | str) -> tuple[str, int]:
        text = said if isinstance(said, str) else "".join(turn["content"] for turn in said)
        return text, len(text)

    def decode(self, tokens: list[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def add(self, prompt: str, max_tokens: int, _temperature: float) -> Sequence:
        sequence = Sequence(prompt, list(prompt.encode())[:max_tokens])
        if len(prompt.encode()) > max_tokens:
            sequence.finish_reason = "length"
        self.begun.append(sequence)
        return sequence

    def running(self) -> list[Sequence]:
        return [one for one in self.begun if not one.finished]

    def busy(self) -> bool:
        return bool(self.running())

    def step(self) -> None:
        time.sleep(self.slow_s)
        if self.broken:
            raise RuntimeError("CUDA: out of memory")
        self.most = max(self.most, len(self.running()))
        for one in self.running():
            one.fresh.append(one.left.pop(0))
            one.finished = not one.left


class Model(batching.Model):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        self.echo = Echo()

    def load(self, _engine: Path, _limits: Any) -> Echo:
        return self.echo


@pytest.fixture
def model() -> Iterator[Any]:
    made = Model()
    parameters = {name: {"string_value": str(value)} for name, value in LIMITS.items()}
    made.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": "/nowhere",
            "model_version": "1",
        }
    )
    yield made
    made.finalize()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(model: Any, text: str, **inputs: Any) -> Request:
    request = Request.of(text, **inputs)
    model.execute([request])
    return request


def answer(model: Any, text: str, **inputs: Any) -> Any:
    sender = ask(model, text, **inputs).sender
    until(lambda: sender.done)
    return sender


def tokens(count: int) -> dict[str, Any]:
    return {"max_tokens": np.array([count], np.int32)}


def test_answer_comes_in_pieces_and_ends_with_counts_and_reason(model: Any) -> None:
    sender = answer(model, "abc")
    assert sender.values("text_output") == ["a", "b", "c"]
    assert (sender.values("input_tokens"), sender.values("output_tokens")) == ([3], [3])
    assert sender.values("finish_reason") == ["stop"]


def test_half_a_character_is_held_back_until_it_is_whole(model: Any) -> None:
    assert answer(model, "é!", **tokens(9)).values("text_output") == ["é", "!"]


def test_answer_that_ends_in_half_a_character_sends_what_there_is(model: Any) -> None:
    assert answer(model, "aé", **tokens(2)).values("text_output") == ["a", "\ufffd"]


def test_answer_ends_where_the_longest_sequence_does(model: Any) -> None:
    sender = answer(model, "abcdefgh", **tokens(99))
    assert "".join(sender.values("text_output")) == "abcd"
    assert sender.values("finish_reason") == ["length"]


REFUSED = {
    "empty": ("  ", {}, "text_input is empty"),
    "too long": ("abcdefghi", {}, "has 9 tokens; this model takes at most 8"),
    "no tokens wanted": ("a", tokens(0), "max_tokens must be 1 or more"),
    "unknown format": ("a", {"input_format": np.array([b"xml"], np.object_)}, "must be one of"),
    "too hot": ("a", {"temperature": np.array([9.0], np.float32)}, "temperature between 0 and"),
}


@pytest.mark.parametrize(("text", "inputs", "reason"), REFUSED.values(), ids=REFUSED)
def test_bad_request_is_refused_and_the_next_is_answered(
    model: Any, text: str, inputs: dict[str, Any], reason: str
) -> None:
    assert reason in answer(model, text, **inputs).error
    assert answer(model, "ok").values("text_output") == ["o", "k"]


def test_no_more_sequences_are_begun_than_the_engine_takes(model: Any) -> None:
    requests = [ask(model, text) for text in ("abcd", "efgh", "ijkl", "mnop")]
    until(lambda: all(request.sender.done for request in requests))
    assert ["".join(r.sender.values("text_output")) for r in requests] == [
        "abcd",
        "efgh",
        "ijkl",
        "mnop",
    ]
    assert model.echo.most <= LIMITS["max_batch_size"]


def test_client_that_is_gone_stops_its_own_sequence_only(model: Any) -> None:
    model.echo.slow_s = 0.05
    gone, stays = ask(model, "abcd"), ask(model, "efgh")
    until(lambda: len(gone.sender.sent) > 0)
    gone.sender.cancelled = True
    until(lambda: gone.sender.done and stays.sender.done)
    assert gone.sender.values("finish_reason") == ["cancelled"]
    assert "".join(stays.sender.values("text_output")) == "efgh"


def test_engine_that_fails_tells_every_client_and_the_model_goes_on(model: Any) -> None:
    model.echo.broken = True
    assert "The engine failed: CUDA: out of memory" in answer(model, "abc").error
    model.echo.broken = False
    assert answer(model, "ok").values("text_output") == ["o", "k"]


def test_stopping_ends_what_waits_and_what_runs(model: Any) -> None:
    model.echo.slow_s = 0.05
    requests = [ask(model, "abcd") for _ in range(5)]
    model.finalize()
    assert all(request.sender.done for request in requests)
    assert requests[-1].sender.error == "The server is stopping"
