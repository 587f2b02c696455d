"""Which GGUF headers OpenVINO's reader gets right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openvino_gguf
import pytest

from tests.support.gguf_headers import header


def test_header_of_the_demo_s_kind_has_no_problem() -> None:
    assert openvino_gguf.problems(header()) == []
    assert openvino_gguf.problems(header(more=("output.weight",))) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"llama__rope__scaling__type": "linear"}, "rope.scaling.type (linear)"),
        ({"llama__rope__scaling__factor": 4.0}, "llama.rope.scaling.factor (4.0)"),
        ({"llama__rope__scaling__type": "yarn"}, "rope.scaling.type (yarn)"),
        ({"llama__attention__sliding_window": 4096}, "llama.attention.sliding_window (4096)"),
        ({"llama__expert_count": 8}, "llama.expert_count (8)"),
        ({"llama__attention__scale": 0.1}, "llama.attention.scale"),
        ({"llama__final_logit_softcapping": 30.0}, "llama.final_logit_softcapping"),
        ({"llama__rope__dimension_count": 8}, "a part of a head"),
        ({"llama__attention__value_length": 32}, "another size than keys"),
        ({"tokenizer__ggml__model": "llama"}, "SentencePiece"),
        ({"tokenizer__ggml__model": None}, "its tokenizer is ''"),
        ({"tokenizer__ggml__pre": "llama-bpe"}, "'llama-bpe'"),
        ({"tokenizer__ggml__pre": None}, "tokenizer.ggml.pre is ''"),
        ({"tokenizer__ggml__add_bos_token": True}, "add_bos_token is set"),
        ({"tokenizer__ggml__add_space_prefix": True}, "add_space_prefix is set"),
        ({"tokenizer__ggml__precompiled_charsmap": 100}, "precompiled_charsmap"),
        ({"general__type": "adapter"}, "general.type is 'adapter'"),
        ({"llama__block_count": None}, "is missing"),
    ],
)
def test_what_the_reader_ignores_is_named(values: dict[str, Any], message: str) -> None:
    assert message in "; ".join(openvino_gguf.problems(header(**values)))


@pytest.mark.parametrize(
    "name",
    ["rope_freqs.weight", "blk.0.attn_q.bias", "blk.1.ffn_up.bias", "blk.0.ffn_gate_exps.weight"],
)
def test_tensor_the_reader_does_not_use_is_named(name: str) -> None:
    assert openvino_gguf.problems(header(more=(name,))) == [f"the reader does not use {name}"]


def test_missing_tensor_is_named() -> None:
    whole = header()
    without = replace(whole, tensors=whole.tensors[1:])
    assert openvino_gguf.problems(without) == ["it has no blk.0.attn_k.weight"]


def test_biases_of_qwen2_are_used() -> None:
    biases = tuple(f"blk.{n}.attn_{part}.bias" for n in range(2) for part in "qkv")
    assert openvino_gguf.problems(header("qwen2", more=biases, tokenizer__ggml__pre="qwen2")) == []


def test_other_architecture_is_named() -> None:
    assert "'gemma2' model" in openvino_gguf.problems(header("gemma2"))[0]


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_K", "Q5_0", "Q5_K", "Q3_K", "Q2_K", "IQ4_XS", "BF16"])
def test_type_the_reader_does_not_keep_is_requantised(kind: str) -> None:
    assert openvino_gguf.requantised(header(kind=kind)) == [kind]
    assert openvino_gguf.must_be_rewritten(header(kind=kind))


@pytest.mark.parametrize("kind", ["Q4_0", "Q6_K", "Q8_0", "F16"])
def test_type_the_reader_keeps_is_left_as_it_is(kind: str) -> None:
    assert openvino_gguf.requantised(header(kind=kind)) == []
    assert not openvino_gguf.must_be_rewritten(header(kind=kind))


@pytest.mark.parametrize("file_type", [None, 0, 1, 30])
def test_file_type_that_the_reader_does_not_know_is_rewritten(file_type: int | None) -> None:
    assert openvino_gguf.must_be_rewritten(header(general__file_type=file_type))


def test_all_tokens_that_end_an_answer_are_found() -> None:
    assert openvino_gguf.end_tokens(header()) == [2]
    more: dict[str, Any] = {"tokenizer__ggml__eot_token_id": 9, "tokenizer__ggml__eom_token_id": 2}
    assert openvino_gguf.end_tokens(header(**more)) == [2, 9]
