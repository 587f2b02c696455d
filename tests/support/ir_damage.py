"""Damage the constants of an engine in OpenVINO IR, in the ways in which a compiler goes wrong."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["DAMAGES", "Engine"]

MODEL = "openvino_model"
FLOATS = {"f16": np.float16, "f32": np.float32}
ORIGINAL = "._openvino_orig_"


@dataclass(frozen=True)
class Stored:
    """A constant: its element type, its shape, and its place in the file of weights."""

    kind: str
    shape: tuple[int, ...]
    start: int
    size: int


class Engine:
    """The constants of an engine, which can be changed; `save` writes them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{MODEL}.bin"
        self.data = np.fromfile(self.path, np.uint8)
        self.constants: dict[str, Stored] = {}
        for layer in ET.parse(folder / f"{MODEL}.xml").getroot().iterfind("layers/layer"):  # noqa: S314
            found = layer.find("data")
            if layer.get("type") != "Const" or found is None:
                continue
            text = found.attrib
            shape = tuple(int(one) for one in text["shape"].split(",") if one.strip())
            stored = Stored(text["element_type"], shape, int(text["offset"]), int(text["size"]))
            self.constants[str(layer.get("name"))] = stored

    def save(self) -> None:
        self.data.tofile(self.path)

    def bytes_of(self, name: str) -> np.ndarray:
        """The bytes of a constant, a row of the matrix in each row."""
        one = self.constants[name]
        return self.data[one.start : one.start + one.size].reshape(one.shape[0], -1)

    def floats_of(self, name: str) -> np.ndarray:
        one = self.constants[name]
        found: np.ndarray = self.data[one.start : one.start + one.size].view(FLOATS[one.kind])
        return found

    def matrix(self) -> str:
        """Name of the largest matrix of the layer in the middle."""
        numbered = {
            name: int(layer[1])
            for name, one in self.constants.items()
            if len(one.shape) > 1
            and name.endswith(f"{ORIGINAL}weight")
            and (layer := re.search(r"\.(\d+)\.", name))
        }
        middle = sorted(set(numbered.values()))[len(set(numbered.values())) // 2]
        inside = [name for name, number in numbered.items() if number == middle]
        return max(inside, key=lambda name: self.constants[name].size)

    def norms(self) -> list[str]:
        """Names of the vectors that the exporter gave no name, in the order of the graph."""
        return [
            name
            for name, one in self.constants.items()
            if one.kind == "f32" and one.shape[:-1] == (1, 1) and one.shape[-1] > 1
        ]

    def biases(self) -> list[str]:
        """Names of the biases."""
        return [name for name in self.constants if name.endswith(f"{ORIGINAL}bias")]


def row(engine: Engine) -> None:
    """Set one row of a matrix to zero: for codes, to the least value."""
    engine.bytes_of(engine.matrix())[3] = 0


def heads(engine: Engine) -> None:
    """Exchange two blocks of 16 rows of a matrix."""
    rows = engine.bytes_of(engine.matrix())
    rows[:32] = np.roll(rows[:32], 16, 0)


def norm(engine: Engine) -> None:
    """Scale a norm by 1.01."""
    engine.floats_of(engine.norms()[2])[:] *= np.float32(1.01)


def norms(engine: Engine) -> None:
    """Exchange two vectors without names."""
    first, second = (engine.floats_of(name) for name in engine.norms()[2:4])
    first[:], second[:] = second.copy(), first.copy()


def noise(engine: Engine) -> None:
    """Write random bytes over 1 of 2,048 of the weights' file, from 60 %."""
    start, count = len(engine.data) * 6 // 10, len(engine.data) // 2048
    engine.data[start : start + count] = np.random.default_rng(1).integers(0, 256, count)


def scale(engine: Engine) -> None:
    """Multiply one scale of a matrix by 1.01."""
    engine.floats_of(f"{engine.matrix()}/scale")[5] *= np.float16(1.01)


def bias(engine: Engine) -> None:
    """Multiply a bias by 1.01."""
    engine.floats_of(engine.biases()[0])[:] *= np.float16(1.01)


DAMAGES: dict[str, Callable[[Engine], None]] = {
    one.__name__: one for one in (row, heads, norm, norms, noise, scale, bias)
}
