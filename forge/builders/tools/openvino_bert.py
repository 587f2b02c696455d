"""The graph of a BERT encoder with its pooling, made with OpenVINO's operations.

From tokens of texts to one vector each. Places where the attention mask is 0 get no weight, so that
a text's vector is the same alone and in a batch with longer ones. Every tensor of the checkpoint is
used or named in UNUSED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

# Part of every BertModel and no part of the vectors of tokens.
UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
# Added to the attention of padding, whose weight is exp(LOWEST) = 0 then. Float16 has it exactly:
# constants of the IR have 16 bits.
LOWEST = -30000.0
Take = Callable[[str], Any]


class Tensors:
    """The checkpoint's tensors; remembers which were taken."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays = arrays
        self.prefix = "bert." if any(name.startswith("bert.") for name in arrays) else ""
        self.taken = {self.prefix + name for name in UNUSED}

    def take(self, name: str) -> Any:
        """Return a tensor as float32. Raises KeyError if the checkpoint lacks it."""
        full = self.prefix + name
        self.taken.add(full)
        return np.ascontiguousarray(self.arrays[full], dtype=np.float32)

    def left(self) -> list[str]:
        """Return the names of tensors that were not taken."""
        return sorted(set(self.arrays) - self.taken)


def encoder(
    config: Mapping[str, Any], tensors: Tensors, *, pooling: str, normalize: bool
) -> ov.Model:
    """Return the graph: input_ids and attention_mask [texts, tokens] → embeddings [texts, width].

    Args:
        config: config.json, whose fields were checked.
        tensors: of the checkpoint.
        pooling: `mean` or `cls`.
        normalize: whether vectors get length 1.
    """
    take, epsilon = tensors.take, float(config.get("layer_norm_eps", 1e-12))
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    mask = ops.parameter([-1, -1], np.int64, name="attention_mask")
    weights = ops.convert(mask, "f32")
    found = _embedded(ids, take, epsilon)
    bias = ops.multiply(
        ops.subtract(np.float32(1.0), ops.unsqueeze(weights, np.array([1, 2]))), np.float32(LOWEST)
    )
    heads = int(config["num_attention_heads"])
    for number in range(int(config["num_hidden_layers"])):
        found = _layer(found, bias, heads, _named(take, f"encoder.layer.{number}."), epsilon)
    pooled = _mean(found, weights) if pooling == "mean" else _first(found)
    if normalize:
        pooled = ops.normalize_l2(pooled, np.array([1]), 1e-24, "max")  # of the sum of squares
    result = ops.result(pooled)
    for value, name in ((ids, "input_ids"), (mask, "attention_mask"), (pooled, "embeddings")):
        value.output(0).set_names({name})
    return ov.Model([result], [ids, mask], "bert_embeddings")


def _named(take: Take, prefix: str) -> Take:
    return lambda name: take(prefix + name)


def _embedded(ids: Any, take: Take, epsilon: float) -> Any:
    """Words, places and the one kind of sentence, added."""
    axis = np.int64(0)
    words = ops.gather(take("embeddings.word_embeddings.weight"), ids, axis)
    count = ops.gather(ops.shape_of(ids), np.int64(1), axis)
    places = ops.range(np.int64(0), count, np.int64(1), "i64")
    place = ops.gather(take("embeddings.position_embeddings.weight"), places, axis)
    kind = take("embeddings.token_type_embeddings.weight")[0]
    found = ops.add(ops.add(words, place), kind)
    return _normal(found, _named(take, "embeddings.LayerNorm."), epsilon)


def _layer(given: Any, bias: Any, heads: int, take: Take, epsilon: float) -> Any:
    attention = _named(take, "attention.")
    query, key, value = (
        _split(_linear(given, _named(attention, f"self.{name}.")), heads)
        for name in ("query", "key", "value")
    )
    mixed = ops.scaled_dot_product_attention(query, key, value, bias)
    joined = ops.reshape(ops.transpose(mixed, np.array([0, 2, 1, 3])), np.array([0, 0, -1]), True)
    joined = _linear(joined, _named(attention, "output.dense."))
    found = _normal(ops.add(joined, given), _named(attention, "output.LayerNorm."), epsilon)
    inner = ops.gelu(_linear(found, _named(take, "intermediate.dense.")), "erf")
    outer = _linear(inner, _named(take, "output.dense."))
    return _normal(ops.add(outer, found), _named(take, "output.LayerNorm."), epsilon)


def _split(given: Any, heads: int) -> Any:
    """[texts, tokens, width] → [texts, heads, tokens, width of a head]."""
    parts = ops.reshape(given, np.array([0, 0, heads, -1]), True)
    return ops.transpose(parts, np.array([0, 2, 1, 3]))


def _linear(given: Any, take: Take) -> Any:
    return ops.add(ops.matmul(given, take("weight"), False, True), take("bias"))


def _normal(given: Any, take: Take, epsilon: float) -> Any:
    found = ops.mvn(given, np.array([-1]), True, epsilon, "inside_sqrt")
    return ops.add(ops.multiply(found, take("weight")), take("bias"))


def _mean(found: Any, weights: Any) -> Any:
    """Mean over the tokens of a text, as sentence-transformers computes it."""
    axis = np.array([1])
    summed = ops.reduce_sum(ops.multiply(found, ops.unsqueeze(weights, np.array([2]))), axis)
    count = ops.reduce_sum(weights, axis, True)
    return ops.divide(summed, ops.maximum(count, np.float32(1e-9)))


def _first(found: Any) -> Any:
    return ops.gather(found, np.int64(0), np.int64(1))
