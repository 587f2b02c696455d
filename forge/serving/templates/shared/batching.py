# ruff: noqa: INP001 - Triton loads this file by its path
"""What every Triton model of Forge does, whatever runs the engine: requests in, text out, in order.

Requests wait in a queue; one thread owns the generator, hands it what waits, makes one step for all
sequences, and sends each its new text. A client that is gone stops its own sequence only, and so
does a sequence that cannot be decoded or sent. An engine that fails again and again, or a thread
that ends, ends the process: Triton would go on to call the model ready. This file is copied beside
the model.py that says how its engine is loaded.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as triton
import turns
from turns import RequestError

MAX_WAITING = 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_TEMPERATURE = 2.0
IDLE_S = 0.5
MAX_FAILURES = 3  # steps of the engine in a row
REPLACEMENT = "\ufffd"  # what half of a UTF-8 character decodes to


@dataclass
class Limits:
    """What the engine was compiled and rendered for."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    default_max_tokens: int
    kv_cache_mib: int
    kv_cache_percent: int


class Handle(Protocol):
    """One sequence inside a generator."""

    finished: bool
    finish_reason: str  # "stop" or "length", once it is finished

    def new_tokens(self) -> list[int]:
        """Tokens since the last call, the end-of-text token too."""

    def cancel(self) -> None:
        """Stop it and free what it holds; nothing happens if it is finished."""


