"""Headers of GGUF files, hand-made; the real gguf package is the reference in tests/e2e."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge.builders.tools.gguf_header import (
    GgufError,
    GgufHeader,
    model_type,
    order,
    read,
    read_file,
    read_parts,
)
from tests.support.gguf import IQ4_XS, Q4_K, Q8_0, Row, gguf, gguf_file, metadata


def header(data: bytes, *arrays: str) -> GgufHeader:
    return read_file(io.BytesIO(data), len(data), "tiny.gguf", arrays)


def test_header_says_architecture_name_size_and_types() -> None:
    found = header(gguf())
    assert (found.architecture, found.model_type, found.name) == ("llama", "llama", "Tiny")
    assert (len(found.tensors), found.parameters, found.precision) == (1, 64, "Q4_1")
    assert found.tensors[0].shape == (32, 2)
    assert found.tensors[0].size == 40


def test_data_start_where_the_header_ends_at_a_multiple_of_the_alignment() -> None:
    for alignment in (8, 32, 4096):
        data = gguf_file(metadata(general__alignment=alignment), [Row("a"), Row("b", kind=Q8_0)])
        found = header(data)
        (start,) = found.data_starts
        last = found.tensors[-1]
        assert start % alignment == 0
        assert start + last.offset + -(-last.size // alignment) * alignment == len(data)


def test_arrays_are_read_as_their_lengths_unless_they_are_asked_for() -> None:
    values = metadata(tokenizer__ggml__scores=[0.5, -1.0, 2.0])
    assert header(gguf_file(values)).values["tokenizer.ggml.tokens"] == 2
    found = header(gguf_file(values), "tokenizer.ggml.tokens", "tokenizer.ggml.scores").values
    assert found["tokenizer.ggml.tokens"] == ["a", "b"]
    assert found["tokenizer.ggml.scores"] == [0.5, -1.0, 2.0]


def test_values_of_each_type_are_read_as_what_they_are() -> None:
    found = header(gguf_file(metadata(a__b=True, c=7, d=1.5, e="é\n"))).values
    assert [found[key] for key in ("a.b", "c", "d", "e")] == [True, 7, 1.5, "é\n"]
    assert found["a.b"] is True


@pytest.mark.parametrize(
    ("stated", "kind"),
    [
        ({"tokenizer__ggml__model": "llama", "tokenizer__ggml__pre": "default"}, "llama"),
        ({"tokenizer__ggml__pre": "llama-bpe"}, "gpt2/llama-bpe"),
        ({"tokenizer__ggml__pre": "smollm"}, "gpt2/smollm"),
        ({"tokenizer__ggml__pre": None}, "gpt2/default"),
        ({"tokenizer__ggml__model": "bert"}, "bert"),
        ({"tokenizer__ggml__model": "t5"}, "t5"),
        ({"tokenizer__ggml__model": None}, "none"),
        ({"tokenizer__ggml__model": 3}, "none"),
    ],
)
def test_tokenizer_is_its_model_and_for_bpe_what_cuts_words(
    stated: dict[str, object], kind: str
) -> None:
    assert header(gguf_file(metadata(**stated))).tokenizer == kind


@pytest.mark.parametrize(
    ("stated", "experts", "found"),
    [
        ("llama", 0, "llama"),
        ("llama", 8, "mixtral"),  # one architecture in llama.cpp, two in transformers
        ("qwen2moe", 60, "qwen2_moe"),
        ("qwen3moe", 128, "qwen3_moe"),
        ("gemma3", 0, "gemma3_text"),
        ("gptneox", 0, "gpt_neox"),
        ("gpt-oss", 32, "gpt_oss"),
        ("falcon-h1", 0, "falcon_h1"),
        ("command-r", 0, "cohere"),
        ("hunyuan-dense", 0, "hunyuan_v1_dense"),
        ("phi2", 0, "phi"),
        ("", 0, ""),
    ],
)
def test_architecture_is_named_as_in_config_json(stated: str, experts: int, found: str) -> None:
    assert model_type(stated, experts) == found


def test_experts_of_the_metadata_make_a_llama_a_mixtral() -> None:
    assert header(gguf_file(metadata(llama__expert_count=8))).model_type == "mixtral"


def test_file_cut_anywhere_is_refused() -> None:
    data = gguf()
    for length in range(len(data)):
        with pytest.raises(GgufError, match=r"truncated|does not start"):
            header(data[:length])


WRONG = {
    "no GGUF file": (b"PK\x03\x04" + gguf()[4:], "does not start with 'GGUF'"),
    "an old version": (gguf(version=1), "GGUF version 1"),
    "big-endian": (gguf(version=3 << 24), "big-endian GGUF version 3"),
    "a type nobody knows": (gguf(kind=99), "unknown type 99"),
    "a type that ggml removed": (gguf(kind=31), r"unknown type 31 \(Q4_0_4_4, removed\)"),
    "2^60 tensors": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 1), "it has 1152921504606846976"),
    "2^62 bytes": (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", 2**62),
        "bytes in one string",
    ),
    "no tensors": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "has no tensors"),
    "a tensor twice": (gguf_file(metadata(), [Row("a"), Row("a")]), "tensor 'a' is there twice"),
    "tensors that overlap": (
        gguf_file(metadata(), [Row("a"), Row("b", offset=64)]),
        "'a' and 'b' overlap",
    ),
    "a tensor behind the end": (
        gguf_file(metadata(), [Row("a", offset=2**20)])[:4096],
        "truncated",
    ),
    "a tensor at no multiple": (
        gguf_file(metadata(), [Row("a"), Row("b", offset=2049)]),
        "not at a multiple of 32",
    ),
    "a row of no whole blocks": (
        gguf_file(metadata(), [Row("a", (128, 2), Q4_K)]),
        "no whole blocks of 256",
    ),
}


@pytest.mark.parametrize(("data", "message"), WRONG.values(), ids=WRONG)
def test_damaged_header_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(GgufError, match=message):
        header(data)


@pytest.mark.parametrize("alignment", [0, 3, 48, "32", -1])
def test_alignment_that_is_not_a_power_of_two_is_refused(alignment: object) -> None:
    data = gguf_file(metadata())
    entry = struct.pack("<Q", 17) + b"general.alignment"
    stored = (
        struct.pack("<IQ", 8, len(alignment)) + alignment.encode()
        if isinstance(alignment, str)
        else struct.pack("<Ii", 5, alignment)
    )
    count = struct.unpack("<Q", data[16:24])[0]
    changed = data[:16] + struct.pack("<Q", count + 1) + entry + stored + data[24:]
    with pytest.raises(GgufError, match="is not a power of two"):
        header(changed)


def test_key_that_is_there_twice_is_refused() -> None:
    data = gguf_file({"a": 1, "b": 2}).replace(
        b"\x01\x00\x00\x00\x00\x00\x00\x00b", b"\1\0\0\0\0\0\0\0a"
    )
    with pytest.raises(GgufError, match="the key 'a' twice"):
        header(data)


def test_array_of_arrays_is_refused() -> None:
    data = gguf_file(metadata(x=[1.0])).replace(
        struct.pack("<IIQ", 9, 6, 1), struct.pack("<IIQ", 9, 9, 1)
    )
    with pytest.raises(GgufError, match="an array of type 9"):
        header(data)


@settings(max_examples=150)
@given(st.data())
def test_header_with_changed_bytes_is_read_or_refused_and_never_a_traceback(
    data: st.DataObject,
) -> None:
    made = bytearray(gguf_file(metadata(x=[1.0]), [Row("a"), Row("b", kind=IQ4_XS)]))
    for _ in range(data.draw(st.integers(1, 4))):
        made[data.draw(st.integers(0, min(500, len(made) - 1)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(made)))
    for case in (bytes(made), bytes(made[:cut])):
        try:
            found = header(case)
        except GgufError:
            continue
        assert found.tokenizer
        assert found.model_type is not None
        assert all(tensor.offset + tensor.size <= len(case) for tensor in found.tensors)


class TestSplitFiles:
    """Parts as llama.cpp's gguf-split writes them: all metadata in the first."""

    @staticmethod
    def parts(folder: Path, **second: object) -> list[Path]:
        split = {"split__count": 2, "split__tensors__count": 3}
        first = metadata(split__no=0, **split)
        rest = {"split.no": 1, "split.count": 2, "split.tensors.count": 3} | second
        paths = [folder / f"m-0000{number}-of-00002.gguf" for number in (1, 2)]
        paths[0].write_bytes(gguf_file(first, [Row("a"), Row("b", kind=Q8_0)]))
        paths[1].write_bytes(gguf_file(rest, [Row("c")]))
        return paths

    def test_parts_are_one_checkpoint_in_any_order(self, tmp_path: Path) -> None:
        first, second = self.parts(tmp_path)
        found = read_parts([second, first])
        assert found.files == (first.name, second.name)
        assert [tensor.name for tensor in found.tensors] == ["a", "b", "c"]
        assert found.tensors[2].file == second.name
        assert (found.architecture, found.parameters) == ("llama", 3 * 512)
        assert len(found.data_starts) == 2

    def test_single_file_is_read_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "any name.gguf"
        path.write_bytes(gguf())
        assert read_parts([path]) == read(path)

    @pytest.mark.parametrize("number", [0, 1])
    def test_missing_part_is_named(self, tmp_path: Path, number: int) -> None:
        paths = self.parts(tmp_path)
        absent = paths.pop(number)
        with pytest.raises(GgufError, match=f"are missing: {absent.name}"):
            read_parts(paths)

    def test_part_under_another_name_is_refused(self, tmp_path: Path) -> None:
        first, _ = self.parts(tmp_path)
        alone = first.rename(tmp_path / "whole.gguf")
        with pytest.raises(GgufError, match=r"whole\.gguf is one of 2 parts, but 1 are there"):
            read_parts([alone])

    @pytest.mark.parametrize(
        ("second", "message"),
        [
            ({"split.no": 0}, "is not part 2 of 2: its split.no is 0"),
            ({"split.count": 3}, "its split.count 3"),
            ({"general.architecture": "gemma2"}, "a part of another checkpoint: a 'gemma2' model"),
        ],
    )
    def test_foreign_part_is_named(
        self, tmp_path: Path, second: dict[str, object], message: str
    ) -> None:
        with pytest.raises(GgufError, match=message):
            read_parts(self.parts(tmp_path, **second))

    def test_part_with_other_tensors_is_refused(self, tmp_path: Path) -> None:
        paths = self.parts(tmp_path)
        values = {"split.no": 1, "split.count": 2, "split.tensors.count": 3}
        paths[1].write_bytes(gguf_file(values, [Row("a")]))
        with pytest.raises(GgufError, match="tensor 'a' is there twice"):
            read_parts(paths)
        paths[1].write_bytes(gguf_file(values, [Row("c"), Row("d")]))
        with pytest.raises(GgufError, match="have 4 tensors, not 3"):
            read_parts(paths)

    def test_two_models_are_refused_with_their_names(self) -> None:
        with pytest.raises(GgufError, match=r"not one model: a\.gguf, b\.gguf"):
            order([Path("b.gguf"), Path("a.gguf")])
        with pytest.raises(GgufError, match="4 GGUF files that are not one model"):
            order([Path(f"{m}-0000{n}-of-00002.gguf") for m in "ab" for n in (1, 2)])
