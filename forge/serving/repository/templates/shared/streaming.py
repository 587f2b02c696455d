# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Triton models whose runtime batches by itself and streams an answer in pieces.

A model gives `load`, `generate` and `close`; here are the queue, one thread for each sequence that
the engine decodes at once, and the end of a request whose client disconnected.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tool_prompt
import turns
from model_io import MAX_WAITING, Limits, Wanted, fail, finish, read, send_text
from pieces import StopTexts
from turns import RequestError

__all__ = ["Limits", "Piece", "RequestError", "StreamingModel", "Wanted"]


@dataclass(frozen=True)
class Piece:
    """A piece of the answer.

    Attributes:
        text: since the last piece.
        tokens: how many it is.
        input_tokens: length of the prompt, 0 where the runtime did not report it yet.
        finish_reason: `stop` or `length` on the last piece, else "".
        logprobs: JSON of the logarithms of its tokens, if the request wants them.
    """

    text: str
    tokens: int
    input_tokens: int = 0
    finish_reason: str = ""
    logprobs: str = ""


@dataclass(eq=False)
class Request:
    """One request that waits or is answered."""

    wanted: Wanted
    sender: Any
    cancelled: bool = False

    @property
    def stopped(self) -> bool:
        """Whether its client cancelled it or disconnected."""
        return self.cancelled or self.sender.is_cancelled()


class StreamingModel:
    """What Triton's Python backend calls; subclasses are named TritonPythonModel."""

    scores = False
    """Whether the runtime can score tokens; `load` may set it."""
    tool_calls = tool_prompt.HERMES
    """The format of its calls of tools; `load` may set it."""

    def direct(self, said: turns.Tokenize | turns.Detokenize) -> tuple[str, int]:  # noqa: ARG002
        """Return the text of tokens, or JSON of the tokens of a text, and their number.

        Raises RequestError.
        """
        raise RequestError("This model's runtime does not convert between text and tokens")

    def load(self, engine: Path, limits: Limits) -> None:
        """Load the engine; raise what Triton shall log."""
        raise NotImplementedError

    def generate(self, wanted: Wanted) -> Iterator[Piece]:
        """Yield the answer; closed early when the client disconnects. Raises RequestError."""
        raise NotImplementedError

    def score(self, tokens: tuple[int, ...]) -> list[float]:
        """Return the logarithm of each token but the first. Raises RequestError."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the memory."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine in the folder next to this file."""
        self.limits = Limits.read(args)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        if not engine.is_dir():
            raise FileNotFoundError(f"There is no engine in {engine}")
        self.load(engine.resolve(), self.limits)
        self.waiting = threading.BoundedSemaphore(MAX_WAITING)
        self.stopping = threading.Event()
        self.pool = ThreadPoolExecutor(self.limits.max_batch_size, "sequence")
        self.requests: set[Request] = set()

    def execute(self, requests: list[Any]) -> None:
        """Queue each request; its answer goes through its response sender."""
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
            try:
                self._begin(wanted, sender)
            except RequestError as error:
                fail(sender, str(error))

    def _begin(self, wanted: Wanted, sender: Any) -> None:
        said = wanted.said
        if isinstance(said, turns.Cancel):
            self._cancel(said.request_id)
            finish(sender, "", 0, 0, "cancelled")
        elif isinstance(said, turns.Describe):
            finish(sender, json.dumps({"tool_calls": self.tool_calls}), 0, 0, "described")
        elif isinstance(said, turns.Tokenize | turns.Detokenize):
            text, tokens = self.direct(said)
            reason = "tokenized" if isinstance(said, turns.Tokenize) else "detokenized"
            finish(sender, text, 0, tokens, reason)
        elif isinstance(said, turns.Scored) and (said.top or not self.scores):
            what = "name the likeliest tokens" if self.scores else "score tokens"
            raise RequestError(f"This model's runtime does not {what}")
        elif self.waiting.acquire(blocking=False):
            request = Request(wanted, sender)
            self.requests.add(request)
            self.pool.submit(self._answer, request)
        else:
            fail(sender, f"{MAX_WAITING} requests wait already; try again later")

    def _cancel(self, request_id: str) -> None:
        """Let a request end: before it begins, or after its next piece."""
        for request in list(self.requests):
            if request.wanted.request_id == request_id:
                request.cancelled = True

    def finalize(self) -> None:
        """End the running sequences, then the engine."""
        self.stopping.set()
        self.pool.shutdown()
        self.close()

    def _answer(self, request: Request) -> None:
        self.waiting.release()
        sender = request.sender
        try:
            if self.stopping.is_set():
                fail(sender, "The server is stopping")
            elif request.stopped:
                finish(sender, "", 0, 0, "cancelled")
            else:
                self._stream(request, sender)
        except RequestError as error:
            fail(sender, str(error))
        except Exception as error:  # noqa: BLE001 - reported to the client, and Triton continues
            fail(sender, f"The engine failed: {error}")
        finally:
            self.requests.discard(request)

    def _stream(self, request: Request, sender: Any) -> None:
        wanted = request.wanted
        if isinstance(wanted.said, turns.Scored):
            scored = json.dumps(self.score(wanted.said.tokens))
            finish(sender, scored, 0, len(wanted.said.tokens), "scored")
            return
        tokens = input_tokens = 0
        reason, stops = "", StopTexts(wanted.sampling.stop)
        pieces = self.generate(wanted)
        try:
            for piece in pieces:
                tokens += piece.tokens
                input_tokens = piece.input_tokens or input_tokens
                reason = piece.finish_reason
                armed = tokens >= wanted.sampling.min_tokens
                text = stops.add(piece.text, armed=armed, last=bool(reason))
                if request.stopped:
                    reason = "cancelled"
                elif text or piece.logprobs:
                    send_text(sender, text, piece.logprobs)
                if stops.hit:
                    reason = reason or "stop"
                if reason or self.stopping.is_set():
                    break
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()  # frees the sequence's place in the engine
        finish(sender, "", tokens, input_tokens, reason or "stop")
