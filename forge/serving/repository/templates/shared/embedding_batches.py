# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Triton models that make embeddings: a queue, one thread, batches of texts of several requests.

`input_format` says what `text_input` is:

    embed       JSON: a list of texts, or of lists of token ids that are taken as they are
    tokenize    JSON: {"text", "add_special_tokens"}
    cancel      the request_id of another request

The answer to `embed` is one line for each input, in any order: [index, base64 of its vector's
float32, little endian]. Requests take turns: each batch has as many inputs of every request, so
that a long one delays a short one by one batch only. A request that is cancelled, or whose client
disconnected, ends after the batch under way.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from embedding_words import Words
from model_io import MAX_WAITING, Limits, fail, finish, scalar, send_text
from turns import RequestError

MAX_TEXT_BYTES = 8 * 1024 * 1024  # of all inputs: what the gateway takes on this path
MAX_FAILURES = 3  # batches in a row
FORMATS = ("embed", "tokenize", "cancel")


class Encoder(Protocol):
    """The engine."""

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Return one row for each list of tokens."""


@dataclass(eq=False)
class Job:
    """One request.

    Attributes:
        sender: of its answer.
        request_id: with which it can be cancelled.
        inputs: tokens.
        left: indexes of inputs that are not in a batch yet, longest first: little is padded.
        missing: number of vectors that were not sent.
        cancelled: whether it was cancelled.
        ended: whether its last response was sent.
    """

    sender: Any
    request_id: str
    inputs: list[list[int]]
    left: deque[int] = field(default_factory=deque)
    missing: int = 0
    cancelled: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        order = sorted(range(len(self.inputs)), key=lambda index: -len(self.inputs[index]))
        self.left.extend(order)
        self.missing = len(self.inputs)

    @property
    def stopped(self) -> bool:
        """Whether its client cancelled it or disconnected."""
        return self.cancelled or self.sender.is_cancelled()

    @property
    def tokens(self) -> int:
        """Number of tokens of all inputs."""
        return sum(map(len, self.inputs))


Batch = list[tuple[Job, int]]


class Model:
    """What Triton's Python backend calls; a subclass says how its engine is loaded."""

    def load(self, engine: Path) -> Encoder:
        """Load the engine in a folder. Raises what Triton shall log."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine in the folder of this file and start the thread that runs it."""
        self.limits = Limits.read(args)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        self.words, self.encoder = Words(engine), self.load(engine)
        self.jobs: deque[Job] = deque()
        self.changed = threading.Condition()
        self.stopping = False
        self.thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self.thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Queue each request; its answer goes through its response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._begin(request, sender)
            except RequestError as error:
                fail(sender, str(error))
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sender, f"The request could not be read: {error}")

    def finalize(self) -> None:
        """Stop the thread; what waits gets an error."""
        with self.changed:
            self.stopping = True
            self.changed.notify()
        self.thread.join()

    def _begin(self, request: Any, sender: Any) -> None:
        text, kind = _texts(request, "text_input"), _texts(request, "input_format")
        if kind == "cancel":
            self._cancel(text)
            finish(sender, "", 0, 0, "cancelled")
        elif kind == "tokenize":
            tokens = self._tokenize(text)
            finish(sender, json.dumps(tokens), 0, len(tokens), "tokenized")
        elif kind == "embed":
            self._put(Job(sender, _texts(request, "request_id"), self._inputs(text)))
        else:
            raise RequestError(f"input_format of an embedding model is one of {', '.join(FORMATS)}")

    def _tokenize(self, text: str) -> list[int]:
        value = _json(text)
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise RequestError('tokenize takes JSON with "text"')
        special = bool(value.get("add_special_tokens", True))
        return self.words.encode([value["text"]], add_special_tokens=special)[0]

    def _inputs(self, text: str) -> list[list[int]]:
        """Return the tokens of every input. Raises RequestError."""
        value = _json(text)
        if not isinstance(value, list) or not 1 <= len(value) <= self.limits.max_inputs:
            raise RequestError(f"input must be a list of 1 to {self.limits.max_inputs}")
        if all(isinstance(one, str) and one for one in value):
            found = self.words.encode(value)
        elif all(isinstance(one, list) and one for one in value):
            found = [self._checked(index, one) for index, one in enumerate(value)]
        else:
            raise RequestError("input must be texts, or lists of token ids, none of them empty")
        for index, tokens in enumerate(found):
            if len(tokens) > self.limits.max_seq_len:
                raise RequestError(
                    f"The prompt has {len(tokens)} tokens in input[{index}]; this model takes at"
                    f" most {self.limits.max_seq_len}"
                )
        return found

    def _checked(self, index: int, tokens: list[Any]) -> list[int]:
        wrong = [one for one in tokens if type(one) is not int or not 0 <= one < self.words.size]
        if wrong:
            message = f"input[{index}] has {wrong[0]!r}; token ids of this model are 0 to"
            raise RequestError(f"{message} {self.words.size - 1}")
        return tokens

    def _put(self, job: Job) -> None:
        with self.changed:
            if len(self.jobs) >= MAX_WAITING:
                raise RequestError(f"{MAX_WAITING} requests wait already; try again later")
            self.jobs.append(job)
            self.changed.notify()

    def _cancel(self, request_id: str) -> None:
        with self.changed:
            for job in self.jobs:
                if job.request_id == request_id:
                    job.cancelled = True

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            if not self.stopping:
                traceback.print_exc()
                os._exit(1)

    def _serve(self) -> None:
        failures = 0
        while (batch := self._next()) is not None:
            try:
                self._embed(batch)
                failures = 0
            except Exception as error:
                for job in {id(job): job for job, _ in batch}.values():
                    self._end(job, error=f"The engine failed: {error}")
                failures += 1
                if failures == MAX_FAILURES:
                    raise

    def _next(self) -> Batch | None:
        """Return the next batch, maybe without inputs; None when the model stops."""
        with self.changed:
            while not self.jobs and not self.stopping:
                self.changed.wait()
            jobs = list(self.jobs)
        if self.stopping:
            for job in jobs:
                self._end(job, error="The server is stopping")
            return None
        for job in jobs:
            if job.stopped:
                self._end(job, reason="cancelled")
        return self._turns(deque(job for job in jobs if not job.ended))

    def _turns(self, jobs: deque[Job]) -> Batch:
        """Take one input of each request in turn until the batch is full."""
        batch: Batch = []
        while jobs and len(batch) < self.limits.max_batch_size:
            job = jobs.popleft()
            if job.left:
                batch.append((job, job.left.popleft()))
                jobs.append(job)
        with self.changed:  # whose turn was first is last in the next batch
            if len(self.jobs) > 1:
                self.jobs.rotate(-1)
        return batch

    def _embed(self, batch: Batch) -> None:
        if not batch:
            return
        vectors = self.encoder.embed([job.inputs[index] for job, index in batch])
        if not np.isfinite(vectors).all():
            raise ValueError("it computed values that are not finite")
        lines: dict[int, list[str]] = {}
        for (job, index), vector in zip(batch, vectors, strict=True):
            encoded = base64.b64encode(vector.astype("<f4").tobytes()).decode()
            lines.setdefault(id(job), []).append(json.dumps([index, encoded]) + "\n")
        for job in {id(job): job for job, _ in batch}.values():
            try:
                self._send(job, lines[id(job)])
            except Exception:  # noqa: BLE001 - its client has disconnected
                traceback.print_exc()
                self._forget(job)

    def _send(self, job: Job, lines: list[str]) -> None:
        job.missing -= len(lines)
        if job.missing:
            send_text(job.sender, "".join(lines))
        else:
            self._end(job, "".join(lines), "embedded")

    def _end(self, job: Job, text: str = "", reason: str = "", error: str = "") -> None:
        """Send the last response of a request."""
        self._forget(job)
        try:
            if error:
                fail(job.sender, error)
            else:
                finish(job.sender, text, 0, job.tokens, reason)
        except Exception:  # noqa: BLE001 - its client has disconnected
            traceback.print_exc()

    def _forget(self, job: Job) -> None:
        job.ended = True
        with self.changed:
            if job in self.jobs:
                self.jobs.remove(job)


def _texts(request: Any, name: str) -> str:
    value = scalar(request, name, b"")
    text = value if isinstance(value, bytes) else str(value).encode()
    if len(text) > MAX_TEXT_BYTES:
        raise RequestError(f"The input is longer than {MAX_TEXT_BYTES} bytes")
    return text.decode(errors="replace")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
