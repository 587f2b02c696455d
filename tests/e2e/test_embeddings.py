"""A bundle's second model under the real Triton, behind the gateway, for real clients.

Vectors are compared with those that transformers computed one text at a time in float32
(references/…embeddings.json), of which sentence-transformers 5 computes the same to 1e-6.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import pytest

from forge.device.gateway.app import create_app
from forge.device.gateway.config import GatewayConfig, QueueRules
from forge.device.gateway.triton_backend import TritonBackend
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.upstream import Upstream
from forge.errors import SmokeGateError
from forge.serving.repository.embedding_probe import EmbeddingProbe, cosine
from forge.serving.repository.spec import EmbeddingSpec
from forge.serving.triton.embedding_probe import check_embeddings
from forge.serving.triton.server import TritonServer
from tests.support import clients, embedding_model
from tests.support.gateway import Nothing, listening, serving_at
from tests.support.serving import running

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.real_triton]

NAME = embedding_model.NAME
LEAST = 0.9999


@dataclass(frozen=True)
class Device:
    url: str
    server: TritonServer
    upstream: Upstream
    client: openai.OpenAI

    @property
    def spec(self) -> EmbeddingSpec:
        assert self.server.spec.embedding
        return self.server.spec.embedding

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        found = self.client.embeddings.create(model=NAME, input=list(texts))
        assert [one.index for one in found.data] == list(range(len(texts)))
        return [one.embedding for one in found.data]

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    upstream, limit = Upstream(), ConcurrencyLimit(4, "the batch of the bundle")
    config = GatewayConfig(queue=QueueRules(per_place=16))
    app = create_app(upstream, TritonBackend(), Nothing, limit, config)
    tree = embedding_model.tree(folder / "tree")
    with running(tree, folder / "work") as server, listening(app) as url:
        upstream.set(replace(serving_at(server.url), embedding=server.spec.embedding))
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            yield Device(url, server, upstream, client)


@pytest.fixture(scope="module")
def probe() -> EmbeddingProbe:
    return EmbeddingProbe.model_validate_json(embedding_model.REFERENCE.read_bytes())


def least(found: Sequence[Sequence[float]], known: Sequence[Sequence[float]]) -> float:
    return min(cosine(*pair) for pair in zip(found, known, strict=True))


def test_vectors_of_several_scripts_are_the_checkpoints(
    device: Device, probe: EmbeddingProbe
) -> None:
    scripts = {ord(one) >> 8 for text in probe.texts for one in text}
    assert {0x04, 0x06, 0x09, 0x0E, 0x30, 0x4E} <= scripts  # Cyrillic, Arabic, Hindi, Thai, …
    assert least([device.vectors([text])[0] for text in probe.texts], probe.vectors) >= LEAST


def test_texts_of_unequal_lengths_in_one_request_have_the_vectors_that_they_have_alone(
    device: Device, probe: EmbeddingProbe
) -> None:
    order = sorted(range(len(probe.texts)), key=lambda index: probe.texts[index][::-1])
    found = device.vectors([probe.texts[index] for index in order])
    assert least(found, [probe.vectors[index] for index in order]) >= LEAST


def test_requests_that_share_batches_get_their_own_vectors(
    device: Device, probe: EmbeddingProbe
) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(device.vectors, [[one] for one in probe.texts]))
    assert least([one for (one,) in found], probe.vectors) >= LEAST


def test_floats_and_base64_are_the_same_numbers(device: Device, probe: EmbeddingProbe) -> None:
    found = {}
    for encoding in ("float", "base64"):
        body = {"model": NAME, "input": probe.texts[0], "encoding_format": encoding}
        found[encoding] = httpx.post(f"{device.url}/v1/embeddings", json=body, timeout=60).json()
    floats = found["float"]["data"][0]["embedding"]
    assert len(floats) == device.spec.dimensions
    assert device.vectors([probe.texts[0]])[0] == pytest.approx(floats, abs=1e-6)
    assert isinstance(found["base64"]["data"][0]["embedding"], str)
    assert found["float"]["usage"] == found["base64"]["usage"]


def test_tokens_of_a_text_have_the_vector_of_the_text(device: Device) -> None:
    text = "The weather is fine."
    asked = {"model": NAME, "prompt": text}
    tokens = httpx.post(f"{device.url}/tokenize", json=asked, timeout=60).json()["tokens"]
    assert (tokens[0], tokens[-1]) == (101, 102)  # [CLS] and [SEP]
    (known,) = device.vectors([text])
    for given in (tokens, [tokens, tokens]):
        found = device.client.embeddings.create(model=NAME, input=given)
        assert all(cosine(one.embedding, known) > 0.999999 for one in found.data)
        assert found.usage.prompt_tokens == len(tokens) * len(found.data)


def test_what_looks_like_a_control_token_is_text(device: Device) -> None:
    asked = {"model": NAME, "prompt": "a [SEP] b"}
    tokens = httpx.post(f"{device.url}/tokenize", json=asked, timeout=60).json()["tokens"]
    assert tokens.count(102) == 1


def test_the_longest_input_is_taken_and_one_token_more_refused(device: Device) -> None:
    most = device.spec.max_seq_len
    found = device.client.embeddings.create(model=NAME, input="word " * (most - 2))
    assert found.usage.prompt_tokens == most
    with pytest.raises(openai.BadRequestError) as refused:
        device.client.embeddings.create(model=NAME, input=["short", "word " * (most - 1)])
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "input"
    assert "input[1] resulted in 257 tokens" in str(refused.value)


@pytest.mark.parametrize("token", [30522, 10**9])
def test_token_ids_that_the_model_has_not_are_refused(device: Device, token: int) -> None:
    with pytest.raises(openai.BadRequestError, match="0 to 30521"):
        device.client.embeddings.create(model=NAME, input=[101, token, 102])


def test_a_large_request_does_not_hold_up_a_small_one(device: Device) -> None:
    sent = ["a rather long text about many things " * 20] * 80
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(device.vectors, sent)
        while not device.upstream.under_way:
            assert not large.done()
        device.vectors(["short"])
        assert not large.done()
        assert len(large.result()) == len(sent)


def test_the_place_of_a_client_that_hung_up_is_free_after_the_batch_under_way(
    device: Device,
) -> None:
    body = {"model": NAME, "input": ["a rather long text about many things " * 20] * 80}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{device.url}/v1/embeddings", json=body, timeout=1.0)
    assert device.upstream.drain(30.0) == 0  # the whole of it takes longer than the test may
    device.vectors(["the next one"])


def test_both_models_answer_and_are_listed_with_what_they_can(device: Device) -> None:
    listed = {one.id: one.model_dump() for one in device.client.models.list()}
    assert set(listed) == {"llm", NAME}
    assert listed[NAME]["endpoints"] == ["/v1/embeddings"]
    assert (listed[NAME]["dimensions"], listed[NAME]["max_model_len"]) == (384, 256)
    said = device.client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": "What is the capital of France?"}]
    )
    assert "Paris" in (said.choices[0].message.content or "")


def test_tokens_are_counted_for_the_embedding_model_and_not_as_prompts(device: Device) -> None:
    names = "forge_device_embedding_tokens_total", "forge_device_prompt_tokens_total"
    before = [device.metric(name) for name in names]
    used = device.client.embeddings.create(model=NAME, input="Count me.").usage.prompt_tokens
    assert [device.metric(name) for name in names] == [before[0] + used, before[1]]


def test_a_probe_of_another_model_is_refused(device: Device, probe: EmbeddingProbe) -> None:
    check_embeddings(device.server.url, device.spec, probe)
    first, *rest = probe.embeddings
    swapped = probe.model_copy(update={"embeddings": (*rest, first)})
    with pytest.raises(SmokeGateError, match="checkpoint computes"):
        check_embeddings(device.server.url, device.spec, swapped)


def test_langchain_gets_the_same_vectors(device: Device) -> None:
    answers = clients.run("langchain/embeddings_client.py", device.url)
    documents = answers("documents")
    assert least(documents["vectors"], device.vectors(documents["texts"])) > 0.999999
    assert cosine(answers("query"), documents["vectors"][0]) > 0.999999
    assert answers("unknown_model")["type"] == "NotFoundError"
    assert "maximum context length" in answers("too_long")["text"]


def test_a_server_whose_embedding_process_was_killed_is_not_alive(tmp_path: Path) -> None:
    with running(embedding_model.tree(tmp_path / "tree"), tmp_path / "work") as server:
        assert server.usage().processes == 3
        assert server.is_ready()
        os.kill(stub_of(server, "embedding"), signal.SIGKILL)
        until = time.monotonic() + 30
        while server.alive and time.monotonic() < until:
            time.sleep(0.1)
        assert not server.alive


def stub_of(server: TritonServer, model: str) -> int:
    """The process of one model."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            line = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
            session = (entry / "stat").read_text().rpartition(")")[2].split()[3]
            if f"/{model}/" in line and int(session) == server.pid:
                return int(entry.name)
    raise AssertionError(json.dumps(server.spec.models))
