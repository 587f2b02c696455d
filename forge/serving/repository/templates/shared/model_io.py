# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""What every Triton model of Forge shares: limits, requests, responses.

All values come from config.pbtxt's parameters and from a request's input tensors. This file is
copied beside the model.py of every template.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
import turns
from sampling import Sampling
from turns import RequestError

MAX_WAITING = 1024
MAX_TEXT_BYTES = 1024 * 1024


class Limits(SimpleNamespace):
    """Every parameter of config.pbtxt by its name: limits of the engine, settings of the profile.

    A setting that the profile leaves null is None.
    """

    @classmethod
    def read(cls, args: dict[str, str]) -> Limits:
        """Return the parameters of the model that Triton initializes."""
        parameters = json.loads(args["model_config"])["parameters"]
        return cls(**{name: json.loads(one["string_value"]) for name, one in parameters.items()})


@dataclass(frozen=True)
class Wanted:
    """One request.

    Attributes:
        said: a conversation for the chat template, text that gets none, and so on.
        max_tokens: of the answer.
        sampling: how they are chosen.
        request_id: with which it can be cancelled; empty if the client gave none.
    """

    said: turns.Said
    max_tokens: int
    sampling: Sampling
    request_id: str = ""


def read(request: Any, limits: Limits) -> Wanted:
    """Return what a request asks for. Raises RequestError."""
    text = scalar(request, "text_input")
    if not isinstance(text, bytes) or not text.strip():
        raise RequestError("The prompt is empty")
    if len(text) > MAX_TEXT_BYTES:
        raise RequestError(f"The prompt is longer than {MAX_TEXT_BYTES} bytes")
    max_tokens = int(scalar(request, "max_tokens", limits.default_max_tokens))
    sampling = _sampling(request)
    input_format: bytes = scalar(request, "input_format", b"user")
    said = turns.read(text.decode(errors="replace"), input_format.decode(errors="replace"))
    if max_tokens < 1 and isinstance(said, turns.Prompt):
        raise RequestError("max_tokens must be 1 or more")
    request_id: bytes = scalar(request, "request_id", b"")
    return Wanted(said, max_tokens, sampling, request_id.decode(errors="replace"))


def _sampling(request: Any) -> Sampling:
    found = {}
    for field in fields(Sampling):
        value = scalar(request, field.name)
        if isinstance(value, bytes):  # of what is not a number
            found[field.name] = _json(field.name, value)
        elif value is not None:
            found[field.name] = value.item()
    return Sampling(**found)


def _json(name: str, text: bytes) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError(f"{name} must be JSON") from None
    return tuple(value) if isinstance(value, list) else value


def check_length(tokens: int, limits: Limits) -> None:
    """Raise RequestError for a prompt that is too long."""
    if tokens > limits.max_input_len:
        raise RequestError(
            f"The prompt has {tokens} tokens; this model takes at most {limits.max_input_len}"
        )


def scalar(request: Any, name: str, default: Any = None) -> Any:
    """Return the one value of an input tensor."""
    tensor = triton.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().reshape(-1)[0]


def send_text(sender: Any, text: str, logprobs: str = "") -> None:
    """Send a piece of the answer, and the JSON of its tokens' logarithms if they are wanted."""
    sender.send(triton.InferenceResponse(_texts(text, logprobs)))


def finish(
    sender: Any, text: str, tokens: int, input_tokens: int, reason: str, logprobs: str = ""
) -> None:
    """Send the last piece, the counts and the reason of the end."""
    outputs = [
        *_texts(text, logprobs),
        triton.Tensor("output_tokens", np.array([tokens], np.int32)),
        triton.Tensor("input_tokens", np.array([input_tokens], np.int32)),
        _strings("finish_reason", reason),
    ]
    sender.send(
        triton.InferenceResponse(outputs), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    )


def fail(sender: Any, message: str) -> None:
    """End one request with an error."""
    error = triton.TritonError(message)
    sender.send(
        triton.InferenceResponse(error=error), flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    )


def _texts(text: str, logprobs: str) -> list[Any]:
    found = [_strings("text_output", text)]
    return [*found, _strings("logprobs", logprobs)] if logprobs else found


def _strings(name: str, text: str) -> Any:
    return triton.Tensor(name, np.array([text.encode(errors="replace")], dtype=np.object_))
