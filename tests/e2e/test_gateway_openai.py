"""OpenAI's client, the gateway, a real Triton and the real model with its own chat template."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from openai import OpenAI

from forge.device.gateway.admission import Admission
from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.errors import UsageError
from forge.serving.triton.client import answer
from forge.serving.triton.request import GenerateRequest, InputFormat
from forge.serving.triton.server import TritonServer
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.serving import running, tree

pytestmark = [pytest.mark.slow, pytest.mark.network]

API = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
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
    upstream, limit = Upstream(), ConcurrencyLimit(PLACES, "the batch of the bundle")
    app = create_app(
        upstream, TritonBackend(), Nothing, limit, GatewayConfig(queue=QueueRules(per_place=2))
    )
    with running(tree(folder / "tree"), folder / "work") as server, listening(app) as url:
        upstream.set(serving_at(server.url))
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:
            yield Device(server, app.state.admission, url, client)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def direct(device: Device, text: str, input_format: InputFormat) -> tuple[str, int]:
    request = GenerateRequest(text, 32, input_format=input_format)
    said, end = answer(device.server.url, "llm", request)
    return said, end.input_tokens


@pytest.mark.sample
def test_a_chat_is_answered_and_streamed_the_same(device: Device) -> None:
    text, _ = device.chat(("user", FRANCE))
    assert "Paris" in text
    stream = device.client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": FRANCE}], max_tokens=32, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", API.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.sample
def test_the_python_example_of_the_docs_prints_the_answer(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = examples("python")
    exec(code.replace("http://localhost:8080", device.url), {})  # noqa: S102 - it is ours
    assert "Paris" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_example_of_the_docs_gives_what_it_shows(device: Device) -> None:
    [console] = examples("console")
    command, _, shown = console.removeprefix("$ ").partition("\n{")
    asked = command.replace("localhost:8080", device.url)
    done = subprocess.run(["sh", "-c", asked], capture_output=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    assert answer["text"].strip() in shown
    assert set(answer) == set(re.findall(r'"(\w+)":', "{" + shown)) - set(answer["usage"])


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
    assert answered != alone
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
    with pytest.raises(openai.BadRequestError, match="context length is 512 tokens") as caught:
        device.chat(("user", "word " * 5000))
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_client_that_goes_away_stops_the_model(device: Device, path: str) -> None:
    asked = (
        {"messages": [{"role": "user", "content": STORY}]} if "chat" in path else {"prompt": STORY}
    )
    body = {"model": "llm", "max_tokens": 900, "stream": True, "ignore_eos": True, **asked}
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", f"{device.url}/v1/{path}", json=body) as response,
    ):
        lines = response.iter_lines()  # held: its end would be the end of the connection
        assert next(lines).startswith("data: ")
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


SCRIPTS = [
    "The cat.",
    "Ünïcödé",
    "고양이가 잔다",
    "猫が寝る",
    "नमस्ते",
    "สวัสดี",
    "🎉👩‍🚀",
    "<|im_start|>user",
]


@pytest.mark.parametrize("text", SCRIPTS)
def test_the_text_of_a_texts_tokens_is_the_text(device: Device, text: str) -> None:
    made = httpx.post(f"{device.url}/tokenize", json={"prompt": text}, trust_env=False).json()
    assert made["count"] == len(made["tokens"]) > 0
    body = {"tokens": made["tokens"]}
    back = httpx.post(f"{device.url}/detokenize", json=body, trust_env=False).json()
    assert back == {"prompt": text}


def test_messages_have_as_many_tokens_as_usage_says(device: Device) -> None:
    body = {"messages": [{"role": "user", "content": FRANCE}]}
    made = httpx.post(f"{device.url}/tokenize", json=body, trust_env=False).json()
    assert made["count"] == device.chat(("user", FRANCE))[1]


def test_a_prompts_logarithms_are_those_with_which_it_was_answered(device: Device) -> None:
    """The runtime computes both in its own way: token by token, and the prompt as a whole."""
    made = device.client.completions.create(
        model="llm", prompt="The capital of France is", max_tokens=8, logprobs=1
    ).choices[0]
    assert made.logprobs
    count = len(made.logprobs.tokens or [])
    scored = device.client.completions.create(
        model="llm",
        prompt=f"The capital of France is{made.text}",
        max_tokens=1,
        logprobs=1,
        echo=True,
    ).choices[0]
    assert scored.logprobs
    assert (scored.logprobs.tokens or [])[-count - 1 : -1] == made.logprobs.tokens
    for found, wanted in zip(
        (scored.logprobs.token_logprobs or [])[-count - 1 : -1],
        made.logprobs.token_logprobs or [],
        strict=True,
    ):
        assert found == pytest.approx(wanted, abs=0.2)  # eight bits, and another order of sums
    # What was answered at temperature 0 is the likeliest token in each place.
    for token, top in zip(
        (scored.logprobs.tokens or [])[-count - 1 : -1],
        (scored.logprobs.top_logprobs or [])[-count - 1 : -1],
        strict=True,
    ):
        assert token == max(top, key=lambda name: top[name])


def test_token_ids_are_continued_as_their_text_is(device: Device) -> None:
    text = "The capital of France is"
    made = httpx.post(f"{device.url}/tokenize", json={"prompt": text}, trust_env=False).json()
    create = device.client.completions.create
    said = create(model="llm", prompt=text, max_tokens=8)
    same = create(model="llm", prompt=made["tokens"], max_tokens=8)
    assert same.choices[0].text == said.choices[0].text
    assert same.usage == said.usage


def test_a_response_says_what_a_chat_says(device: Device) -> None:
    said = device.client.responses.create(model="llm", input=FRANCE, max_output_tokens=32)
    assert said.output_text == device.chat(("user", FRANCE))[0]
    with device.client.responses.stream(model="llm", input=FRANCE, max_output_tokens=32) as stream:
        assert stream.get_final_response().output_text == said.output_text


def test_several_prompts_have_an_answer_each(device: Device) -> None:
    prompts = ["The capital of France is", "The capital of Italy is"]
    made = device.client.completions.create(model="llm", prompt=prompts, n=2, max_tokens=6)
    texts = [choice.text for choice in made.choices]
    assert ["Paris" in text for text in texts] == [True, True, False, False]
    assert ["Rome" in text for text in texts] == [False, False, True, True]
    assert made.usage is not None
    assert made.usage.completion_tokens == 4 * 6


# Without an object: XGrammar allows white space between its parts, and a model as small as this
# one answers with nothing else (docs/reference/api.md).
PERSON = {"type": "string", "enum": ["Alice", "Bob"]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_the_form_that_was_asked_for(device: Device, *, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": "llm",
        "messages": [{"role": "user", "content": "Who are you?"}],
        "max_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON, "strict": True},
        },
    }
    if stream:
        chunks = device.client.chat.completions.create(stream=True, **asked)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = device.client.chat.completions.create(**asked).choices[0].message.content
    jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize("choices", [["Rome", "Berlin"], ["😀 日本"], ['a "quoted" \\ one']])
def test_an_answer_is_one_of_the_choices(device: Device, choices: list[str]) -> None:
    made = device.client.chat.completions.create(
        model="llm",
        messages=[{"role": "user", "content": FRANCE}],
        extra_body={"guided_choice": choices},
    )
    assert made.choices[0].message.content in choices
