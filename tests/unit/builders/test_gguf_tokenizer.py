"""Every field of a GGUF file's tokenizer is used or named; equal tokens: tests/e2e."""

from typing import Any

import pytest
from gguf_tokenizer import convert
from tokenizer_json import Token, merges_of
from understood import UnsupportedError

BYTES: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "llama-bpe",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<bos>", "<eot>", "<tool>", "[PAD6]"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3, 3, 4, 5],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": 3,
    "tokenizer.ggml.eos_token_id": 4,
    "tokenizer.chat_template": "{{ messages }}",
    "llama.block_count": 1,
}
PIECES: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "<0x00>", "▁", "a", "▁a", "▁a▁"],
    "tokenizer.ggml.token_type": [2, 3, 3, 6, 1, 1, 1, 1],
    "tokenizer.ggml.scores": [0.0, 0.0, 0.0, 0.0, -3.0, -4.0, -1.0, -2.0],
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def around(tokenizer: Any) -> list[str]:
    """What a text is put between."""
    last = tokenizer["post_processor"]
    last = last.get("processors", [last])[-1] if last else {}
    return ["A" if "Sequence" in part else part["SpecialToken"]["id"]
            for part in last.get("single", [])]  # fmt: skip


def test_special_and_added_tokens_keep_their_ids_and_padding_is_left_out() -> None:
    found = convert(BYTES).tokenizer
    assert found["model"]["vocab"] == {"a": 0, "b": 1, "ab": 2, "<bos>": 3, "<eot>": 4, "<tool>": 5}
    added = {one["id"]: (one["content"], one["special"]) for one in found["added_tokens"]}
    assert added == {3: ("<bos>", True), 4: ("<eot>", True), 5: ("<tool>", False)}
    assert found["model"]["merges"] == [["a", "b"]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["<bos>", "A"]),  # llama.cpp knows that texts of this kind begin with it
        ({"add_bos_token": False}, []),
        ({"pre": "qwen2"}, []),
        ({"pre": "qwen2", "add_bos_token": True}, ["<bos>", "A"]),
        ({"pre": "qwen2", "add_eos_token": True}, ["A", "<eot>"]),
    ],
)
def test_tokens_around_a_text_are_kept(fields: dict[str, Any], expected: list[str]) -> None:
    more = {f"tokenizer.ggml.{name}": value for name, value in fields.items()}
    assert around(convert({**BYTES, **more}).tokenizer) == expected


def test_each_end_of_a_turn_is_an_end() -> None:
    assert convert(BYTES).ids["eos_token_id"] == 4
    more = {"tokenizer.ggml.eot_token_id": 5, "tokenizer.ggml.eom_token_id": 4}
    assert convert({**BYTES, **more}).ids["eos_token_id"] == [4, 5]


def test_chat_templates_are_kept_by_name() -> None:
    named = {"tokenizer.chat_templates": ["tool_use"], "tokenizer.chat_template.tool_use": "T"}
    assert convert({**BYTES, **named}).templates == {"default": "{{ messages }}", "tool_use": "T"}


def test_sentencepiece_merges_follow_from_the_scores() -> None:
    found = convert(PIECES).tokenizer
    assert found["model"]["merges"] == [["▁", "a"], ["▁a", "▁"]]
    assert found["model"]["byte_fallback"] is True
    assert around(found) == ["<s>", "A"]
    assert found["normalizer"]["normalizers"][0] == {"type": "Prepend", "prepend": "▁"}


def test_a_piece_that_two_pairs_make_has_both_merges_at_its_place() -> None:
    tokens = [Token(text, 1, score) for text, score in
              (("a", -9.0), ("b", -8.0), ("ab", -2.0), ("ba", -1.0), ("aba", -3.0))]  # fmt: skip
    assert merges_of(tokens) == [["b", "a"], ["a", "b"], ["a", "ba"], ["ab", "a"]]


def test_blank_before_a_text_is_left_out_where_the_file_says_so() -> None:
    found = convert({**PIECES, "tokenizer.ggml.add_space_prefix": False}).tokenizer
    assert found["normalizer"]["type"] == "Replace"
    assert all(part["type"] != "Strip" for part in found["decoder"]["decoders"])


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an unknown way to split": (BYTES, {"pre": "chameleon"}, "tokenizer.ggml.pre = 'chameleon'"),
    "no way to split": (BYTES, {"pre": None}, "tokenizer.ggml.pre = None"),
    "another kind": (BYTES, {"model": "rwkv"}, "tokenizer.ggml.model = 'rwkv'"),
    "a kind of the T5s": (PIECES, {"model": "t5"}, "tokenizer.ggml.model = 't5'"),
    "a map of letters": (PIECES, {"precompiled_charsmap": [1]}, "precompiled_charsmap"),
    "collapsed blanks": (PIECES, {"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
    "a field of the future": (BYTES, {"normaliser": "NFKC"}, "tokenizer.ggml.normaliser"),
    "an id outside": (BYTES, {"bos_token_id": 99}, "bos_token_id = 99"),
    "a BOS that is no token": (BYTES, {"bos_token_id": None}, "without bos_token_id"),
    "a merge of three": (BYTES, {"merges": ["a b c"]}, "the merge 'a b c'"),
    "two equal tokens": (BYTES, {"tokens": ["a", "a", "ab", "<bos>", "<eot>", "x", "y"]}, "'a'"),
    "fewer types than tokens": (BYTES, {"token_type": [1]}, "7 tokens, 1 types"),
    "no tokens": (BYTES, {"tokens": []}, "0 tokens"),
}


@pytest.mark.parametrize(("base", "fields", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused_by_name(
    base: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    changed = {**base, **{f"tokenizer.ggml.{name}": value for name, value in fields.items()}}
    with pytest.raises(UnsupportedError) as caught:
        convert({name: value for name, value in changed.items() if value is not None})
    assert named in str(caught.value)
