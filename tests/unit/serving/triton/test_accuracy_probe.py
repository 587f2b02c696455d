"""The served model must agree with the receipt of its engine."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, SmokeGateError, StepFailedError
from forge.serving.repository.accuracy_probe import AccuracyProbe
from forge.serving.triton.accuracy_probe import check_accuracy, compare, read_probe

PROBE = AccuracyProbe(tokens=(5, 6, 7, 8), logprobs=(-1.0, -2.0, -3.0))


def test_difference_and_perplexity_are_of_the_scored_tokens() -> None:
    found = compare(PROBE, [-1.1, -2.3, -2.9])
    assert found.positions == 3
    assert found.mean == pytest.approx(0.5 / 3)
    assert found.perplexity_ratio == pytest.approx(math.exp((6.3 - 6.0) / 3))


def test_another_number_of_scores_is_an_error() -> None:
    with pytest.raises(StepFailedError, match="scored 2 tokens instead of 3"):
        compare(PROBE, [-1.0, -2.0])


def test_a_tree_without_a_probe_has_none(tmp_path: Path) -> None:
    assert read_probe(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"tokens": [1, 2], "logprobs": [-1, -2]}',
        '{"tokens": [1], "logprobs": []}',
        '{"tokens": [1, -2], "logprobs": [-1]}',
        '{"tokens": [1, 2], "logprobs": [NaN]}',
        '{"tokens": [1, 2], "logprobs": [null]}',
    ],
)
def test_a_probe_that_is_not_valid_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "accuracy.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"accuracy\.json is not valid"):
        read_probe(tmp_path)


@contextmanager
def model(text: Callable[[], str]) -> Iterator[tuple[str, list[bytes]]]:
    """A model that answers with a text; gives its URL and what it was asked."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            counts = {"finish_reason": "scored", "input_tokens": 4, "output_tokens": 0}
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            event = json.dumps({"text_output": text(), **counts})
            self.wfile.write(f"data: {event}\n\n".encode())

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_model_is_asked_for_the_tokens_as_often_as_the_batch_holds() -> None:
    with model(lambda: "[-1.1, -2.1, -2.9]") as (url, asked):
        found = check_accuracy(url, "llm", PROBE, together=3)
    assert [one.mean for one in found] == pytest.approx([0.1] * 3)
    assert [json.loads(one) for one in asked] == [
        {"text_input": "[5, 6, 7, 8]", "input_format": "tokens"}
    ] * 3


@pytest.mark.parametrize(
    "text",
    [
        "[-1.9, -2.0, -3.0]",  # one token far away
        "[-1.3, -2.3, -3.3]",  # all a little less likely
        "[-0.7, -1.7, -2.7]",  # all a little more likely: another model, too
        "[-0.0, -0.0, -0.0]",
        "[NaN, -2.0, -3.0]",
        "[-Infinity, -2.0, -3.0]",
    ],
)
def test_a_model_that_computes_something_else_is_refused(text: str) -> None:
    with (
        model(lambda: text) as (url, _),
        pytest.raises(SmokeGateError, match="does not compute what its engine computed"),
    ):
        check_accuracy(url, "llm", PROBE)


@pytest.mark.parametrize("text", ["Paris", "{}", "[[1], [2], [3]]", ""])
def test_an_answer_that_is_no_list_of_numbers_is_an_error(text: str) -> None:
    with model(lambda: text) as (url, _), pytest.raises(StepFailedError):
        check_accuracy(url, "llm", PROBE)


def test_one_wrong_answer_of_a_full_batch_is_enough() -> None:
    texts = iter(["[-1, -2, -3]", "[-1, -2, -3]", "[-4, -2, -3]", "[-1, -2, -3]"])
    with model(lambda: next(texts)) as (url, _), pytest.raises(SmokeGateError, match="4 requests"):
        check_accuracy(url, "llm", PROBE, together=4)
