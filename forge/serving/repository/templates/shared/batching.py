# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Triton models whose engine is stepped here: continuous batching over a generator.

Requests wait in a queue; one thread owns the generator, gives it the waiting requests, makes one
step for all sequences, and sends each its new text. A client that disconnects stops its own
sequence only, and so does a sequence that cannot be decoded or sent. An engine that fails again and
again, or a thread that ends, ends the process: otherwise Triton would still report the model ready.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import turns
from choice import Chosen
from model_io import (
    MAX_WAITING,
    Limits,
    Wanted,
    check_length,
    fail,
    finish,
    read,
    send_text,
)
from pieces import Pieces, StopTexts
from sampling import Sampling
from turns import RequestError

IDLE_S = 0.5
MAX_FAILURES = 3  # steps of the engine in a row


class Spelling(Protocol):
    """One token alone."""

    text: str
    raw: bytes


class Words(Protocol):
    """Text to tokens and back: `text.Words`."""

    single_bytes: frozenset[int]
    special: frozenset[int]

    def encode(self, said: turns.Prompt) -> list[int]:
        """Return the tokens of a prompt; only a conversation gets the chat template.

        Raises RequestError where the template refuses it or there is none for it.
        """

    def tokenize(self, said: turns.Tokenize) -> list[int]:
        """Return the tokens of text or of a conversation. Raises RequestError."""

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of tokens."""

    def spell(self, token: int) -> Spelling:
        """Return one token alone."""


class Handle(Protocol):
    """One sequence inside a generator."""

    finished: bool
    finish_reason: str  # "stop" or "length", once it is finished
    scored: Sequence[Chosen]  # of a scored sequence: each token but the first

    def new_tokens(self) -> list[Chosen]:
        """Tokens since the last call, the end-of-text token too."""

    def cancel(self) -> None:
        """Stop it and free what it holds; nothing happens if it is finished."""


class Generator(Protocol):
    """An engine with a KV cache that decodes several sequences."""

    words: Words

    def check(self, sampling: Sampling) -> None:
        """Raise RequestError for what this engine cannot do with these values."""

    def add(self, prompt: list[int], max_tokens: int, sampling: Sampling) -> Handle:
        """Start a sequence; at most `max_batch_size` are started and not finished."""

    def add_scored(self, tokens: list[int], *, top: bool) -> Handle:
        """Start to score tokens, as `add` starts a sequence; its handle has `scored` only.

        With `top` the likeliest token of each place is wanted too. Raises RequestError.
        """

    def busy(self) -> bool:
        """Return whether `step` has anything to do."""

    def step(self) -> None:
        """Make one step for every sequence."""


@dataclass(eq=False)
class Answer:
    """One request that is being answered."""

    sender: Any
    wanted: Wanted
    prompt: list[int]
    max_tokens: int
    pieces: Pieces
    stops: StopTexts
    handle: Handle | None = None
    cancelled: bool = False

    @property
    def stopped(self) -> bool:
        """Whether its client cancelled it or disconnected."""
        return self.cancelled or self.sender.is_cancelled()


class Waiting:
    """Answers that have no place in the batch yet, first come first served."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.changed = threading.Condition()

    def put(self, answer: Answer) -> bool:
        """Add one; False if there are too many."""
        with self.changed:
            if len(self.answers) >= MAX_WAITING:
                return False
            self.answers.append(answer)
            self.changed.notify()
        return True

    def take(self, timeout_s: float, into: list[Answer]) -> Answer | None:
        """Move the first one to a list and return it; None if none came in time."""
        with self.changed:
            if not self.answers and timeout_s:
                self.changed.wait(timeout_s)
            if not self.answers:
                return None
            into.append(self.answers.popleft())
            return into[-1]

    def remove(self, request_id: str) -> Answer | None:
        """Return the one with an id and remove it; None if it does not wait."""
        with self.changed:
            found = next((a for a in self.answers if a.wanted.request_id == request_id), None)
            if found is not None:
                self.answers.remove(found)
            return found


