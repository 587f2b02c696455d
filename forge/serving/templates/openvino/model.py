# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves OpenVINO IR with continuous batching.

Requests wait in a queue; one thread owns the pipeline, adds what waits, makes one step for all
sequences, and sends each its new text. A client that is gone stops its own sequence only.
All values come from config.pbtxt's parameters; nothing is written into this file.
"""

from __future__ import annotations

import os
import site

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])

import json
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai as genai
import triton_python_backend_utils as triton

# Tokens in one block of the KV cache on a CPU (openvino.genai, cache_manager.hpp).
BLOCK_TOKENS = 32
FILES = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)
MAX_WAITING = 1024
MAX_TEXT_BYTES = 1024 * 1024
MAX_TEMPERATURE = 2.0
IDLE_S = 0.5
FORMATS = (b"user", b"messages", b"raw")  # what text_input is
ROLES = ("system", "user", "assistant")
REPLACEMENT = "\ufffd"  # what half of a UTF-8 character decodes to


class RequestError(Exception):
    """This request cannot be served; the next one can."""


@dataclass
class Limits:
    """What the engine was compiled and rendered for."""

    max_batch_size: int
    max_input_len: int
    max_seq_len: int
    default_max_tokens: int
    kv_cache_mib: int


@dataclass
class Sequence:
    """One request on its way."""

    sender: Any
    prompt: Any  # token ids, [1, n]
    config: Any
    handle: Any = None
    tokens: list[int] = field(default_factory=list)
    shown: int = 0  # tokens whose text was sent
    context: int = 0  # where decoding starts, so that spaces come out right
    finish_reason: str = "stop"

    @property
    def input_tokens(self) -> int:
        """Length of the prompt, chat template included."""
        return int(self.prompt.shape[-1])


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine that lies beside this file and start the thread that runs it."""
        parameters = json.loads(args["model_config"])["parameters"]
        values = {name: int(value["string_value"]) for name, value in parameters.items()}
        self.limits = Limits(**values)
        engine = Path(args["model_repository"]) / args["model_version"] / "engine"
        missing = [name for name in FILES if not (engine / name).is_file()]
        if missing:
            raise FileNotFoundError(f"The engine lacks {', '.join(missing)}")
        self.pipeline = genai.ContinuousBatchingPipeline(
            str(engine), scheduler(self.limits), "CPU", {}, {}
        )
        self.tokenizer = self.pipeline.get_tokenizer()
        self.defaults = self.pipeline.get_config()
        self.waiting: queue.Queue[Sequence] = queue.Queue(MAX_WAITING)
        self.active: dict[int, Sequence] = {}
        self.next_id = 0
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
        input_format = scalar(request, "input_format", b"user")
        prompt = self._encode(text.decode(errors="replace"), input_format)
        length = int(prompt.shape[-1])
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
        room = self.limits.max_seq_len - length
        return Sequence(sender, prompt, self._config(min(int(wanted), room), float(temperature)))

    def _encode(self, text: str, input_format: bytes) -> Any:
        if input_format not in FORMATS:
            raise RequestError(f"input_format must be one of {b', '.join(FORMATS).decode()}")
        turns = read_turns(text) if input_format == b"messages" else [user(text)]
        if not self.tokenizer.chat_template and input_format == b"messages":
            raise RequestError("This model has no chat template: send one text, no messages")
        if not self.tokenizer.chat_template or input_format == b"raw":
            return self.tokenizer.encode(text).input_ids
        try:
            text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True)
        except RuntimeError as error:  # templates refuse orders of roles that they do not know
            raise RequestError(f"The chat template refused the messages: {error}") from None
        return self.tokenizer.encode(text, add_special_tokens=False).input_ids

    def _config(self, max_tokens: int, temperature: float) -> Any:
        config = genai.GenerationConfig()
        config.set_eos_token_id(self.defaults.eos_token_id)
        config.stop_token_ids = self.defaults.stop_token_ids
        config.max_new_tokens = max_tokens
        if temperature > 0:
            config.do_sample = True
            config.temperature = temperature
        return config

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._admit()
                self._drop_cancelled()
                # Also after the last one is cancelled: a step frees its blocks of the KV cache.
                if self.pipeline.has_non_finished_requests():
                    self.pipeline.step()
                    self._send_new_text()
            except Exception as error:  # noqa: BLE001 - told to every client, and Triton goes on
                self._fail_all(f"The engine failed: {error}")
        self._fail_all("The server is stopping")

    def _admit(self) -> None:
        """Hand waiting requests to the pipeline; with nothing to do, wait for one."""
        wait = not self.active
        while len(self.active) < self.limits.max_batch_size:
            try:
                sequence = self.waiting.get(timeout=IDLE_S) if wait else self.waiting.get_nowait()
            except queue.Empty:
                return
            wait = False
            try:
                sequence.handle = self.pipeline.add_request(
                    self.next_id, sequence.prompt, sequence.config
                )
            except Exception as error:  # noqa: BLE001 - one bad request must not end the model
                fail(sequence.sender, f"The engine refused the request: {error}")
                continue
            self.active[self.next_id] = sequence
            self.next_id += 1

    def _drop_cancelled(self) -> None:
        for number, sequence in list(self.active.items()):
            if sequence.sender.is_cancelled():
                sequence.handle.cancel()
                sequence.finish_reason = "cancelled"
                self._finish(number, "")

    def _send_new_text(self) -> None:
        for number, sequence in list(self.active.items()):
            finished = False
            while sequence.handle.can_read():
                for output in sequence.handle.read().values():
                    sequence.tokens.extend(output.generated_ids)
                    if output.finish_reason == genai.GenerationFinishReason.LENGTH:
                        sequence.finish_reason = "length"
            finished = sequence.handle.get_status() != genai.GenerationStatus.RUNNING
            text = self._new_text(sequence, last=finished)
            if finished:
                self._finish(number, text)
            elif text:
                sequence.sender.send(triton.InferenceResponse([strings("text_output", text)]))

    def _new_text(self, sequence: Sequence, *, last: bool) -> str:
        """Text of the tokens since the last call; half a character is held back."""
        if sequence.shown == len(sequence.tokens):
            return ""
        before = self.tokenizer.decode(sequence.tokens[sequence.context : sequence.shown])
        after = self.tokenizer.decode(sequence.tokens[sequence.context :])
        if after.endswith(REPLACEMENT) and not last:
            return ""
        sequence.context, sequence.shown = sequence.shown, len(sequence.tokens)
        return str(after[len(before) :])

    def _finish(self, number: int, text: str) -> None:
        sequence = self.active.pop(number)
        outputs = [
            strings("text_output", text),
            triton.Tensor("output_tokens", np.array([len(sequence.tokens)], np.int32)),
            triton.Tensor("input_tokens", np.array([sequence.input_tokens], np.int32)),
            strings("finish_reason", sequence.finish_reason),
        ]
        sequence.sender.send(
            triton.InferenceResponse(outputs), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        )

    def _fail_all(self, message: str) -> None:
        for sequence in self.active.values():
            sequence.handle.cancel()
            fail(sequence.sender, message)
        self.active.clear()
        if self.stopping.is_set():
            while not self.waiting.empty():
                fail(self.waiting.get_nowait().sender, message)


