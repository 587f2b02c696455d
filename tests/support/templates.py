"""The serving templates as Triton's stub imports them, with a stand-in for Triton's own module."""

from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATES = Path(__file__).resolve().parents[2] / "forge" / "serving" / "repository" / "templates"
FINAL = 1


@dataclass(frozen=True)
class Tensor:
    """triton_python_backend_utils.Tensor."""

    tensor_name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


@dataclass(frozen=True)
class InferenceResponse:
    """triton_python_backend_utils.InferenceResponse."""

    output_tensors: list[Tensor] = field(default_factory=list)
    error: Any = None


@dataclass
class Sender:
    """A response sender that keeps what is sent."""

    sent: list[tuple[InferenceResponse, int]] = field(default_factory=list)
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled

    def send(self, response: InferenceResponse, flags: int = 0) -> None:
        self.sent.append((response, flags))

    @property
    def done(self) -> bool:
        return bool(self.sent) and self.sent[-1][1] == FINAL

    def values(self, name: str) -> list[Any]:
        """Every value of one output, in order."""
        found = [
            tensor.value[0]
            for response, _ in self.sent
            for tensor in response.output_tensors
            if tensor.tensor_name == name
        ]
        return [one.decode() if isinstance(one, bytes) else one for one in found]

    @property
    def error(self) -> str:
        return str(self.sent[-1][0].error)


@dataclass
class Request:
    """An inference request: its inputs and its sender."""

    inputs: dict[str, Any]
    sender: Sender = field(default_factory=Sender)

    @classmethod
    def of(cls, text: str, **inputs: Any) -> Request:
        return cls({"text_input": np.array([text.encode()], np.object_), **inputs})

    def get_response_sender(self) -> Sender:
        return self.sender


def triton() -> types.ModuleType:
    """What the templates use of triton_python_backend_utils."""
    module = types.ModuleType("triton_python_backend_utils")

    def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
        return Tensor(name, request.inputs[name]) if name in request.inputs else None

    values = {
        "Tensor": Tensor,
        "InferenceResponse": InferenceResponse,
        "TritonError": str,
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL": FINAL,
        "get_input_tensor_by_name": get_input_tensor_by_name,
    }
    for name, value in values.items():
        setattr(module, name, value)
    return module


def load(folder: str, name: str) -> Any:
    """One module of a template, anew; what it imports of its folder and shared/ stays imported."""
    before = sys.modules.get("triton_python_backend_utils")
    sys.modules["triton_python_backend_utils"] = triton()
    beside = [str(TEMPLATES / "shared"), str(TEMPLATES / folder)]
    sys.path[:0] = beside
    try:
        path = TEMPLATES / folder / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"template_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        for one in beside:
            sys.path.remove(one)
        del sys.modules["triton_python_backend_utils"]
        if before is not None:
            sys.modules["triton_python_backend_utils"] = before
    return module
