"""The sizes of a model, as the headers of its checkpoint state them; for forge.memory.

Names of config.json are those of transformers' configurations, names of GGUF those of llama.cpp
(gguf-py/gguf/constants.py). What cannot be understood has no shape, and its memory is not computed:
a model with other layers than attention (Mamba, convolutions), or with numbers by layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

from forge.builders.tools.gguf_header import GgufHeader
from forge.memory.shape import CacheLayers, ModelShape

__all__ = ["shape_of_config", "shape_of_gguf"]

_LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers")
_HIDDEN: Final = ("hidden_size", "n_embd", "d_model")
_HEADS: Final = ("num_attention_heads", "n_head", "num_heads")
_KV_HEADS: Final = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_INTERMEDIATE: Final = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_EXPERT: Final = ("moe_intermediate_size", *_INTERMEDIATE)
_EXPERTS_USED: Final = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
# Endings of the names of tables; the last part before them is a prefix such as `model.`.
_INPUT_TABLES: Final = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight"),
    *("tok_embeddings.weight", "token_embd.weight"),
)
_OUTPUT_TABLES: Final = ("lm_head.weight", "embed_out.weight")
_GGUF_OUTPUT: Final = "output.weight"
# Tensors that older versions of transformers wrote and that are computed when a model is loaded:
# causal masks, positions, rotary tables.
_BUFFER: Final = re.compile(
    r"(?:.*\.)?(?:(?:attn|attention)\.(?:masked_)?bias|masked_bias|causal_mask|position_ids"
    r"|inv_freq|(?:cos|sin)_cached)"
)
_FULL, _SLIDING = "full_attention", "sliding_attention"
_EVERY: Final = {"gemma2": 2, "gemma3_text": 6, "gpt_oss": 2, "cohere2": 4}
"""Families of which each nth layer looks back on all tokens, where config.json does not say so."""


class _Tensor(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def elements(self) -> int: ...


def shape_of_config(
    config: Mapping[str, Any], tensors: Sequence[_Tensor], *, packed: bool = False
) -> ModelShape | None:
    """Return the sizes of a Hugging Face checkpoint; None if they are not understood.

    Args:
        config: config.json.
        tensors: of its weights; buffers among them do not count.
        packed: the weights are quantised, so that elements are not parameters: None is returned.
    """
    tensors = [tensor for tensor in tensors if not _BUFFER.fullmatch(tensor.name)]
    hidden, heads, layers = (_number(config, names) for names in (_HIDDEN, _HEADS, _LAYERS))
    vocabulary = _number(config, ("vocab_size",))
    if packed or not (hidden and heads and layers and vocabulary):
        return None
    caches = _caches(config, tensors, layers, heads, hidden)
    if caches is None:
        return None
    inputs, outputs = _elements(tensors, _INPUT_TABLES), _elements(tensors, _OUTPUT_TABLES)
    tied = not outputs or config.get("tie_word_embeddings") is True
    dropped = outputs if tied else 0  # transformers loads a tied output from the input's table
    return ModelShape(
        parameters=sum(tensor.elements for tensor in tensors) - dropped,
        table_parameters=inputs + outputs - dropped,
        vocabulary=vocabulary,
        hidden=hidden,
        intermediate=_intermediate(config, hidden),
        heads=heads,
        tied=tied,
        caches=caches,
    )


def shape_of_gguf(header: GgufHeader) -> ModelShape | None:
    """Return the sizes of a GGUF file's model; None if they are not understood."""

    def number(key: str) -> int:
        return header.integer(f"{header.architecture}.{key}")

    layers, hidden = number("block_count"), number("embedding_length")
    heads = number("attention.head_count")
    tables = [one for one in header.tensors if one.name in {"token_embd.weight", _GGUF_OUTPUT}]
    stateful = any(".ssm_" in one.name or ".shortconv." in one.name for one in header.tensors)
    if not (layers and hidden and heads and tables) or stateful:
        return None
    entry = next((one for one in tables if one.name != _GGUF_OUTPUT), tables[0])
    head = hidden // heads
    key = number("attention.key_length") or head
    value = number("attention.value_length") or head
    kv_heads = number("attention.head_count_kv") or heads
    if _differs(header.tensors, "attn_k.weight", kv_heads * key * hidden):
        return None  # numbers by layer, of which a header gives only how many they are
    windows = _windows(header.model_type, layers, number("attention.sliding_window") or None)
    used = number("expert_used_count") or 1
    width = number("expert_feed_forward_length") or number("feed_forward_length")
    return ModelShape(
        parameters=header.parameters,
        table_parameters=sum(one.elements for one in tables),
        vocabulary=entry.elements // hidden,
        hidden=hidden,
        intermediate=used * width,
        heads=heads,
        tied=all(one.name != _GGUF_OUTPUT for one in tables),
        caches=_grouped(kv_heads, key, value, windows),
    )


