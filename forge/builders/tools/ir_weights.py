"""Read the weights of OpenVINO IR as its runtime multiplies with them, without OpenVINO.

IR is an XML file with layers and edges, and one file with all constants. A weight is a node that
depends on constants only and that a node reads which depends on an input as well: an 8-bit
constant, its zero point, its scale and a reshape, say. Requires numpy. Format: OpenVINO 2026.4,
docs, "OpenVINO IR format"; operations: "Available operation sets".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from cast_check import from_bfloat16

MATRIX = "MatMul"
SHAPE = "ShapeOf"  # its readers depend on no value; exporters let one layer's compute it for all
PACKED = {"u4": False, "i4": True}  # two in a byte, the lower bits first; whether they have a sign
INTEGERS = {"u8": np.uint8, "i8": np.int8, "i32": np.int32, "i64": np.int64}
FLOATS = {"f16": np.float16, "f32": np.float32}
BROAD = {"bf16": np.uint16}  # the upper half of a float32
ATTENTION = "ScaledDotProductAttention"
MOST_DEPTH = 64  # operations between a weight and the next matrices
LEVELS = {"u8": 255, "i8": 255, "u4": 15, "i4": 15}  # steps from the lowest to the highest value


# (distance, operation, port, its own weight): of the first reader of a weight, and of the nearest
# matrices and attentions behind it.
Place = frozenset[tuple[int, str, int, str]]


class IrError(Exception):
    """The IR is damaged, or has an operation or type that this module does not read."""


@dataclass(frozen=True)
class Constant:
    """One constant: where it is in the file of weights."""

    kind: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Weight:
    """One weight of the network.

    Attributes:
        name: of its largest constant.
        kind: element type of that constant, `u8`.
        stored: the shape of that constant.
        groups: the shape of its scales; empty if it has none.
        centred: no zero point, or the same one everywhere: the values lie about 0.
        elements: number of values.
        load: returns the values, float32.
        place: returns what reads it, and the nearest matrices behind that. Equal for the same
            weight of two layers of one structure, however many layers follow.
    """

    name: str
    kind: str
    stored: tuple[int, ...]
    groups: tuple[int, ...]
    centred: bool
    elements: int
    load: Callable[[], np.ndarray] = field(repr=False)
    place: Callable[[], Place] = field(repr=False)


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    constant: Constant | None
    target: str  # element type that Convert makes


class Ir:
    """The graph of an IR file."""

    def __init__(self, path: Path) -> None:
        """Read the graph; constants are read when they are asked for. Raises IrError."""
        try:
            root = ET.parse(path).getroot()  # noqa: S314 - our own tool's output
            self._layers = {
                str(one.get("id")): _layer(one) for one in root.iterfind("layers/layer")
            }
            self._inputs = _inputs(root)
            self._readers = _readers(self._inputs)
            self._data = np.memmap(path.with_suffix(".bin"), np.uint8, "r")
        except (ET.ParseError, OSError, ValueError, TypeError, KeyError) as error:
            raise IrError(f"{path.name} is not valid OpenVINO IR: {error}") from None
        self._fixed: dict[str, bool] = {}

    def weights(self) -> Iterator[Weight]:
        """Yield the weights in the order of the graph: floating numbers of more than one value."""
        seen = set()
        for number in self._layers:
            if self._is_fixed(number):
                continue
            for source in self._inputs.get(number, ()):
                if source in seen or not self._is_fixed(source):
                    continue
                seen.add(source)
                found = self._weight(source)
                if found is not None:
                    yield found

    def _is_fixed(self, number: str) -> bool:
        """Return whether a node depends on constants only. Without recursion over the graph."""
        if number not in self._fixed:
            layer = self._layers[number]
            known = layer.constant is not None or layer.kind in _OPERATIONS
            sources = self._inputs.get(number, ())
            self._fixed[number] = False  # against a circle
            self._fixed[number] = known and all(self._is_fixed(one) for one in sources)
        return self._fixed[number]

    def _weight(self, number: str) -> Weight | None:
        constants = [one for one in self._below(number) if self._layers[one].constant]
        main = max(constants, key=lambda one: _count(self._constant(one).shape))
        stored = self._constant(main)
        if stored.kind not in {*LEVELS, *FLOATS, *BROAD} or _count(stored.shape) == 1:
            return None
        scale = self._operand(number, "Multiply", main)
        zero = self._operand(number, "Subtract", main)
        points = self._read(self._constant(zero)) if zero is not None else None
        return Weight(
            self._layers[main].name,
            stored.kind,
            stored.shape,
            self._constant(scale).shape if scale is not None else (),
            points is None or bool((points == points.flat[0]).all()),
            _count(stored.shape),
            lambda: np.asarray(self._value(number), np.float32),
            lambda: self._place(number),
        )

    def _place(self, number: str) -> Place:
        found: set[tuple[int, str, int, str]] = set()
        level = self._readers.get(number, ())
        seen: set[str] = set()
        matrix = False
        for depth in range(MOST_DEPTH):
            behind: list[tuple[str, int]] = []
            for node, port in level:
                kind = self._layers[node].kind
                if node in seen or kind == SHAPE:
                    continue
                seen.add(node)
                behind.extend(self._readers.get(node, ()))
                matrix |= kind == MATRIX
                if depth == 0 or kind in {MATRIX, ATTENTION}:
                    own = self._own_weight(node) if kind == MATRIX else ""
                    found.add((depth, kind, port, own))
            level = tuple(behind)
            if matrix or not level:
                break
        return frozenset(found)

    def _own_weight(self, number: str) -> str:
        """Return the name, without numbers, and the shape of the largest constant of a node."""
        fixed = [one for one in self._inputs.get(number, ()) if self._is_fixed(one)]
        below = [one for source in fixed for one in self._below(source)]
        constants = [one for one in below if self._layers[one].constant]
        if not constants:
            return ""
        main = max(constants, key=lambda one: _count(self._constant(one).shape))
        return f"{re.sub(r'[0-9]+', '#', self._layers[main].name)} {self._constant(main).shape}"

    def _operand(self, number: str, kind: str, main: str) -> str | None:
        """Return the constant that the first operation of a kind takes besides the weight."""
        for one in self._below(number):
            if self._layers[one].kind != kind:
                continue
            for source in self._inputs[one]:
                below = list(self._below(source))
                if main not in below:
                    return next((found for found in below if self._layers[found].constant), None)
        return None

    def _below(self, number: str) -> Iterator[str]:
        yield number
        for source in self._inputs.get(number, ()):
            yield from self._below(source)

    def _constant(self, number: str) -> Constant:
        found = self._layers[number].constant
        if found is None:
            raise IrError(f"{self._layers[number].name} is not a constant")
        return found

    def _value(self, number: str) -> np.ndarray:
        layer = self._layers[number]
        if layer.constant is not None:
            return self._read(layer.constant)
        values = [self._value(one) for one in self._inputs[number]]
        try:
            return _OPERATIONS[layer.kind](values, layer.target)
        except (ValueError, IndexError) as error:
            raise IrError(f"{layer.name}: {error}") from None

    def _read(self, constant: Constant) -> np.ndarray:
        data = self._data[constant.offset : constant.offset + constant.size]
        kind, count = constant.kind, _count(constant.shape)
        if kind in PACKED:
            halves = np.stack([data & 15, data >> 4], -1).reshape(-1)[:count].astype(np.int8)
            values = (halves ^ 8) - 8 if PACKED[kind] else halves  # of two's complement
        elif kind in BROAD:
            values = from_bfloat16(data.view(np.uint16))
        elif kind in INTEGERS or kind in FLOATS:
            values = data.view({**INTEGERS, **FLOATS}[kind])
        else:
            raise IrError(f"constants of type {kind} are not read")
        if len(values) != count:
            raise IrError(f"a constant of shape {list(constant.shape)} is cut off")
        return np.asarray(values).reshape(constant.shape)


def _layer(element: ET.Element) -> _Layer:
    data = element.find("data")
    attributes = {} if data is None else data.attrib
    constant = None
    if element.get("type") == "Const":
        constant = Constant(
            attributes["element_type"],
            tuple(int(one) for one in attributes["shape"].split(",") if one.strip()),
            int(attributes["offset"]),
            int(attributes["size"]),
        )
    return _Layer(
        element.get("name", ""),
        element.get("type", ""),
        constant,
        attributes.get("destination_type", ""),
    )


def _inputs(root: ET.Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for edge in root.iterfind("edges/edge"):
        place = (int(edge.attrib["to-port"]), edge.attrib["from-layer"])
        found.setdefault(edge.attrib["to-layer"], []).append(place)
    return {number: tuple(source for _, source in sorted(ports)) for number, ports in found.items()}


def _readers(inputs: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[tuple[str, int], ...]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for node, sources in inputs.items():
        for port, source in enumerate(sources):
            found.setdefault(source, []).append((node, port))
    return {source: tuple(nodes) for source, nodes in found.items()}


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _convert(values: list[np.ndarray], target: str) -> np.ndarray:
    # All in float32: a scale in float16 is multiplied in what the runtime computes in.
    kind = np.float32 if target in {*FLOATS, *BROAD} else INTEGERS.get(target)
    if kind is None:
        raise IrError(f"a conversion to {target} is not read")
    return values[0].astype(kind)


def _both(values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    first, second = values
    return first.astype(np.float32), second.astype(np.float32)


def _reshape(values: list[np.ndarray], _target: str) -> np.ndarray:
    return values[0].reshape([int(one) for one in values[1].reshape(-1)])


def _transpose(values: list[np.ndarray], _target: str) -> np.ndarray:
    return values[0].transpose([int(one) for one in values[1].reshape(-1)])


_OPERATIONS: Mapping[str, Callable[[list[np.ndarray], str], Any]] = {
    "Convert": _convert,
    "Subtract": lambda values, _: np.subtract(*_both(values)),
    "Multiply": lambda values, _: np.multiply(*_both(values)),
    "Reshape": _reshape,
    "Transpose": _transpose,
}
