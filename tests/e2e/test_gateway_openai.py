"""OpenAI's client, the gateway, a real Triton and the real model with its own chat template."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import openai
import pytest
from openai import OpenAI

from forge.device.admission import Admission, QueueRules
from forge.device.answers import Triton
from forge.device.gateway import GatewayRules, create_app
from forge.device.limit import Limit
from forge.device.live import Live
from forge.errors import UsageError
from forge.serving.client import Ask, InputFormat, answer
from forge.serving.server import TritonServer
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.serving import running, tree

pytestmark = [pytest.mark.slow, pytest.mark.network]

FRANCE = "What is the capital of France?"
STORY = "Tell a very long story about a dragon."
PLACES = 4


@dataclass
class Device:
    server: TritonServer
    admission: Admission
    url: str
    client: OpenAI

    def chat(self, *turns: tuple[str, str], max_tokens: int = 32) -> tuple[str, int]:
        """The answer and how many tokens the prompt had."""
        messages = [{"role": role, "content": text} for role, text in turns]
        asked = {"model": "llm", "messages": messages, "max_tokens": max_tokens}
        made = self.client.chat.completions.create(**asked)  # type: ignore[call-overload]
        return made.choices[0].message.content, made.usage.prompt_tokens


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("openai")
    live, limit = Live(), Limit(PLACES, "the batch of the bundle")
    app = create_app(live, Triton(), Nothing, limit, GatewayRules(QueueRules(per_place=2)))
    with running(tree(folder / "tree"), folder / "work") as server, listening(app) as url:
        live.set(serving_at(server.url))
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:
            yield Device(server, app.state.admission, url, client)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def direct(device: Device, text: str, input_format: InputFormat) -> tuple[str, int]:
    ask = Ask(device.server.url, "llm", text, 32, input_format=input_format)
    said, end = answer(ask)
    return said, end.input_tokens


def test_a_chat_is_answered_and_streamed_the_same(device: Device) -> None:
    text, _ = device.chat(("user", FRANCE))
    assert "Paris" in text
    stream = device.client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": FRANCE}], max_tokens=32, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def test_one_message_is_the_same_in_either_format(device: Device) -> None:
    turns = json.dumps([{"role": "user", "content": FRANCE}])
    assert direct(device, turns, "messages") == direct(device, FRANCE, "user")


def test_raw_text_gets_no_template(device: Device) -> None:
    _, with_template = direct(device, FRANCE, "user")
    _, without = direct(device, FRANCE, "raw")
    assert without < with_template
    made = device.client.completions.create(model="llm", prompt=FRANCE, max_tokens=4)
    assert made.usage is not None
    assert made.usage.prompt_tokens == without


def test_all_turns_of_a_conversation_reach_the_model(device: Device) -> None:
    """Every turn costs its tokens, and what was said before changes the answer."""
    alone, short = device.chat(("user", "What is my name?"))
    talk = (("user", "My name is Zebedee."), ("assistant", "Hello Zebedee."))
    answered, long = device.chat(*talk, ("user", "What is my name?"))
    assert "Zebedee" in answered
    assert "Zebedee" not in alone
    assert long > short
    # The template has a system message of its own where none is sent, so two are compared.
    brief, wordy = ("system", "Be brief."), ("system", "Be brief. " * 5)
    question = ("user", "What is my name?")
    assert device.chat(wordy, *talk, question)[1] > device.chat(brief, *talk, question)[1]


@pytest.mark.parametrize(
    ("text", "input_format", "said"),
    [
        ("no list", "messages", "must be a JSON list"),
        ("[]", "messages", "must be a JSON list"),
        ('[{"role": "root", "content": "x"}]', "messages", "must be a JSON list"),
        ('[{"role": "user", "content": 7}]', "messages", "must be a JSON list"),
        ("Hi", "xml", "input_format must be one of user, messages, raw"),
    ],
)
def test_what_is_no_conversation_is_refused_and_the_model_goes_on(
    device: Device, text: str, input_format: InputFormat, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        direct(device, text, input_format)
    assert "Paris" in direct(device, FRANCE, "user")[0]


def test_a_prompt_that_is_too_long_is_a_bad_request(device: Device) -> None:
    with pytest.raises(openai.BadRequestError, match="this model takes at most 512"):
        device.chat(("user", "word " * 5000))


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_client_that_goes_away_stops_the_model(device: Device, path: str) -> None:
    asked = (
        {"messages": [{"role": "user", "content": STORY}]} if "chat" in path else {"prompt": STORY}
    )
    body = {"model": "llm", "max_tokens": 900, "stream": True, **asked}
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", f"{device.url}/v1/{path}", json=body) as response,
    ):
        assert next(response.iter_lines()).startswith("data: ")
        assert device.admission.counts.inside == 1
    wait_for(lambda: device.admission.counts.inside == 0)
    assert idle_within(device.server, 20), "the model goes on though nobody reads"


def idle_within(server: TritonServer, limit_s: float) -> bool:
    """Whether the server's CPU time stands still for a second; 900 tokens take longer."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        before = server.usage().cpu_seconds
        time.sleep(1)
        if server.usage().cpu_seconds - before < 0.2:
            return True
    return False


def test_more_sessions_than_places_are_answered_or_told_when_to_come_back(device: Device) -> None:
    seen: Counter[str] = Counter()
    lock, peaks = threading.Lock(), []

    def session(_number: int) -> None:
        for _ in range(3):
            peaks.append(device.admission.counts.inside)
            try:
                said = "Paris" if "Paris" in device.chat(("user", FRANCE))[0] else "wrong"
            except openai.RateLimitError as error:
                said = "later" if int(error.response.headers["retry-after"]) >= 1 else "when?"
                time.sleep(0.2)
            with lock:
                seen[said] += 1

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(session, range(24)))
    assert set(seen) == {"Paris", "later"}
    assert max(peaks) <= PLACES
    assert device.admission.counts.inside == device.admission.counts.waiting == 0
