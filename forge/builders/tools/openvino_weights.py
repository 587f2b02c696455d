"""Compare each weight of an OpenVINO engine with the checkpoint's, value by value.

Divergence on a text does not show noise in few of the weights; here each value of the engine must
be within what its quantiser may round. Requires numpy, and package gguf for a GGUF file.

What is allowed follows from the checkpoint's own values, not from the engine's scales, so that a
damaged scale allows nothing. In steps of the quantiser, which are the range of a group by the
number of levels: half a step where zero is fixed, 0.6 where a zero point is rounded as well (NNCF
3.4.0 had 0.51 at most in the 135 million values of SmolLM2), and what float16 rounds of the scale.
A weight without a scale: half a unit in the last place.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gguf_header
import ir_weights
import numpy as np
import openvino_gguf
import safetensors_file
from cast_check import from_bfloat16
from ir_weights import Weight

MODEL = "openvino_model.xml"
MOST_NAMED = 8
SAMPLE_ROWS = 8
FP16_ULP, BF16_ULP = 2.0**-11, 2.0**-8  # half a unit in the last place, relative
FP16_LEAST = 2.0**-24  # the least float16, of scales and values
MARGIN = 1.02
OTHER_TENSOR = 0.5  # mean difference by mean size from which a vector is not that of the checkpoint
# `model.architecture` of engine.json → requested precisions in which an honest engine was compared
# and every tensor found in it, by its name or by its values. Of the others, tensors are compared
# that have their names in the engine: an exporter may write 1 + w for a norm w, or stack experts.
_EXPORTED = ("fp16", "int8")
MEASURED: Mapping[str, tuple[str, ...]] = {
    "codegen": ("fp16",),
    "gemma3_text": _EXPORTED,
    "gpt2": _EXPORTED,
    "gpt_neox": _EXPORTED,
    "gptj": ("fp16",),
    "mixtral": _EXPORTED,
    "phi3": _EXPORTED,
}
COMPLETE = ("llama",)  # the same, in every precision
# Families whose norms multiply by 1 + w, which the exporter writes as one constant.
NORMS_PLUS_ONE = ("gemma3_text",)
_NORM = re.compile(r"norm\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:blk|layers|h)\.(\d+)\.")


class WeightsError(Exception):
    """The engine or the checkpoint cannot be read for the comparison."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of the checkpoint.

    Attributes:
        name: in its file.
        shape: rows first.
        kept: the engine has its values as they are: no step of rounding is allowed.
        sample_rows: whole rows to tell tensors of one shape apart by.
        load: returns so many of its first rows, float32; all for None.
    """

    name: str
    shape: tuple[int, ...]
    kept: bool
    sample_rows: int
    load: Callable[[int | None], np.ndarray] = field(repr=False)

    @property
    def elements(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass
class Found:
    """What the comparison found so far."""

    tensors: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    layer: int = 0
    places: dict[str, ir_weights.Place] = field(default_factory=dict)


def compare(engine: Path, checkpoint: Path) -> dict[str, Any]:
    """Return the content of weights.json. Raises WeightsError."""
    try:
        facts = json.loads((engine / "engine.json").read_bytes())
        asked, family = facts["precision"]["asked"], facts["model"]["architecture"]
        complete = family in COMPLETE or asked in MEASURED.get(family, ())
        graph = ir_weights.Ir(engine / MODEL)
        tensors = _tensors(checkpoint)
        if family in NORMS_PLUS_ONE:
            tensors = [_plus_one(one) if _NORM.search(one.name) else one for one in tensors]
        ulp = BF16_ULP if asked == "bf16" else FP16_ULP
        found = _compared(graph, tensors, ulp, complete=complete)
        return _document(found, tensors, complete=complete)
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = type(error).__name__
        raise WeightsError(f"the weights cannot be compared: {kind}: {error}") from None
    except (
        ir_weights.IrError,
        gguf_header.GgufError,
        safetensors_file.SafetensorsError,
    ) as error:
        raise WeightsError(str(error)) from None


def _compared(
    graph: ir_weights.Ir, tensors: Sequence[Tensor], ulp: float, *, complete: bool
) -> Found:
    found, matcher = Found(), Matcher(tensors, by_values=complete)
    for weight in graph.weights():
        values = weight.load()
        match = matcher.match(weight, values)
        if match is None:
            if weight.groups and complete:
                found.problems.append(f"{weight.name} is none of the checkpoint's tensors")
            continue
        tensor = match.tensor
        _note_order(found, tensor)
        if match.by_values and not match.ambiguous:
            found.places[tensor.name] = weight.place()
        steps = worst(weight, values, tensor, ulp)
        found.tensors[tensor.name] = max(steps, found.tensors.get(tensor.name, 0.0))
        if steps > 1:
            found.problems.append(f"{tensor.name} differs by {steps:.3g} times what is allowed")
    found.problems.extend(exchanged(found.places))
    return found


def exchanged(places: Mapping[str, ir_weights.Place]) -> Iterator[str]:
    """Yield the tensors of a layer that are in each other's place, as most other layers show.

    The two norms of a layer have one shape and no names in the engine, and each is a tensor of the
    checkpoint: their values alone do not show that they were exchanged.
    """
    layers: dict[str, dict[str, ir_weights.Place]] = {}
    for name, place in places.items():
        if named := _LAYER.search(name):
            kind = f"{name[: named.start(1)]}#{name[named.end(1) :]}"
            layers.setdefault(named[1], {})[kind] = place
    for number, own in layers.items():
        others = [one for other, one in layers.items() if other != number]
        for first, second in itertools.combinations(sorted(own), 2):
            if own[first] == own[second]:
                continue
            against = sum(
                one.get(first) == own[second] and one.get(second) == own[first] for one in others
            )
            if against * 2 > len(others):
                names = [kind.replace("#", number) for kind in (first, second)]
                yield f"{names[0]} and {names[1]} are in each other's place"


def _note_order(found: Found, tensor: Tensor) -> None:
    """Note a tensor of an earlier layer than that of the weight before: tensors were exchanged."""
    named = _LAYER.search(tensor.name)
    if named is None:
        return
    if int(named[1]) < found.layer:
        found.problems.append(f"{tensor.name} is in the engine behind layer {found.layer}")
    found.layer = max(found.layer, int(named[1]))


def _document(found: Found, tensors: Sequence[Tensor], *, complete: bool) -> dict[str, Any]:
    missing = [one.name for one in tensors if one.name not in found.tensors]
    lacking = [f"{name} is not in the engine" for name in missing] if complete else []
    problems = [*found.problems, *lacking]
    name = max(found.tensors, key=lambda one: found.tensors[one], default="")
    share = found.tensors.get(name, 0.0)
    return {
        "schema_version": 1,
        "tensors": len(tensors),
        "compared": len(found.tensors),
        "worst": {"tensor": name, "of_allowed": round(share, 4) if np.isfinite(share) else None},
        "problems": problems[:MOST_NAMED],
        "problem_count": len(problems),
    }


def worst(weight: Weight, values: np.ndarray, tensor: Tensor, ulp: float) -> float:
    """Return the largest difference of a weight from a tensor, by what is allowed at its place."""
    expected = _oriented(tensor.load(None), values).reshape(weight.stored)
    allowed = _allowed(weight, expected, ulp, kept=tensor.kept)
    with np.errstate(invalid="ignore"):  # of a damaged engine: infinity, and what is not a number
        share = np.abs(values.reshape(weight.stored) - expected) / allowed
    most = float(share.max())
    return most if np.isfinite(most) else float("inf")


def _allowed(weight: Weight, expected: np.ndarray, ulp: float, *, kept: bool) -> np.ndarray:
    if not weight.groups or kept:
        relative = 2 * FP16_ULP if weight.groups else ulp
        return np.asarray(np.abs(expected) * (relative * MARGIN) + FP16_LEAST)
    levels = ir_weights.LEVELS[weight.kind]
    pairs = zip(weight.stored, weight.groups, strict=True)
    axes = tuple(at for at, (size, groups) in enumerate(pairs) if groups == 1 and size > 1)
    most = np.maximum(expected.max(axes, keepdims=True), 0)
    least = np.minimum(expected.min(axes, keepdims=True), 0)
    if weight.centred:
        step, rounded = np.maximum(most, -least) / (levels // 2), 0.5
    else:
        step, rounded = (most - least) / levels, 0.6
    return np.asarray(
        step * (rounded + levels * FP16_ULP) * MARGIN + levels * FP16_LEAST, np.float32
    )


def _oriented(expected: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a tensor as the engine has it: some exporters transpose a matrix."""
    shape = tuple(size for size in values.shape if size > 1)
    own = tuple(size for size in expected.shape if size > 1)
    return expected.T if shape != own and shape == own[::-1] else expected