class Model:
    """What Triton's Python backend calls; a subclass says how its engine is loaded."""

    def load(self, engine: Path, limits: Limits) -> Generator:
        """Load the engine in a folder. Raises what Triton shall log."""
        raise NotImplementedError

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine in the folder beside this file and start the thread that runs it."""
        self.limits = Limits.read(args)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        self.generator = self.load(engine, self.limits)
        self.waiting = Waiting()
        self.active: list[Answer] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self.thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Queue each request; its answer goes through its response sender."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._begin(read(request, self.limits), sender)
            except RequestError as error:
                fail(sender, str(error))
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sender, f"The request could not be read: {error}")

    def finalize(self) -> None:
        """Stop the thread and cancel the running sequences."""
        self.stopping.set()
        self.thread.join()

    def _begin(self, wanted: Wanted, sender: Any) -> None:
        """Queue a request, or answer it at once if it needs no engine."""
        said, words = wanted.said, self.generator.words
        if isinstance(said, turns.Cancel):
            self._cancel(said.request_id)
            finish(sender, "", 0, 0, "cancelled")
        elif isinstance(said, turns.Describe):
            finish(sender, json.dumps({"tool_calls": words.tool_calls}), 0, 0, "described")
        elif isinstance(said, turns.Tokenize):
            tokens = words.tokenize(said)
            finish(sender, json.dumps(tokens), 0, len(tokens), "tokenized")
        elif isinstance(said, turns.Detokenize):
            text = words.decode(list(said.tokens), skip_special=False)
            finish(sender, text, 0, len(said.tokens), "detokenized")
        elif not self.waiting.put(self._answer(wanted, said, sender)):
            fail(sender, f"{MAX_WAITING} requests wait already; try again later")

    def _answer(self, wanted: Wanted, said: turns.Prompt | turns.Scored, sender: Any) -> Answer:
        words = self.generator.words
        if isinstance(said, turns.Scored):
            prompt = words.encode(turns.Ids(said.tokens))
        else:
            self.generator.check(wanted.sampling)
            prompt = words.encode(said)
        check_length(len(prompt), self.limits)
        most = min(wanted.max_tokens, self.limits.max_seq_len - len(prompt))
        return Answer(sender, wanted, prompt, most, Pieces(words), StopTexts(wanted.sampling.stop))

    def _cancel(self, request_id: str) -> None:
        """End a request: now if it waits, after the step under way if it is computed."""
        with self.waiting.changed:  # it is in one of the two places
            waiting = self.waiting.remove(request_id)
            for answer in list(self.active):
                if answer.wanted.request_id == request_id:
                    answer.cancelled = True
        if waiting is not None:
            finish(waiting.sender, "", 0, len(waiting.prompt), "cancelled")

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
        wait_s = 0.0 if self.active or self.generator.busy() else IDLE_S
        while len(self.active) < self.limits.max_batch_size:
            answer = self.waiting.take(wait_s, self.active)
            if answer is None:
                return
            wait_s = 0.0
            try:
                if not answer.stopped:
                    answer.handle = self._start(answer)
            except RequestError as error:
                self._fail_one(answer, str(error))
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                self._fail_one(answer, f"The engine refused the request: {error}")

    def _start(self, answer: Answer) -> Handle:
        said = answer.wanted.said
        if isinstance(said, turns.Scored):
            return self.generator.add_scored(answer.prompt, top=said.top)
        return self.generator.add(answer.prompt, answer.max_tokens, answer.wanted.sampling)

    def _each(self, work: Callable[[Answer], None]) -> None:
        for answer in list(self.active):
            try:
                work(answer)
            except Exception as error:  # noqa: BLE001 - one sequence must not end the others
                self._fail_one(answer, f"This answer failed: {error}")

    def _drop_if_cancelled(self, answer: Answer) -> None:
        if answer.stopped:
            if answer.handle is not None:
                answer.handle.cancel()
            self._finish(answer, "", "cancelled")

    def _send_new_text(self, answer: Answer) -> None:
        handle = answer.handle
        if handle is None:
            return
        finished = handle.finished  # before the tokens, or the last ones are lost
        fresh = handle.new_tokens()
        if isinstance(answer.wanted.said, turns.Scored):
            if finished:
                self._finish(answer, self._scores(answer.wanted.said, handle), "scored")
            return
        text = answer.pieces.add([one.token for one in fresh], last=finished)
        armed = len(answer.pieces.tokens) >= answer.wanted.sampling.min_tokens
        text = answer.stops.add(text, armed=armed, last=finished)
        logprobs = self._logprobs(answer, fresh)
        if answer.stops.hit and not finished:
            handle.cancel()
        if finished or answer.stops.hit:
            reason = "stop" if answer.stops.hit else handle.finish_reason
            self._finish(answer, text, reason, logprobs)
        elif text or logprobs:
            send_text(answer.sender, text, logprobs)

    def _logprobs(self, answer: Answer, fresh: list[Chosen]) -> str:
        """Return the JSON of the logarithms of new tokens; empty if none are wanted."""
        if answer.wanted.sampling.top_logprobs is None or not fresh:
            return ""
        return json.dumps([_entry(self.generator.words, one) for one in fresh])

    def _scores(self, said: turns.Scored, handle: Handle) -> str:
        if said.top:
            return json.dumps([_entry(self.generator.words, one) for one in handle.scored])
        return json.dumps([one.logprob for one in handle.scored])

    def _finish(self, answer: Answer, text: str, reason: str, logprobs: str = "") -> None:
        self.active.remove(answer)
        made, given = len(answer.pieces.tokens), len(answer.prompt)
        finish(answer.sender, text, made, given, reason, logprobs)

    def _fail_all(self, message: str) -> None:
        for answer in list(self.active):
            self._fail_one(answer, message)
        while self.stopping.is_set() and (waiting := self.waiting.take(0, [])):
            self._fail_one(waiting, message)

    def _fail_one(self, answer: Answer, message: str) -> None:
        if answer in self.active:
            self.active.remove(answer)
        try:
            if answer.handle is not None:
                answer.handle.cancel()
        except Exception:  # noqa: BLE001 - the client must be told all the same
            traceback.print_exc()
        try:
            fail(answer.sender, message)
        except Exception:  # noqa: BLE001 - the client has disconnected
            traceback.print_exc()


def _entry(words: Words, chosen: Chosen) -> dict[str, Any]:
    """Return a token with its logarithm and the likeliest ones in its place."""
    top = [_alone(words, token, logprob) for token, logprob in chosen.top]
    return {**_alone(words, chosen.token, chosen.logprob), "top": top}


def _alone(words: Words, token: int, logprob: float) -> dict[str, Any]:
    spelled = words.spell(token)
    return {"token": spelled.text, "logprob": logprob, "bytes": list(spelled.raw)}
