"""What every Triton model does around its generator: order, limits, pieces of text, the end."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.templates import Request, load

batching = load("shared", "batching")
choice, turns = sys.modules["choice"], batching.turns
LIMITS = {"max_batch_size": 2, "max_input_len": 8, "max_seq_len": 12, "default_max_tokens": 4,
          "kv_cache_mib": None, "kv_cache_fraction": 0.3}  # fmt: skip


@dataclass(eq=False)
class Sequence:
    prompt: list[int]
    left: list[int]
    fresh: list[Any] = field(default_factory=list)
    finished: bool = False
    finish_reason: str = "stop"
    scored: list[Any] = field(default_factory=list)

    def new_tokens(self) -> list[Any]:
        fresh, self.fresh = self.fresh, []
        return fresh

    def cancel(self) -> None:
        self.finished = True


@dataclass(frozen=True)
class Spelling:
    text: str
    raw: bytes


class Words:
    """Tokens are bytes, so characters are cut."""

    tool_calls = "hermes"
    special: frozenset[int] = frozenset()
    single_bytes: frozenset[int] = frozenset()

    def encode(self, said: Any) -> list[int]:
        if isinstance(said, turns.Ids):
            return list(said.tokens)
        text = said if isinstance(said, str) else "".join(one["content"] for one in said.messages)
        return list(text.encode())

    def tokenize(self, said: Any) -> list[int]:
        if isinstance(said.said, str):
            return [0] * said.add_special_tokens + list(said.said.encode())
        return self.encode(said.said)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:  # noqa: ARG002
        return bytes(tokens).decode(errors="replace")

    def spell(self, token: int) -> Spelling:
        return Spelling(self.decode([token]), bytes([token]))


@dataclass
class Echo:
    """Answers with the prompt's own bytes, one a step."""

    words: Words = field(default_factory=Words)
    begun: list[Sequence] = field(default_factory=list)
    most: int = 0
    broken: bool = False
    slow_s: float = 0.0

    def check(self, sampling: Any) -> None:
        if sampling.min_p:
            raise turns.RequestError("min_p is not for echoes")

    def add(self, prompt: list[int], max_tokens: int, _sampling: Any) -> Sequence:
        sequence = Sequence(prompt, prompt[:max_tokens])
        if len(prompt) > max_tokens:
            sequence.finish_reason = "length"
        self.begun.append(sequence)
        return sequence

    def add_scored(self, tokens: list[int], *, top: bool) -> Sequence:
        sequence = Sequence(tokens, tokens[1:])
        best = ((7, -0.5),) * top
        sequence.scored = [choice.Chosen(one, -float(one), best) for one in tokens[1:]]
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
            token = one.left.pop(0)
            one.fresh.append(choice.Chosen(token, -0.25, ((token, -0.25), (33, -2.0))))
            one.finished = not one.left


class Model(batching.Model):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        self.echo = Echo()

    def load(self, _engine: Path, _limits: Any) -> Echo:
        return self.echo


@pytest.fixture
def model() -> Iterator[Any]:
    made = Model()
    parameters = {name: {"string_value": json.dumps(value)} for name, value in LIMITS.items()}
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


def given(**inputs: str) -> dict[str, Any]:
    return {name: np.array([value.encode()], np.object_) for name, value in inputs.items()}


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
    "empty": ("  ", {}, "The prompt is empty"),
    "too long": ("abcdefghi", {}, "has 9 tokens; this model takes at most 8"),
    "no tokens wanted": ("a", tokens(0), "max_tokens must be 1 or more"),
    "unknown format": ("a", {"input_format": np.array([b"xml"], np.object_)}, "must be one of"),
    "too hot": (
        "a",
        {"temperature": np.array([9.0], np.float32)},
        "temperature must be between",
    ),
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


def test_answer_ends_in_front_of_a_stop_text_that_comes_in_pieces(model: Any) -> None:
    sender = answer(model, "a--cde", **tokens(8), **given(stop='["--c", "zz"]'))
    assert "".join(sender.values("text_output")) == "a"
    assert sender.values("finish_reason") == ["stop"]
    assert sender.values("output_tokens") == [4]  # those that were computed
    until(lambda: not model.echo.busy())


def test_stop_text_counts_from_the_least_number_of_tokens_on(model: Any) -> None:
    sender = answer(
        model, "abab", **tokens(4), **given(stop='["b"]'), min_tokens=np.array([3], np.int32)
    )
    assert "".join(sender.values("text_output")) == "aba"
    assert sender.values("output_tokens") == [4]