def _caches(
    config: Mapping[str, Any], tensors: Sequence[_Tensor], layers: int, heads: int, hidden: int
) -> tuple[CacheLayers, ...] | None:
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and not {_FULL, _SLIDING}.issuperset(map(str, kinds)):
        return None
    if any(key.startswith(("mamba_", "ssm_", "linear_", "conv_")) for key in config):
        return None
    if latent := _number(config, ("kv_lora_rank",)):  # MLA: one vector for all heads
        rope = _number(config, ("qk_rope_head_dim",))
        return (CacheLayers(layers, 1, latent + rope, 0),)
    head = _number(config, ("head_dim",)) or hidden // heads
    kv_heads = _kv_heads(config, heads)
    if _differs(tensors, "k_proj.weight", kv_heads * head * hidden):
        return None
    window = _number(config, ("sliding_window",)) or None
    if config.get("use_sliding_window") is False:
        window = None
    if isinstance(kinds, list) and len(kinds) == layers:
        windows = [window if kind == _SLIDING else None for kind in kinds]
    elif (full := _number(config, ("max_window_layers",))) and window:
        windows = [None if layer < full else window for layer in range(layers)]
    else:
        model = str(config.get("model_type"))
        every = _number(config, ("sliding_window_pattern",)) or None
        windows = _windows(model, layers, window, every)
    return _grouped(kv_heads, head, head, windows)


def _kv_heads(config: Mapping[str, Any], heads: int) -> int:
    """Return the heads of keys and values.

    Falcon's configuration states one head as multi_query, unless it has the newer architecture.
    """
    if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:
        return 1
    return _number(config, _KV_HEADS) or heads


def _windows(
    model: str, layers: int, window: int | None, every: int | None = None
) -> list[int | None]:
    """Return the window of each layer.

    Args:
        model: `model_type`.
        layers: how many there are.
        window: of the layers that have one.
        every: each nth layer has none; None: as the family is known to, or all layers have one.
    """
    pattern = every or _EVERY.get(model)
    if pattern is None:
        return [window] * layers
    return [None if (layer + 1) % pattern == 0 else window for layer in range(layers)]


def _grouped(
    heads: int, key: int, value: int, windows: Iterable[int | None]
) -> tuple[CacheLayers, ...]:
    ordered = sorted(windows, key=lambda window: window or 0)
    return tuple(
        CacheLayers(len(list(group)), heads, key, value, window)
        for window, group in groupby(ordered)
    )


def _intermediate(config: Mapping[str, Any], hidden: int) -> int:
    """Return the width of the MLP: that of all experts which compute one token."""
    used = _number(config, _EXPERTS_USED)
    if used:
        return used * _number(config, _EXPERT)
    return _number(config, _INTERMEDIATE) or 4 * hidden


def _differs(tensors: Sequence[_Tensor], ending: str, elements: int) -> bool:
    """Return whether a projection to keys has another size than the fields say."""
    return any(one.name.endswith(ending) and one.elements != elements for one in tensors)


def _elements(tensors: Sequence[_Tensor], endings: tuple[str, ...]) -> int:
    return sum(tensor.elements for tensor in tensors if tensor.name.endswith(endings))


def _number(config: Mapping[str, Any], names: Sequence[str]) -> int:
    """Return the first of several fields that is a positive integer; 0 if none is."""
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    return 0
