"""What of a model decides how much memory it takes: read from headers, written into pinned URLs.

    p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64

p parameters, e those of the tables of tokens, v vocabulary, h hidden size, i intermediate size of
the MLP, a attention heads, t 1 if one table serves for input and output, c a group of layers with a
KV cache: layers x heads x size of a key x size of a value, and w with a window of tokens. s, if the
model also has layers that keep a state instead of a cache: bytes of it for one sequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["CacheLayers", "ModelShape", "parse_shape", "shape_problem"]

SHAPE_PATTERN: Final = (
    r"p[0-9]{1,15}\.e[0-9]{1,15}\.v[0-9]{1,9}\.h[0-9]{1,7}\.i[0-9]{1,9}\.a[0-9]{1,5}\.t[01]"
    r"(\.s[0-9]{1,12})?(\.c[0-9]{1,5}x[0-9]{1,5}x[0-9]{1,6}x[0-9]{1,6}(w[0-9]{1,9})?){0,16}"
)
_SCALARS: Final = {
    "p": "parameters",
    "e": "table_parameters",
    "v": "vocabulary",
    "h": "hidden",
    "i": "intermediate",
    "a": "heads",
    "t": "tied",
    "s": "state_bytes",
}
_CACHE: Final = re.compile(r"c([0-9]+)x([0-9]+)x([0-9]+)x([0-9]+)(?:w([0-9]+))?")
# Least and most of each number: more than ten times those of any published model.
_RANGES: Final = {
    "p": (1, 10**14),
    "v": (1, 10**8),
    "h": (1, 10**6),
    "i": (0, 10**8),
    "a": (1, 10**4),
    "s": (0, 10**12),
}
_CACHE_RANGES: Final = {
    "layers": (1, 10**4),
    "heads": (1, 10**4),
    "key_size": (1, 10**5),
    "value_size": (0, 10**5),
    "window": (1, 10**9),
}
_MOST_ELEMENTS: Final = 10**8  # of one token in one group of layers


@dataclass(frozen=True, slots=True)
class CacheLayers:
    """Layers with equal KV caches.

    Attributes:
        layers: how many.
        heads: of keys and values; fewer than those of the attention with GQA, 1 with MQA. A latent
            cache (MLA) is one head whose value has no size.
        key_size: elements of one head's key.
        value_size: elements of one head's value.
        window: tokens that a layer looks back on at most; None: all.
    """

    layers: int
    heads: int
    key_size: int
    value_size: int
    window: int | None = None

    @property
    def elements(self) -> int:
        """Elements that one token takes in all of these layers.

        layers x heads x (key_size + value_size); with equal sizes the well-known
        2 x layers x heads x head_size.
        """
        return self.layers * self.heads * (self.key_size + self.value_size)

    @property
    def vectors(self) -> int:
        """Keys and values of one token, each of which has a scale in a quantised cache."""
        return self.layers * self.heads * (bool(self.key_size) + bool(self.value_size))


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model.

    Attributes:
        parameters: elements of all tensors; of tied tables, one.
        table_parameters: those of the tables of tokens (embedding, output), which quantisers leave
            in 16 or 8 bits.
        vocabulary: rows of the output.
        hidden: size of the residual stream.
        intermediate: of the MLP, of all experts that compute one token; 0: not stated.
        heads: of the attention.
        tied: one table is both embedding and output.
        caches: groups of layers with a KV cache.
        state_bytes: of layers that keep a state, for one sequence.
    """

    parameters: int
    table_parameters: int
    vocabulary: int
    hidden: int
    intermediate: int
    heads: int
    tied: bool
    caches: tuple[CacheLayers, ...]
    state_bytes: int = 0

    @property
    def inner_parameters(self) -> int:
        """Parameters of the layers, without the tables."""
        return self.parameters - self.table_parameters

    @property
    def table(self) -> int:
        """Parameters of one table."""
        return self.vocabulary * self.hidden

    @property
    def layers(self) -> int:
        """Layers with a KV cache."""
        return sum(one.layers for one in self.caches)

    @property
    def cache_elements(self) -> int:
        """Elements that one token takes in the KV cache."""
        return sum(one.elements for one in self.caches)

    def __str__(self) -> str:
        """Return the text that `parse_shape` reads."""
        values = {letter: int(getattr(self, name)) for letter, name in _SCALARS.items()}
        if not self.state_bytes:
            del values["s"]
        scalars = [f"{letter}{value}" for letter, value in values.items()]
        return ".".join((*scalars, *map(_cache_text, self.caches)))


def parse_shape(text: str) -> ModelShape:
    """Return the shape that a URL states.

    Raises ValueError: another text, or numbers that no model has.
    """
    if not re.fullmatch(SHAPE_PATTERN, text):
        raise ValueError(f"{text!r} is not the shape of a model")
    shape = _parsed(text)
    if problem := shape_problem(shape):
        raise ValueError(f"{text!r} is not the shape of a model: {problem}")
    return shape


def shape_problem(shape: ModelShape) -> str:
    """Return why no model has these sizes; empty if one may have them."""
    for letter, (least, most) in _RANGES.items():
        value = int(getattr(shape, _SCALARS[letter]))
        if not least <= value <= most:
            return f"{letter}{value} must be from {least} to {most}"
    if not 0 <= shape.table_parameters < shape.parameters:
        return f"e{shape.table_parameters} must be less than p{shape.parameters}"
    if shape.table > shape.parameters:
        return f"a table of v{shape.vocabulary} x h{shape.hidden} is more than p{shape.parameters}"
    if not shape.caches:
        return "it has no layers with a KV cache (c)"
    return next(filter(None, map(_cache_problem, shape.caches)), "")


def _cache_problem(one: CacheLayers) -> str:
    for name, (least, most) in _CACHE_RANGES.items():
        value = getattr(one, name)
        if value is not None and not least <= value <= most:
            return f"{name} of {_cache_text(one)} must be from {least} to {most}"
    if one.elements > _MOST_ELEMENTS:
        return f"a token takes {one.elements} elements of {_cache_text(one)}"
    return ""


def _parsed(text: str) -> ModelShape:
    parts = text.split(".")
    numbers = {part[0]: int(part[1:]) for part in parts if part[0] != "c"}
    caches = tuple(_cache(part) for part in parts if part[0] == "c")
    return ModelShape(
        parameters=numbers["p"],
        table_parameters=numbers["e"],
        vocabulary=numbers["v"],
        hidden=numbers["h"],
        intermediate=numbers["i"],
        heads=numbers["a"],
        tied=bool(numbers["t"]),
        caches=caches,
        state_bytes=numbers.get("s", 0),
    )


def _cache(part: str) -> CacheLayers:
    match = _CACHE.fullmatch(part)
    assert match is not None  # noqa: S101  SHAPE_PATTERN holds
    layers, heads, key, value, window = match.groups()
    return CacheLayers(
        int(layers), int(heads), int(key), int(value), None if window is None else int(window)
    )


def _cache_text(one: CacheLayers) -> str:
    window = "" if one.window is None else f"w{one.window}"
    return f"c{one.layers}x{one.heads}x{one.key_size}x{one.value_size}{window}"