@dataclass(frozen=True)
class Match:
    """Which tensor a weight is.

    Attributes:
        tensor: of the checkpoint.
        by_values: the weight has no name, or none of the checkpoint's.
        ambiguous: other tensors have the same values.
    """

    tensor: Tensor
    by_values: bool = False
    ambiguous: bool = False


class Matcher:
    """Tells which tensor of the checkpoint a weight is: by its name, or by its first values."""

    def __init__(self, tensors: Sequence[Tensor], *, by_values: bool) -> None:
        self._by_values = by_values
        self._by_name = {one.name: one for one in tensors}
        self._by_size: dict[int, list[Tensor]] = {}
        for one in tensors:
            self._by_size.setdefault(one.elements, []).append(one)
        self._samples: dict[str, np.ndarray] = {}
        self._used: set[str] = set()

    def match(self, weight: Weight, values: np.ndarray) -> Match | None:
        """Return the tensor; None if no tensor is like the weight.

        A weight with scales is always one of its size, however different its values are. Of equal
        tensors, the first that was not matched before: all norms of a small model may be one.
        """
        for name in _names(weight.name):
            named = self._by_name.get(name)
            if named is not None and named.elements == weight.elements:
                self._used.add(named.name)
                return Match(named)
        if not self._by_values:
            return None
        near = [
            (self._distance(one, values), one) for one in self._by_size.get(weight.elements, ())
        ]
        if not near:
            return None
        least = min(distance for distance, _ in near)
        if not weight.groups and least > OTHER_TENSOR:
            return None
        equal = [one for distance, one in near if distance == least]
        chosen = next((one for one in equal if one.name not in self._used), equal[0])
        self._used.add(chosen.name)
        return Match(chosen, by_values=True, ambiguous=len(equal) > 1)

    def _distance(self, tensor: Tensor, values: np.ndarray) -> float:
        if tensor.name not in self._samples:
            self._samples[tensor.name] = tensor.load(tensor.sample_rows).reshape(-1)
        sample = self._samples[tensor.name]
        found = float(np.abs(values.reshape(-1)[: len(sample)] - sample).mean())
        found /= float(np.abs(sample).mean()) or 1.0
        return found if np.isfinite(found) else float("inf")


