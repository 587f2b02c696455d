"""The operator `trt_edgellm::AttentionPlugin` in numpy: rotary embedding, paged cache, attention.

Sources: the schema in onnx/onnx_custom_schemas.py and the docstring of `attention_plugin` in
models/ops.py of the tensorrt-edgellm 0.11.0 wheel.

    qkv                 [T, (Hq + 2·Hkv)·D]   the tokens of all sequences one after the other
    past_key_value      [2, pages, 128, Hkv, D]   one pool; keys, then values
    query_lengths       [B]                   new tokens of each sequence
    rope_rotary_cos_sin [T, D]                `rotation`: of each token, cosines and sines
    past_lengths        [B]                   tokens of each sequence that the cache holds already
    kv_page_table       [B, 2, pages]         `page_table`: of the keys; of the values, + pages

Keys are written to the cache after their rotation. A token attends to the cache up to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PAGE = 128
# Queries computed at once, which bounds the memory for the scores.
QUERIES = 256

# Attributes whose other values select what is not computed here, with the one that is.
ONLY = {
    "enable_tree_attention": 0,
    "enable_fp8_kv_cache": 0,
    "enable_context_mask_selector": 0,
    "enable_vision_block_attention": 0,
    "sliding_window_size": -1,
    "skip_softmax_scale_factor": 0.0,
    "enable_kv_shared": 0,
    "enable_attention_sink": 0,
    "enable_contiguous_query_swa": 0,
}


class AttentionError(Exception):
    """The operator has an attribute that is not computed here."""


@dataclass(frozen=True)
class Heads:
    """The attributes of an AttentionPlugin that are computed here."""

    queries: int
    keys: int
    size: int
    scale: float
    norm: bool
    norm_after_rotation: bool
    epsilon: float


def heads(attributes: dict[str, object]) -> Heads:
    """Read the attributes of a node. Raises AttentionError for what is not computed here."""
    for name, value in ONLY.items():
        if (found := attributes.get(name, value)) != value:
            raise AttentionError(f"AttentionPlugin with {name} {found} is not known")
    size = int(str(attributes["head_size"]))
    scale = float(str(attributes.get("attention_scale") or 0.0))
    return Heads(
        queries=int(str(attributes["num_q_heads"])),
        keys=int(str(attributes["num_kv_heads"])),
        size=size,
        scale=scale or size**-0.5,
        norm=bool(attributes.get("enable_qk_norm")),
        norm_after_rotation=bool(attributes.get("qk_norm_post_rope")),
        epsilon=float(str(attributes.get("rms_norm_eps", 1e-6))),
    )


@dataclass(frozen=True)
class Batch:
    """Where the tokens of a call belong: the inputs of that name in the list above."""

    query_lengths: np.ndarray
    past_lengths: np.ndarray
    page_table: np.ndarray
    rotation: np.ndarray


def attend(
    head: Heads,
    qkv: np.ndarray,
    pool: np.ndarray,
    batch: Batch,
    gammas: tuple[np.ndarray, np.ndarray] | None,
) -> np.ndarray:
    """Return [T, Hq, D] in float16, and write the new keys and values into `pool`."""
    packed = qkv.astype(np.float32).reshape(len(qkv), head.queries + 2 * head.keys, head.size)
    queries, keys, values = np.split(packed, (head.queries, head.queries + head.keys), axis=1)
    queries = _position(head, queries, batch.rotation, gammas[0] if gammas else None)
    keys = _position(head, keys, batch.rotation, gammas[1] if gammas else None)
    flat = pool.reshape(-1, *pool.shape[2:])
    output = np.empty((len(qkv), head.queries, head.size), dtype=np.float16)
    end = 0
    rows = zip(batch.query_lengths, batch.past_lengths, batch.page_table, strict=True)
    for length, past, pages in rows:
        start, end = end, end + int(length)
        total = int(past + length)
        places = np.arange(past, total)
        flat[pages[0][places // PAGE], places % PAGE] = keys[start:end]
        flat[pages[1][places // PAGE], places % PAGE] = values[start:end]
        used = -(-total // PAGE)
        cache = [flat[page[:used]].reshape(-1, head.keys, head.size)[:total] for page in pages]
        output[start:end] = _attention(head, queries[start:end], cache[0], cache[1], int(past))
    return output


def _position(
    head: Heads, vectors: np.ndarray, rotation: np.ndarray, gamma: np.ndarray | None
) -> np.ndarray:
    """Normalise and rotate the heads of each token; the result is rounded to float16."""
    if gamma is not None and not head.norm_after_rotation:
        vectors = _normalise(head, vectors, gamma)
    vectors = _rotate(vectors, rotation)
    if gamma is not None and head.norm_after_rotation:
        vectors = _normalise(head, vectors, gamma)
    return vectors.astype(np.float16).astype(np.float32)


def _normalise(head: Heads, vectors: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    variance = np.square(vectors).mean(axis=-1, keepdims=True)
    return np.asarray(vectors / np.sqrt(variance + head.epsilon) * gamma.astype(np.float32))


def _rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotate pairs of dimensions half a width apart; dimensions past the width stay."""
    half = rotation.shape[1] // 2
    cosine, sine = rotation[:, None, :half], rotation[:, None, half:]
    first, second = vectors[..., :half], vectors[..., half : 2 * half]
    rest = vectors[..., 2 * half :]
    return np.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine, rest], axis=-1
    )


def _attention(
    head: Heads, queries: np.ndarray, keys: np.ndarray, values: np.ndarray, past: int
) -> np.ndarray:
    """Return [S, Hq, D]: each query attends to the first `past` tokens and those up to itself."""
    share = head.queries // head.keys
    wide_keys = np.ascontiguousarray(keys.transpose(1, 2, 0), dtype=np.float32)
    wide_values = np.ascontiguousarray(values.transpose(1, 0, 2), dtype=np.float32)
    grouped = queries.reshape(len(queries), head.keys, share, head.size).transpose(1, 2, 0, 3)
    output = np.empty((len(queries), head.keys, share, head.size), dtype=np.float32)
    for start in range(0, len(queries), QUERIES):
        part = grouped[:, :, start : start + QUERIES]
        seen = past + start + part.shape[2]
        scores = np.matmul(part, wide_keys[:, None, :, :seen]) * np.float32(head.scale)
        last = past + start + np.arange(part.shape[2])
        scores[..., np.arange(seen)[None, :] > last[:, None]] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.matmul(scores, wide_values[:, None, :seen])
        output[start : start + QUERIES] = mixed.transpose(2, 0, 1, 3)
    return output.reshape(len(queries), head.queries, head.size)
