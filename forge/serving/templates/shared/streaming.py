# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""What the Triton models share whose runtime batches by itself and streams an answer in pieces.

A model gives `load`, `generate` and `close`; here are the queue, one thread for each sequence the
engine decodes at once, the tensors, and the end of a request whose client is gone. All values come
from config.pbtxt's parameters.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
import turns
from turns import RequestError

__all__ = ["Limits", "Piece", "RequestError", "StreamingModel", "Wanted"]

MAX_WAITING = 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Limits:
    """What the engine was compiled and rendered for."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    default_max_tokens: int
    kv_cache_mib: int
    kv_cache_percent: int


@dataclass(frozen=True)
class Wanted:
    """One request: temperature 0 is greedy.

    Attributes:
        said: turns for the chat template, or text that gets none.
    """

    said: turns.Turns | str
    max_tokens: int
    temperature: float


@dataclass(frozen=True)
class Piece:
    """Text as it comes.

    Attributes:
        text: since the last piece.
        tokens: how many it is.
        input_tokens: length of the prompt, 0 where the runtime did not say it yet.
        finish_reason: `stop` or `length` on the last piece, else "".
    """

    text: str
    tokens: int
    input_tokens: int = 0
    finish_reason: str = ""


class StreamingModel:
    """What Triton's Python backend calls; subclasses are named TritonPythonModel."""

    def load(self, engine: Path, limits: Limits) -> None:
        """Load the engine; raise what Triton shall log."""
        raise NotImplementedError

    def generate(self, wanted: Wanted) -> Iterator[Piece]:
        """The answer in pieces; closed early when the client is gone. Raises RequestError."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the memory back."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: int(value["string_value"]) for name, value in parameters.items()}
        self.limits = Limits(**values)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        if not engine.is_dir():
            raise FileNotFoundError(f"There is no engine in {engine}")
        self.load(engine.resolve(), self.limits)
        self.waiting = threading.BoundedSemaphore(MAX_WAITING)
        self.stopping = threading.Event()
        self.pool = ThreadPoolExecutor(self.limits.max_batch_size, "sequence")

    def execute(self, requests: list[Any]) -> None:
        """Queue each request; the answers go through its response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                wanted = read(request, self.limits)
            except RequestError as error:
                fail(sender, str(error))
                continue
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sender, f"The request could not be read: {error}")
                continue
            if self.waiting.acquire(blocking=False):
                self.pool.submit(self._answer, wanted, sender)
            else:
                fail(sender, f"{MAX_WAITING} requests wait already; try again later")

    def finalize(self) -> None:
        """End what runs, then the engine."""
        self.stopping.set()
        self.pool.shutdown()
        self.close()

    def _answer(self, wanted: Wanted, sender: Any) -> None:
        self.waiting.release()
        if self.stopping.is_set():
            fail(sender, "The server is stopping")
            return
        try:
            self._stream(wanted, sender)
        except RequestError as error:
            fail(sender, str(error))
        except Exception as error:  # noqa: BLE001 - told to the client, and Triton goes on
            fail(sender, f"The engine failed: {error}")

    def _stream(self, wanted: Wanted, sender: Any) -> None:
        tokens = input_tokens = 0
        reason = ""
        pieces = self.generate(wanted)
        try:
            for piece in pieces:
                tokens += piece.tokens
                input_tokens = piece.input_tokens or input_tokens
                reason = piece.finish_reason
                if sender.is_cancelled():
                    reason = "cancelled"
                elif piece.text:
                    sender.send(triton.InferenceResponse([strings("text_output", piece.text)]))
                if reason or self.stopping.is_set():
                    break
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()  # frees the sequence's place in the engine
        outputs = [
            strings("text_output", ""),
            number("output_tokens", tokens),
            number("input_tokens", input_tokens),
            strings("finish_reason", reason or "stop"),
        ]
        sender.send(
            triton.InferenceResponse(outputs), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )


def read(request: Any, limits: Limits) -> Wanted:
    """What a request asks for. Raises RequestError."""
    text = scalar(request, "text_input")
    if not isinstance(text, bytes) or not text.strip():
        raise RequestError("text_input is empty")
    if len(text) > MAX_TEXT_BYTES:
        raise RequestError(f"text_input is longer than {MAX_TEXT_BYTES} bytes")
    max_tokens = int(scalar(request, "max_tokens", limits.default_max_tokens))
    temperature = float(scalar(request, "temperature", 0.0))
    if max_tokens < 1 or not 0 <= temperature <= MAX_TEMPERATURE:
        raise RequestError(
            f"max_tokens must be 1 or more, temperature between 0 and {MAX_TEMPERATURE}"
        )
    input_format: bytes = scalar(request, "input_format", b"user")
    said = turns.read(text.decode(errors="replace"), input_format.decode(errors="replace"))
    return Wanted(said, max_tokens, temperature)


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """The one value of an input tensor."""
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def strings(name: str, text: str) -> Any:
    """A tensor with one string."""
    return triton.Tensor(name, np.array([text.encode(errors="replace")], dtype=np.object_))


def number(name: str, value: int) -> Any:
    """A tensor with one count."""
    return triton.Tensor(name, np.array([value], np.int32))


def fail(sender: Any, message: str) -> None:
    """End one request with an error."""
    sender.send(
        triton.InferenceResponse(error=triton.TritonError(message)),
        flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
    )