def scheduler(limits: Limits) -> Any:
    """Room in the KV cache for every sequence at its longest, unless a size is given."""
    config = genai.SchedulerConfig()
    config.max_num_seqs = limits.max_batch_size
    if limits.kv_cache_mib:
        config.cache_size = -(-limits.kv_cache_mib // 1024)  # OpenVINO counts whole GiB
    else:
        config.num_kv_blocks = limits.max_batch_size * -(-limits.max_seq_len // BLOCK_TOKENS)
    return config


def user(text: str) -> dict[str, str]:
    """One message of the user."""
    return {"role": "user", "content": text}


def read_turns(text: str) -> list[dict[str, str]]:
    """Messages of a conversation. Raises RequestError."""
    try:
        turns = [{"role": one["role"], "content": one["content"]} for one in json.loads(text)]
    except (ValueError, TypeError, KeyError, RecursionError):
        turns = []
    good = all(turn["role"] in ROLES and isinstance(turn["content"], str) for turn in turns)
    if not turns or not good:
        raise RequestError('messages must be a JSON list of {"role", "content"}')
    return turns


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """The one value of an input tensor."""
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def strings(name: str, text: str) -> Any:
    """A tensor with one string."""
    return triton.Tensor(name, np.array([text.encode(errors="replace")], dtype=np.object_))


def fail(sender: Any, message: str) -> None:
    """End one request with an error."""
    error = triton.TritonError(message)
    sender.send(
        triton.InferenceResponse(error=error), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    )
