import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from forge.errors import SmokeGateError
from forge.profiles import GoldenSection, ProbeSection
from forge.serving.triton import golden_prompts
from forge.serving.triton.golden_prompts import GoldenResult, check, check_pace
from forge.serving.triton.request import GenerateRequest
from forge.serving.triton.stream import Finished, StreamEvent, Token
from tests.support.spec import a_spec

RIGHT = GoldenResult(
    "What is the capital of France?",
    ("Paris",),
    "It is Paris.",
    ok=True,
    ttft_ms=300,
    tokens_per_s=20,
)
WRONG = GoldenResult(
    "What is two plus two?",
    ("4", "four"),
    "It is\nfive." + "x" * 80,
    ok=False,
    ttft_ms=1,
    tokens_per_s=90,
)


def test_check_passes_when_all_answers_are_right() -> None:
    check((RIGHT,))


def test_check_shows_prompt_expected_and_got_of_wrong_answers_only() -> None:
    with pytest.raises(SmokeGateError, match="1 of 2 golden prompts") as caught:
        check((RIGHT, WRONG))
    assert caught.value.exit_code == 6
    table = caught.value.why
    assert "What is two plus two?" in table
    assert "4 or four" in table
    assert "It is five." in table
    assert "France" not in table


def paced(ttft_ms: float, tokens_per_s: float | None) -> GoldenResult:
    return replace(RIGHT, ttft_ms=ttft_ms, tokens_per_s=tokens_per_s)


FLOOR = ProbeSection(ttft_ms_max=1000, output_tokens_per_s_min=5)


@pytest.mark.parametrize(
    "results",
    [
        (paced(1000, 5),),
        (paced(90_000, 20), paced(200, 0.1)),  # the machine was busy: each had one good moment
        (paced(10, None),),  # an answer of one token has no rate
    ],
)
def test_pace_is_kept_by_the_best_answer(results: tuple[GoldenResult, ...]) -> None:
    check_pace(results, FLOOR)


def test_pace_that_is_not_checked_may_be_anything() -> None:
    check_pace((paced(1e9, 1e-9),), ProbeSection(ttft_ms_max=None, output_tokens_per_s_min=None))


def test_pace_that_is_too_slow_is_named_with_what_is_allowed() -> None:
    with pytest.raises(SmokeGateError, match="too slowly") as caught:
        check_pace((paced(2500, 0.68), paced(2000, 0.5)), FLOOR)
    assert caught.value.why == (
        "best of 2: 2000 ms to the first token, allowed 1000 ms; "
        "0.68 tokens/s, at least 5 tokens/s wanted"
    )


@dataclass
class Answering:
    """A model that is right alone; with several requests at once it answers as it is told."""

    in_batch: str
    running: int = 0
    most: int = 0
    asked: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def stream(
        self, _url: str, _model: str, request: GenerateRequest, **_options: object
    ) -> Iterator[StreamEvent]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.asked.append(request.text)
        time.sleep(0.05)
        yield Token(request.text if self.running == 1 else self.in_batch)
        with self.lock:
            self.running -= 1
        yield Finished("stop", 1, 1)


def probed(monkeypatch: pytest.MonkeyPatch, model: Answering, batch: int) -> None:
    prompts = ("a", "b", "c")
    golden = tuple(GoldenSection(prompt=one, expect=(one,), max_tokens=4) for one in prompts)
    floor = ProbeSection(ttft_ms_max=None, output_tokens_per_s_min=None)
    spec = a_spec(max_batch_size=batch, golden=golden, probe=floor)
    monkeypatch.setattr(golden_prompts, "stream", model.stream)
    golden_prompts.probe("http://device", spec)


def test_answers_that_are_wrong_only_in_a_full_batch_fail_the_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(SmokeGateError, match="golden prompts got a wrong answer with 4 requests"):
        probed(monkeypatch, Answering("nonsense"), 4)


def test_other_answers_that_are_right_too_pass_and_every_batch_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Answering("It is a, b or c")
    probed(monkeypatch, model, 4)
    assert model.most == 4
    assert sorted(model.asked) == sorted("abc" + "abca")


def test_engine_for_one_sequence_is_asked_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Answering("nonsense")
    probed(monkeypatch, model, 1)
    assert (model.most, model.asked) == (1, ["a", "b", "c"])
