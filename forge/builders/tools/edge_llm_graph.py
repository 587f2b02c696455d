"""Execute an exported graph on the CPU with numpy. Runs in the environment `edge-llm`.

`Graph.load` computes once what depends on weights only, such as dequantised matrices, and keeps
matrices in float32 while these take at most half of the memory; otherwise each product converts
its matrix. `Graph.run` computes the nodes in the order of the file, in which inputs come first:
https://github.com/onnx/onnx/blob/main/docs/IR.md#graphs
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edge_llm_operators as operators
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from receipt import EngineError

Values = Mapping[str, np.ndarray]


class GraphError(EngineError):
    """The graph cannot be executed here."""


class DamagedError(RuntimeError):
    """A file of the graph is not there, is too short, or is not a valid ONNX file."""


@dataclass(frozen=True)
class Node:
    """One node: an operator with its inputs, its outputs and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def compute(self, values: Values) -> tuple[np.ndarray, ...]:
        """Return the outputs. Raises GraphError."""
        inputs = [values[name] if name else None for name in self.inputs]
        try:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                result = operators.OPERATORS[self.operator](self.attributes, *inputs)
        except operators.OperatorError as error:
            raise GraphError(str(error)) from None
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise GraphError(f"{self.operator} → {self.outputs[0]}: {error}") from None
        return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True)
class Graph:
    """A graph whose weights are in memory.

    Attributes:
        inputs: names and shapes; a dimension that is not fixed is None.
        constants: weights, and what follows from weights alone.
        nodes: what remains to be computed for each call.
        outputs: names.
        operators: all operators of the file, also those that depend on weights only.
    """

    inputs: Mapping[str, tuple[int | None, ...]]
    constants: Values
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    operators: frozenset[str]

    @classmethod
    def load(cls, path: Path) -> Graph:
        """Read a graph and its weights. Raises GraphError, DamagedError."""
        model = _read(path)
        nodes = tuple(_node(node) for node in model.graph.node)
        found = frozenset(node.operator for node in nodes)
        if unknown := sorted(found - operators.OPERATORS.keys()):
            raise GraphError(
                f"the graph has operators that are not known here: {', '.join(unknown)}\n"
                "  → choose another engine.precision or model: docs/reference/builders.md"
            )
        constants = {tensor.name: _array(tensor, path.parent) for tensor in model.graph.initializer}
        constants, nodes = _fold(constants, nodes)
        constants, nodes = _widen(constants, nodes)
        inputs = {value.name: _shape(value) for value in model.graph.input}
        outputs = tuple(value.name for value in model.graph.output)
        return cls(inputs, constants, nodes, outputs, found)

    def run(self, inputs: Values) -> dict[str, np.ndarray]:
        """Compute all outputs. Raises GraphError."""
        if missing := [name for name in self.inputs if name not in inputs]:
            raise GraphError(f"the graph has unknown inputs: {', '.join(missing)}")
        uses = Counter(name for node in self.nodes for name in node.inputs)
        uses.update(self.outputs)
        made: dict[str, np.ndarray] = dict(inputs)
        values = _Both(made, self.constants)
        for node in self.nodes:
            made.update(zip(node.outputs, node.compute(values), strict=False))
            for name in node.inputs:
                uses[name] -= 1
                if not uses[name]:
                    made.pop(name, None)
        return {name: values[name] for name in self.outputs}


class _Both(Mapping[str, np.ndarray]):
    """What was computed, and constants."""

    def __init__(self, made: Values, constants: Values) -> None:
        self._made, self._constants = made, constants

    def __getitem__(self, name: str) -> np.ndarray:
        return self._made[name] if name in self._made else self._constants[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._made
        yield from self._constants

    def __len__(self) -> int:
        return len(self._made) + len(self._constants)


def _read(path: Path) -> Any:
    try:
        return onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise DamagedError(f"{path.name} is not a valid ONNX file: {error}") from None


def _node(node: Any) -> Node:
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    attributes = {
        attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    return Node(name, tuple(node.input), tuple(node.output), attributes)


def _array(tensor: Any, folder: Path) -> np.ndarray:
    """Read one weight. onnx's own function refuses a file that has a second name, as links do."""
    try:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = _external(tensor, folder)
            tensor.data_location = onnx.TensorProto.DEFAULT
        array = np.array(numpy_helper.to_array(tensor))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"the weight {tensor.name} cannot be read: {error}") from None
    tensor.ClearField("raw_data")
    if array.dtype in (np.float16, np.float32) and not np.isfinite(array).all():
        raise GraphError(f"the weight {tensor.name} has values that are not finite numbers")
    return array


def _external(tensor: Any, folder: Path) -> bytes:
    """Return the bytes of a weight from the file next to the graph."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    name, length = place["location"], int(place["length"])
    if Path(name).name != name:
        raise ValueError(f"{name} is not a file next to the graph")
    with (folder / name).open("rb") as file:
        file.seek(int(place.get("offset", 0)))
        data = file.read(length)
    if len(data) != length:
        raise ValueError(f"{name} is too short")
    return data


def _shape(value: Any) -> tuple[int | None, ...]:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(
        dimension.dim_value if dimension.HasField("dim_value") else None for dimension in dimensions
    )


def _fold(
    constants: dict[str, np.ndarray], nodes: tuple[Node, ...]
) -> tuple[dict[str, np.ndarray], tuple[Node, ...]]:
    """Compute what depends on constants only, and forget what nothing else needs."""
    uses = Counter(name for node in nodes for name in node.inputs)
    left = []
    for node in nodes:
        if not all(name in constants for name in node.inputs if name):
            left.append(node)
            continue
        constants.update(zip(node.outputs, node.compute(constants), strict=False))
        for name in node.inputs:
            uses[name] -= 1
            if not uses[name]:
                constants.pop(name, None)
    return constants, tuple(left)


def _widen(
    constants: dict[str, np.ndarray], nodes: tuple[Node, ...]
) -> tuple[dict[str, np.ndarray], tuple[Node, ...]]:
    """Replace packed weights by matrices, and matrices in float16 by float32 where these fit."""
    changed = []
    for node in nodes:
        if node.operator == "trt_edgellm::Int4GroupwiseGemmPluginV2":
            changed.append(_unpacked(node, constants))
        else:
            changed.append(node)
    matrices = {
        node.inputs[1]
        for node in changed
        if node.operator in ("MatMul", "Gemm") and node.inputs[1] in constants
    }
    if 4 * sum(constants[name].size for name in matrices) <= _memory_bytes() // 2:
        for name in matrices:
            constants[name] = constants[name].astype(np.float32)
    return constants, tuple(changed)


def _unpacked(node: Node, constants: dict[str, np.ndarray]) -> Node:
    name, scales = node.inputs[1], node.inputs[2]
    if name not in constants or scales not in constants:
        return node
    try:
        weight = operators.int4_weight(node.attributes, constants.pop(name), constants[scales])
    except (operators.OperatorError, ValueError) as error:
        raise GraphError(f"{node.operator} → {node.outputs[0]}: {error}") from None
    constants[name] = weight.astype(np.float16)
    return replace(node, operator="MatMul", inputs=(node.inputs[0], name))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
