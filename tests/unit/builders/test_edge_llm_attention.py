"""AttentionPlugin in numpy, beside attention written out token by token in plain Python."""

from __future__ import annotations

import math
from dataclasses import replace

import edge_llm_attention
import numpy as np
import pytest
from edge_llm_attention import PAGE, Batch, Heads

HEADS = Heads(
    queries=4, keys=2, size=8, scale=0.3, norm=False, norm_after_rotation=False, epsilon=1e-6
)


def rotation(positions: np.ndarray) -> np.ndarray:
    angles = positions[:, None] * 100.0 ** -(np.arange(4) / 4)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def rotated(vector: list[float], position: int) -> list[float]:
    half, result = len(vector) // 2, [0.0] * len(vector)
    for index in range(half):
        angle = position * 100.0 ** -(index / half)
        first, second = vector[index], vector[index + half]
        result[index] = first * math.cos(angle) - second * math.sin(angle)
        result[index + half] = second * math.cos(angle) + first * math.sin(angle)
    return result


def normed(vector: list[float], gamma: np.ndarray) -> list[float]:
    size = math.sqrt(sum(one * one for one in vector) / len(vector) + 1e-6)
    return [one / size * float(weight) for one, weight in zip(vector, gamma, strict=True)]


def expected(
    head: Heads, qkv: np.ndarray, gammas: tuple[np.ndarray, np.ndarray] | None
) -> list[list[list[float]]]:
    """Attention of one sequence from its first token on."""

    def placed(vector: list[float], position: int, gamma: np.ndarray | None) -> list[float]:
        if gamma is not None and not head.norm_after_rotation:
            vector = normed(vector, gamma)
        vector = rotated(vector, position)
        if gamma is not None and head.norm_after_rotation:
            vector = normed(vector, gamma)
        return vector

    heads = qkv.astype(np.float64).reshape(len(qkv), -1, head.size).tolist()
    gamma_q, gamma_k = gammas or (None, None)
    result = []
    for position, token in enumerate(heads):
        row = []
        for number in range(head.queries):
            key_head = head.queries + number // (head.queries // head.keys)
            query = placed(token[number], position, gamma_q)
            scores = [
                head.scale
                * sum(map(lambda a, b: a * b, query, placed(other[key_head], at, gamma_k)))
                for at, other in enumerate(heads[: position + 1])
            ]
            weights = [math.exp(one - max(scores)) for one in scores]
            values = [other[key_head + head.keys] for other in heads[: position + 1]]
            row.append(
                [
                    sum(w * v[place] for w, v in zip(weights, values, strict=True)) / sum(weights)
                    for place in range(head.size)
                ]
            )
        result.append(row)
    return result


def table(sequences: int, pages: int) -> np.ndarray:
    """Pages in a disorder: what takes them in order is wrong."""
    keys = np.random.default_rng(3).permutation(sequences * pages).reshape(sequences, pages)
    return np.stack([keys, keys + sequences * pages], axis=1).astype(np.int32)


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 64)).astype(np.float16)


def attend(
    head: Heads,
    parts: list[np.ndarray],
    past: list[int],
    pool: np.ndarray,
    pages: np.ndarray,
    gammas: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[np.ndarray]:
    lengths = np.array([len(part) for part in parts], np.int32)
    positions = np.concatenate([np.arange(p, p + n) for p, n in zip(past, lengths, strict=True)])
    batch = Batch(lengths, np.array(past, np.int32), pages, rotation(positions))
    output = edge_llm_attention.attend(head, np.concatenate(parts), pool, batch, gammas)
    return np.split(output, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("order", ["no norm", "norm first", "norm last"])
def test_attention_is_that_of_each_token_by_hand(order: str) -> None:
    random = np.random.default_rng(1)
    gammas = None if order == "no norm" else (random.random(8) + 0.5, random.random(8) + 0.5)
    head = replace(HEADS, norm=gammas is not None, norm_after_rotation=order == "norm last")
    qkv = tokens(9)
    pool = np.zeros((2, 1, PAGE, 2, 8), np.float16)
    (found,) = attend(head, [qkv], [0], pool, table(1, 1), gammas)
    assert np.allclose(found, expected(head, qkv, gammas), atol=5e-3)


def test_batch_of_different_lengths_is_each_sequence_alone() -> None:
    parts = [tokens(300, 1), tokens(5, 2), tokens(130, 3)]
    pool = np.zeros((2, 9, PAGE, 2, 8), np.float16)
    together = attend(HEADS, parts, [0, 0, 0], pool, table(3, 3))
    for part, found in zip(parts, together, strict=True):
        (alone,) = attend(HEADS, [part], [0], np.zeros((2, 3, PAGE, 2, 8), np.float16), table(1, 3))
        assert np.allclose(found, alone, atol=2e-3)


def test_tokens_one_by_one_through_the_cache_are_those_of_one_call() -> None:
    qkv, pages = tokens(260), table(1, 3)
    pool = np.zeros((2, 3, PAGE, 2, 8), np.float16)
    (whole,) = attend(HEADS, [qkv], [0], np.zeros_like(pool), pages)
    attend(HEADS, [qkv[:250]], [0], pool, pages)
    for place in range(250, 260):
        (found,) = attend(HEADS, [qkv[place : place + 1]], [place], pool, pages)
        assert np.allclose(found[0], whole[place], atol=2e-3)


def test_values_lie_in_the_second_half_of_the_pool() -> None:
    pool = np.zeros((2, 2, PAGE, 2, 8), np.float16)
    qkv = tokens(3)
    attend(HEADS, [qkv], [0], pool, np.array([[[1], [3]]], np.int32))
    values = qkv.reshape(3, 8, 8)[:, 6:]
    assert np.array_equal(pool[1, 1, :3], values)
    assert not pool[:, 0].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sliding_window_size", 64), ("enable_fp8_kv_cache", 1), ("enable_tree_attention", 1),
        ("enable_kv_shared", 1), ("enable_attention_sink", 1),
        ("skip_softmax_scale_factor", 0.5),
    ],
)  # fmt: skip
def test_attribute_that_is_not_computed_is_refused_by_name(name: str, value: float) -> None:
    attributes = {"num_q_heads": 4, "num_kv_heads": 2, "head_size": 8, name: value}
    with pytest.raises(edge_llm_attention.AttentionError, match=name):
        edge_llm_attention.heads(attributes)