def test_text_that_only_begins_like_a_stop_text_is_sent_in_the_end(model: Any) -> None:
    sender = answer(model, "ab--", **given(stop='["--c"]'))
    assert sender.values("text_output") == ["a", "b", "--"]


def test_logarithms_are_those_of_every_token_also_where_no_text_comes(model: Any) -> None:
    wanted = {"top_logprobs": np.array([2], np.int32)}
    sender = answer(model, "é", **wanted)
    entries = [one for text in sender.values("logprobs") for one in json.loads(text)]
    assert [one["bytes"] for one in entries] == [[0xC3], [0xA9]]
    assert entries[0]["logprob"] == -0.25
    assert [one["token"] for one in entries[0]["top"]] == ["\ufffd", "!"]
    assert "".join(sender.values("text_output")) == "é"
    assert answer(model, "é").values("logprobs") == []


def test_tokens_are_scored_with_and_without_the_likeliest_ones(model: Any) -> None:
    ids = json.dumps([1, 2, 3])
    sender = answer(model, ids, **given(input_format="tokens"))
    assert json.loads(sender.values("text_output")[0]) == [-2.0, -3.0]
    assert (sender.values("input_tokens"), sender.values("output_tokens")) == ([3], [0])
    sender = answer(model, ids, **given(input_format="score"))
    [two, _] = json.loads(sender.values("text_output")[0])
    assert (two["bytes"], two["logprob"], two["top"][0]["bytes"]) == ([2], -2.0, [7])
    assert sender.values("finish_reason") == ["scored"]


def test_token_ids_are_continued_as_they_are(model: Any) -> None:
    sender = answer(model, json.dumps(list(b"abc")), **given(input_format="ids"))
    assert "".join(sender.values("text_output")) == "abc"


@pytest.mark.parametrize(
    ("input_format", "value", "answered", "reason"),
    [
        ("tokenize", {"text": "ab"}, [0, 97, 98], "tokenized"),
        ("tokenize", {"text": "ab", "add_special_tokens": False}, [97, 98], "tokenized"),
        ("tokenize", {"messages": [{"role": "user", "content": "a"}]}, [97], "tokenized"),
        ("detokenize", [97, 98], "ab", "detokenized"),
        ("describe", {}, {"tool_calls": "hermes"}, "described"),
    ],
)
def test_tokens_and_text_are_converted_without_the_engine(
    model: Any, input_format: str, value: object, answered: object, reason: str
) -> None:
    sender = answer(model, json.dumps(value), **given(input_format=input_format))
    [text] = sender.values("text_output")
    assert (text if isinstance(answered, str) else json.loads(text)) == answered
    assert sender.values("finish_reason") == [reason]
    assert model.echo.begun == []


def test_what_the_engine_cannot_obey_is_refused_before_it_waits(model: Any) -> None:
    sender = answer(model, "a", min_p=np.array([0.5], np.float32))
    assert sender.error == "Refused: min_p is not for echoes"


def cancel(model: Any, request_id: str) -> None:
    sender = answer(model, request_id, **given(input_format="cancel"))
    assert sender.values("finish_reason") == ["cancelled"]


def test_cancelled_request_ends_and_the_others_go_on(model: Any) -> None:
    model.echo.slow_s = 0.05
    gone = ask(model, "abcd", **given(request_id="one"))
    stays = ask(model, "efgh", **given(request_id="two"))
    until(lambda: len(gone.sender.sent) > 0)
    cancel(model, "one")
    until(lambda: gone.sender.done and stays.sender.done)
    assert gone.sender.values("finish_reason") == ["cancelled"]
    assert len(gone.sender.values("text_output")) < 5
    assert "".join(stays.sender.values("text_output")) == "efgh"


def test_request_that_waits_is_cancelled_at_once_and_never_computed(model: Any) -> None:
    model.echo.slow_s = 0.2
    runs = [ask(model, "abcd") for _ in range(2)]
    until(lambda: len(model.echo.begun) == 2)
    waits = ask(model, "wait", **given(request_id="three"))
    cancel(model, "three")
    assert waits.sender.values("finish_reason") == ["cancelled"]
    assert not runs[0].sender.done
    until(lambda: all(one.sender.done for one in runs))
    assert answer(model, "ok").values("finish_reason") == ["stop"]
    assert len(model.echo.begun) == 3


def test_cancelling_what_is_unknown_or_ended_is_answered(model: Any) -> None:
    cancel(model, "nobody")
    answer(model, "a", **given(request_id="one"))
    cancel(model, "one")
    assert answer(model, "b", **given(request_id="one")).values("text_output") == ["b"]