class Generator(Protocol):
    """An engine with a KV cache that decodes several sequences."""

    def encode(self, said: turns.Turns | str) -> tuple[Any, int]:
        """A prompt as `add` takes it, and its tokens; turns get the chat template, text does not.

        Raises RequestError where the template refuses the turns or there is none for them.
        """

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens, special ones left out."""

    def add(self, prompt: Any, max_tokens: int, temperature: float) -> Handle:
        """Begin a sequence; at most `max_batch_size` are begun and not finished."""

    def busy(self) -> bool:
        """Whether `step` has anything to do."""

    def step(self) -> None:
        """Go on with every sequence."""


@dataclass(eq=False)
class Sequence:
    """One request on its way."""

    sender: Any
    prompt: Any
    input_tokens: int  # chat template included
    max_tokens: int
    temperature: float
    handle: Handle | None = None
    tokens: list[int] = field(default_factory=list)
    shown: int = 0  # tokens whose text was sent
    context: int = 0  # where decoding starts, so that spaces come out right


class Model:
    """What Triton's Python backend calls; a subclass says how its engine is loaded."""

    def load(self, engine: Path, limits: Limits) -> Generator:
        """The engine in a folder. Raises what Triton is to show as the reason."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file and start the thread that runs it."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: int(value["string_value"]) for name, value in parameters.items()}
        self.limits = Limits(**values)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        self.generator = self.load(engine, self.limits)
        self.waiting: queue.Queue[Sequence] = queue.Queue(MAX_WAITING)
        self.active: list[Sequence] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self.thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Queue each request; the answers go through its response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self.waiting.put_nowait(self._sequence(request, sender))
            except queue.Full:
                fail(sender, f"{MAX_WAITING} requests wait already; try again later")
            except RequestError as error:
                fail(sender, str(error))
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sender, f"The request could not be read: {error}")

    def finalize(self) -> None:
        """Stop the thread; what still runs is cancelled."""
        self.stopping.set()
        self.thread.join()

    def _sequence(self, request: Any, sender: Any) -> Sequence:
        text = scalar(request, "text_input")
        if not isinstance(text, bytes) or not text.strip():
            raise RequestError("text_input is empty")
        if len(text) > MAX_TEXT_BYTES:
            raise RequestError(f"text_input is longer than {MAX_TEXT_BYTES} bytes")
        said = turns.read(text.decode(errors="replace"), input_format(request))
        prompt, length = self.generator.encode(said)
        if length > self.limits.max_input_len:
            raise RequestError(
                f"The prompt has {length} tokens; this model takes at most"
                f" {self.limits.max_input_len}"
            )
        wanted = scalar(request, "max_tokens", self.limits.default_max_tokens)
        temperature = scalar(request, "temperature", 0.0)
        if wanted < 1 or not 0 <= temperature <= MAX_TEMPERATURE:
            raise RequestError(
                f"max_tokens must be 1 or more, temperature between 0 and {MAX_TEMPERATURE}"
            )
        max_tokens = min(int(wanted), self.limits.max_seq_len - length)
        return Sequence(sender, prompt, length, max_tokens, float(temperature))

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            if not self.stopping.is_set():
                traceback.print_exc()
                os._exit(1)

    def _serve(self) -> None:
        failures = 0
        while not self.stopping.is_set():
            try:
                self._admit()
                self._each(self._drop_if_cancelled)
                # Also after the last one is cancelled: a step may free what it held.
                if self.generator.busy():
                    self.generator.step()
                    failures = 0
                    self._each(self._send_new_text)
            except Exception as error:
                self._fail_all(f"The engine failed: {error}")
                failures += 1
                if failures == MAX_FAILURES:
                    raise
        self._fail_all("The server is stopping")

    def _admit(self) -> None:
        """Hand waiting requests to the generator; with nothing to do, wait for one."""
        wait = not self.active
        while len(self.active) < self.limits.max_batch_size:
            try:
                sequence = self.waiting.get(timeout=IDLE_S) if wait else self.waiting.get_nowait()
            except queue.Empty:
                return
            wait = False
            try:
                sequence.handle = self.generator.add(
                    sequence.prompt, sequence.max_tokens, sequence.temperature
                )
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sequence.sender, f"The engine refused the request: {error}")
                continue
            self.active.append(sequence)

    def _each(self, work: Callable[[Sequence], None]) -> None:
        for sequence in list(self.active):
            try:
                work(sequence)
            except Exception as error:  # noqa: BLE001 - one sequence must not end the others
                self._fail_one(sequence, f"This answer failed: {error}")

    def _drop_if_cancelled(self, sequence: Sequence) -> None:
        if sequence.sender.is_cancelled():
            sequence.handle.cancel()
            self._finish(sequence, "", "cancelled")

    def _send_new_text(self, sequence: Sequence) -> None:
        finished = sequence.handle.finished  # before the tokens, or the last ones are lost
        sequence.tokens.extend(sequence.handle.new_tokens())
        text = self._new_text(sequence, last=finished)
        if finished:
            self._finish(sequence, text, sequence.handle.finish_reason)
        elif text:
            sequence.sender.send(triton.InferenceResponse([strings("text_output", text)]))

    def _new_text(self, sequence: Sequence, *, last: bool) -> str:
        """Text of the tokens since the last call; half a character is held back."""
        if sequence.shown == len(sequence.tokens):
            return ""
        before = self.generator.decode(sequence.tokens[sequence.context : sequence.shown])
        after = self.generator.decode(sequence.tokens[sequence.context :])
        if after.endswith(REPLACEMENT) and not last:
            return ""
        sequence.context, sequence.shown = sequence.shown, len(sequence.tokens)
        return after[len(before) :]

    def _finish(self, sequence: Sequence, text: str, reason: str) -> None:
        self.active.remove(sequence)
        outputs = [
            strings("text_output", text),
            triton.Tensor("output_tokens", np.array([len(sequence.tokens)], np.int32)),
            triton.Tensor("input_tokens", np.array([sequence.input_tokens], np.int32)),
            strings("finish_reason", reason),
        ]
        sequence.sender.send(
            triton.InferenceResponse(outputs), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )

    def _fail_all(self, message: str) -> None:
        for sequence in list(self.active):
            self._fail_one(sequence, message)
        while self.stopping.is_set() and not self.waiting.empty():
            self._fail_one(self.waiting.get_nowait(), message)

    def _fail_one(self, sequence: Sequence, message: str) -> None:
        if sequence in self.active:
            self.active.remove(sequence)
        try:
            if sequence.handle is not None:
                sequence.handle.cancel()
        except Exception:  # noqa: BLE001 - the client must hear of it all the same
            traceback.print_exc()
        try:
            fail(sequence.sender, message)
        except Exception:  # noqa: BLE001 - nothing can be told to a client that is gone
            traceback.print_exc()


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """The one value of an input tensor."""
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def input_format(request: Any) -> str:
    """What text_input is."""
    value: bytes = scalar(request, "input_format", b"user")
    return value.decode(errors="replace")


def strings(name: str, text: str) -> Any:
    """A tensor with one string."""
    return triton.Tensor(name, np.array([text.encode(errors="replace")], dtype=np.object_))


def fail(sender: Any, message: str) -> None:
    """End one request with an error."""
    error = triton.TritonError(message)
    sender.send(
        triton.InferenceResponse(error=error), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    )