def _names(name: str) -> Iterator[str]:
    """Yield the names that a constant of the engine may have in the checkpoint.

    The exporter writes the path of a parameter behind `self`, and one or two modules around the
    model for some families: `self.model.gpt_neox.embed_in._openvino_orig_weight`.
    """
    path = name.replace("._openvino_orig_", ".").split(".")
    for start in range(min(3, len(path))):
        plain = ".".join(path[start:])
        yield from (plain, f"{plain}.weight")


def _tensors(checkpoint: Path) -> list[Tensor]:
    if any(checkpoint.glob("*.gguf")):
        return list(_of_gguf(checkpoint))
    return [_of_safetensors(one) for one in safetensors_file.read_folder(checkpoint).values()]


def _plus_one(tensor: Tensor) -> Tensor:
    return replace(tensor, load=lambda rows: tensor.load(rows) + np.float32(1))


def _of_gguf(checkpoint: Path) -> Iterator[Tensor]:
    header = gguf_header.read_parts(sorted(checkpoint.glob("*.gguf")))
    name = header.architecture
    heads = header.integer(f"{name}.attention.head_count")
    own = {
        "attn_q.weight": heads,
        "attn_k.weight": header.integer(f"{name}.attention.head_count_kv") or heads,
    }
    for one in header.tensors:
        count = own.get(".".join(one.name.split(".")[-2:]), 0) if name == "llama" else 0
        rows = one.elements // one.shape[0]
        kept = openvino_gguf.is_kept(one.kind, one.shape)
        sample = rows // count if count else min(rows, SAMPLE_ROWS)
        load = _gguf_loader(checkpoint, header, one, count)
        yield Tensor(one.name, one.shape[::-1], kept, sample, load)


def _gguf_loader(
    checkpoint: Path,
    header: gguf_header.GgufHeader,
    tensor: gguf_header.GgufTensor,
    heads: int,
) -> Callable[[int | None], np.ndarray]:
    """Return what reads a tensor; with heads, in the order of rows of Hugging Face.

    llama.cpp's converter writes the halves of a head's rotary embedding alternately.
    """

    def load(count: int | None) -> np.ndarray:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        rows = tensor.elements // tensor.shape[0]
        wanted = rows if count is None else count
        start = header.data_starts[header.files.index(tensor.file)] + tensor.offset
        with (checkpoint / tensor.file).open("rb") as file:
            file.seek(start)
            data = np.frombuffer(file.read(tensor.size // rows * wanted), np.uint8)
        values = dequantize(data.reshape(wanted, -1), GGMLQuantizationType[tensor.kind])
        if heads:
            pairs = values.reshape(heads * wanted // rows, rows // heads // 2, 2, -1)
            values = pairs.swapaxes(1, 2)
        return np.asarray(values, np.float32).reshape(wanted, *tensor.shape[:1])

    return load


def _of_safetensors(tensor: safetensors_file.Tensor) -> Tensor:
    kinds: Mapping[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    if tensor.dtype not in kinds:
        raise WeightsError(f"{tensor.name} of type {tensor.dtype} is not read")
    rows = tensor.shape[0] if len(tensor.shape) > 1 else 1

    def load(count: int | None) -> np.ndarray:
        wanted = rows if count is None else count
        shape = (wanted, *tensor.shape[1:]) if len(tensor.shape) > 1 else tensor.shape
        number = int(np.prod(shape, dtype=np.int64))
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            values = np.fromfile(file, kinds[tensor.dtype], number)
        if tensor.dtype == "BF16":
            values = from_bfloat16(values)
        return np.asarray(values, np.float32).reshape(shape)

    return Tensor(tensor.name, tensor.shape, False, min(rows, SAMPLE_ROWS), load)
