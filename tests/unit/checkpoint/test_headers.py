"""What a checkpoint's headers say, and the one sentence for each kind that is no usable model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge.checkpoint.files import selected
from forge.checkpoint.headers import CheckpointHeaders, read_headers
from forge.checkpoint.url import parse, write_facts
from forge.errors import ConfigurationError
from tests.support.checkpoints import LLAMA, model, safetensors, sharded, write_index
from tests.support.gguf import F32, IQ4_XS, Q4_K, Q5_K, Q6_K, Row, gguf_file, metadata


def read(folder: Path) -> CheckpointHeaders:
    return read_headers(selected(folder, ()))


def refused(folder: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value.args[0])
    return caught.value


# Families of language models: model_type → class, as their publishers write them.
FAMILIES = {
    "llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel", "gpt_neox": "GPTNeoXForCausalLM", "bloom": "BloomForCausalLM",
    "falcon": "FalconForCausalLM", "mamba": "MambaForCausalLM", "mixtral": "MixtralForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM",
    "phi3": "Phi3ForCausalLM", "gpt_oss": "GptOssForCausalLM", "granite": "GraniteForCausalLM",
    "stablelm": "StableLmForCausalLM", "smollm3": "SmolLM3ForCausalLM",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), FAMILIES.items())
def test_model_of_each_family_is_described(tmp_path: Path, kind: str, name: str) -> None:
    found = read(model(tmp_path, {"model_type": kind, "architectures": [name]}))
    assert (found.form, found.architecture) == ("huggingface", kind)
    assert (found.tokenizer, found.quantisation) == ("tokenizer.json", ("none",))
    assert found.weights == ("model.safetensors",)
    assert (found.parameters, found.dtypes) == (8, {"BF16": 4, "F32": 4})


def test_model_that_states_no_class_is_described(tmp_path: Path) -> None:
    assert read(model(tmp_path, {"model_type": "Qwen2"})).architecture == "qwen2"


# What is no causal language model of text: config.json → what the sentence says of it.
OTHER_MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "bert": ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
    "roberta": ({"model_type": "roberta", "architectures": ["RobertaModel"]}, "RobertaModel"),
    "t5": (
        {"model_type": "t5", "is_encoder_decoder": True,
         "architectures": ["T5ForConditionalGeneration"]}, "'t5' model with an encoder"),
    "whisper": (
        {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]},
        "WhisperForConditionalGeneration"),
    "llava": (
        {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"},
         "architectures": ["LlavaForConditionalGeneration"]}, "'llava' model that takes images"),
    "gemma3 with images": (
        {"model_type": "gemma3", "text_config": {}, "vision_config": {"hidden_size": 1},
         "architectures": ["Gemma3ForConditionalGeneration"]}, "'gemma3' model that takes images"),
    "qwen2_audio": (
        {"model_type": "qwen2_audio", "audio_config": {"d_model": 1}}, "that takes sound"),
    "vit": ({"model_type": "vit", "architectures": ["ViTForImageClassification"]}, "ViTFor"),
    "clip": ({"model_type": "clip", "vision_config": {"a": 1}}, "that takes images"),
    "a reward model": (
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        "LlamaForSequenceClassification"),
    "a base without a head": (
        {"model_type": "llama", "architectures": ["LlamaModel"]}, "LlamaModel"),
    "a part of diffusers": ({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.1"},
        "diffusers"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "says"), OTHER_MODELS.values(), ids=OTHER_MODELS)
def test_other_kind_of_model_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    error = refused(model(tmp_path, config))
    assert says in str(error.args[0])
    assert error.hint


QUANTISED: dict[str, tuple[Any, str]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4}, "gptq"),
    "awq": ({"quant_method": "awq"}, "awq"),
    "fp8": ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    "fbgemm": ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8"),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
    "old bitsandbytes": ({"load_in_8bit": True}, "bitsandbytes"),
    "compressed-tensors": ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4"),
    "modelopt": ({"quant_algo": "NVFP4"}, "modelopt"),
    "nobody's": ({"bits": 3}, "unknown"),
    "no object": (True, "unknown"),
}


@pytest.mark.parametrize(("stated", "method"), QUANTISED.values(), ids=QUANTISED)
def test_quantisation_is_what_config_json_states(tmp_path: Path, stated: Any, method: str) -> None:
    found = read(model(tmp_path, LLAMA | {"quantization_config": stated}))
    assert found.quantisation == (method,)


def test_quantisation_of_the_text_model_or_under_its_older_name_counts(tmp_path: Path) -> None:
    old = {"compression_config": {"quant_method": "compressed-tensors"}}
    assert read(model(tmp_path / "a", LLAMA | old)).quantisation == ("compressed-tensors",)
    nested = {"text_config": {"quantization_config": {"quant_method": "awq"}}}
    assert read(model(tmp_path / "b", LLAMA | nested)).quantisation == ("awq",)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("quantize_config.json", "gptq"),
        ("quant_config.json", "awq"),
        ("hf_quant_config.json", "modelopt"),
    ],
)
def test_quantisation_that_stands_beside_config_json_only_is_seen(
    tmp_path: Path, name: str, method: str
) -> None:
    assert read(model(tmp_path, files={name: b'{"bits": 4}'})).quantisation == (method,)


@pytest.mark.parametrize(
    ("tensors", "method"),
    [({"a.weight": "F8_E4M3"}, "f8_e4m3"), ({"a.qweight": "I32"}, "unknown"),
     ({"a.weight": "U8", "a.weight.absmax": "F32"}, "unknown")],
)  # fmt: skip
def test_quantised_tensors_that_no_file_mentions_are_seen(
    tmp_path: Path, tensors: dict[str, str], method: str
) -> None:
    made = model(tmp_path, files={"model.safetensors": safetensors(tensors)})
    assert read(made).quantisation == (method,)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"tokenizer.json": b"{}", "tokenizer.model": b"x"}, "tokenizer.json"),
        ({"tokenizer.json": None, "tokenizer.model": b"x"}, "tokenizer.model"),
        ({"tokenizer.json": None, "spiece.model": b"x"}, "spiece.model"),
        ({"tokenizer.json": None, "vocab.json": b"{}", "merges.txt": b""}, "vocab.json"),
        ({"tokenizer.json": None, "tekken.json": b"{}"}, "tekken.json"),
        ({"tokenizer.json": None, "qwen.tiktoken": b""}, "tiktoken"),
        ({"tokenizer.json": None, "tokenizer_config.json": b"{}"}, "none"),
    ],
)
def test_tokenizer_is_the_file_that_holds_it(
    tmp_path: Path, files: dict[str, bytes | None], kind: str
) -> None:
    assert read(model(tmp_path, files=files)).tokenizer == kind


ONE = "model-00001-of-00002.safetensors"
TWO = "model-00002-of-00002.safetensors"
SHARDS = {ONE: {"a": "BF16"}, TWO: {"b": "BF16", "c": "F32"}}


class TestShards:
    def test_shards_with_an_index_are_one_model(self, tmp_path: Path) -> None:
        found = read(sharded(tmp_path, SHARDS))
        assert found.weights == (ONE, TWO)
        assert [(one.name, one.file) for one in found.tensors] == [
            ("a", ONE),
            ("b", TWO),
            ("c", TWO),
        ]

    def test_missing_shard_is_named(self, tmp_path: Path) -> None:
        (sharded(tmp_path, SHARDS) / TWO).unlink()
        assert f"incomplete: {TWO} missing" in str(refused(tmp_path))

    def test_shards_without_an_index_are_refused_and_name_it(self, tmp_path: Path) -> None:
        (sharded(tmp_path, SHARDS) / "model.safetensors.index.json").unlink()
        error = refused(tmp_path)
        assert "incomplete: model.safetensors.index.json missing" in str(error)
        (tmp_path / ONE).unlink()
        assert f"{ONE}, model.safetensors.index.json missing" in str(refused(tmp_path))

    @pytest.mark.parametrize("extra", ["model.safetensors", "other.safetensors"])
    def test_file_that_the_index_does_not_name_is_refused(self, tmp_path: Path, extra: str) -> None:
        (sharded(tmp_path, SHARDS) / extra).write_bytes(safetensors({"d": "F32"}))
        assert f"does not name {extra}" in str(refused(tmp_path))

    def test_mistrals_own_form_beside_it_is_left_alone(self, tmp_path: Path) -> None:
        (sharded(tmp_path, SHARDS) / "consolidated.safetensors").write_bytes(b"")
        assert read(tmp_path).weights == (ONE, TWO)

    @pytest.mark.parametrize(
        ("index", "says"),
        [
            ({"a": ONE, "b": TWO, "c": TWO, "d": TWO}, "differ in tensor 'd'"),
            ({"a": ONE, "b": TWO}, "differ in tensor 'c'"),
            ({"a": ONE, "b": ONE, "c": TWO}, "differ in tensor 'b'"),
        ],
        ids=["a tensor too many", "a tensor too few", "in another file"],
    )
    def test_index_and_headers_must_name_the_same_tensors(
        self, tmp_path: Path, index: dict[str, str], says: str
    ) -> None:
        write_index(sharded(tmp_path, SHARDS), index)
        assert says in str(refused(tmp_path))

    def test_tensor_in_two_shards_is_refused(self, tmp_path: Path) -> None:
        sharded(tmp_path, {ONE: {"a": "F32", "c": "F32"}, TWO: {"a": "F32"}})
        assert f"Tensor 'a' is in {ONE} and in {TWO}" in str(refused(tmp_path))

    @pytest.mark.parametrize(
        "text",
        [
            "[]",
            "{}",
            '{"weight_map": {"a": 3}}',
            '{"weight_map": {"a": "../b.safetensors"}}',
            '{"weight_map": {}}',
            "{",
        ],
    )
    def test_index_that_is_none_is_refused(self, tmp_path: Path, text: str) -> None:
        (sharded(tmp_path, SHARDS) / "model.safetensors.index.json").write_text(text)
        assert "model.safetensors.index.json is not valid" in str(refused(tmp_path))


BASE = b'{"base_model_name_or_path": "meta-llama/Llama-2-7b", "peft_type": "LORA"}'
ADAPTER: dict[str, bytes | None] = {
    "adapter_config.json": BASE,
    "adapter_model.safetensors": safetensors({"x.lora_A": "F32"}),
}
WITHOUT: dict[str, bytes | None] = {"config.json": None, "model.safetensors": None}
TREES: dict[str, tuple[dict[str, bytes | None], str]] = {
    "a LoRA adapter": ({**WITHOUT, **ADAPTER}, "is a LoRA adapter and not a model"),
    "a model with an adapter": (ADAPTER, "a model with a LoRA adapter next to it"),
    "pickled": (
        {"model.safetensors": None, "pytorch_model.bin": b"PK"}, "weights are pickled"),
    "pickled by Meta": ({**WITHOUT, "consolidated.00.pth": b"PK"}, "weights are pickled"),
    "TensorFlow's": ({"model.safetensors": None, "tf_model.h5": b"x"}, "those of TensorFlow"),
    "ONNX": ({**WITHOUT, "onnx/model.onnx": b"x"}, "those of ONNX"),
    "no weights": ({"model.safetensors": None}, "The checkpoint has no weights"),
    "nothing": ({**WITHOUT, "tokenizer.json": None, "README.md": b"x"}, "has no weights"),
    "no config.json": ({"config.json": None}, "has no config.json next to its weights"),
    "a folder deeper": (
        {**WITHOUT, "m/config.json": b"{}", "m/model.safetensors": b""},
        "has no config.json next to its weights"),
    "an empty config.json": ({"config.json": b"{}"}, "config.json states no model_type"),
    "a model_type that is no text": ({"config.json": b'{"model_type": 3}'}, "states no model_type"),
    "a list as config.json": ({"config.json": b"[]"}, "config.json is not valid"),
    "a config.json cut off": ({"config.json": b'{"model_type": "lla'}, "is not valid JSON"),
    "a config.json of brackets": ({"config.json": b"[" * 100_000}, "is not valid JSON"),
    "a key twice": (
        {"config.json": b'{"model_type": "llama", "model_type": "gemma"}'}, "is not valid JSON"),
    "weights under another name": (
        {"model.safetensors": None, "a.safetensors": safetensors({"a": "F32"})},
        "weights are not in model.safetensors"),
    "weights in two variants": (
        {"model.fp16.safetensors": safetensors({"a": "F32"})}, "weights are not in"),
    "both forms": ({"tiny.gguf": b"GGUF"}, "two forms of a model"),
    "weights without tensors": ({"model.safetensors": safetensors({})}, "has no tensors"),
    "diffusers": (
        {**WITHOUT, "model_index.json": b"{}", "unet/d.safetensors": b""}, "pipeline of diffusers"),
    "sentence-transformers": (
        {"config_sentence_transformers.json": b"{}"}, "sentence-transformers"),
    "a pointer of Git LFS": (
        {"model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"},
        "model.safetensors is a pointer of Git LFS"),
    "weights cut off": (
        {"model.safetensors": safetensors({"a": "F32"})[:-1]}, "not a valid safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "says"), TREES.values(), ids=TREES)
def test_folder_that_is_no_usable_model_is_refused_with_what_to_do(
    tmp_path: Path, files: dict[str, bytes | None], says: str
) -> None:
    error = refused(model(tmp_path, files=files))
    assert says in str(error.args[0])
    assert error.hint or "is not valid" in says


def test_base_of_an_adapter_is_named(tmp_path: Path) -> None:
    assert "'meta-llama/Llama-2-7b'" in refused(model(tmp_path, files={**WITHOUT, **ADAPTER})).why


def test_config_json_larger_than_64_mib_is_refused_without_being_read(tmp_path: Path) -> None:
    with (model(tmp_path) / "config.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    assert "config.json is larger than" in str(refused(tmp_path))


class TestGguf:
    @staticmethod
    def file(folder: Path, *rows: Row, name: str = "tiny.gguf", **values: Any) -> Path:
        data = gguf_file(metadata(**values), rows or (Row("token_embd.weight"),))
        (folder / name).write_bytes(data)
        return folder

    def test_file_is_described_with_all_its_types(self, tmp_path: Path) -> None:
        rows = (Row("a", kind=Q4_K), Row("b", kind=Q6_K), Row("c", (8,), F32))
        found = read(self.file(tmp_path, *rows, tokenizer__ggml__pre="llama-bpe"))
        assert (found.form, found.architecture) == ("gguf", "llama")
        assert found.tokenizer == "gpt2/llama-bpe"
        assert found.quantisation == ("f32", "q4_k", "q6_k")
        assert found.dtypes == {"Q4_K": 512, "Q6_K": 512, "F32": 8}

    def test_types_that_one_reader_does_not_know_are_told_all_the_same(
        self, tmp_path: Path
    ) -> None:
        found = read(self.file(tmp_path, Row("a", kind=Q5_K), Row("b", kind=IQ4_XS)))
        assert found.quantisation == ("iq4_xs", "q5_k")

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"general__type": "mmproj", "general__architecture": "clip"}, "the vision part"),
            ({"general__architecture": "clip", "general__type": None}, "the vision part"),
            ({"general__type": "adapter"}, "a LoRA adapter and not a model"),
            ({"general__type": "imatrix"}, "an importance matrix"),
            ({"general__architecture": "bert"}, "an encoder, which makes embeddings"),
            ({"general__architecture": "t5"}, "an encoder-decoder model"),
            ({"general__architecture": None}, "states no architecture"),
        ],
    )
    def test_file_that_is_no_language_model_is_refused(
        self, tmp_path: Path, values: dict[str, Any], says: str
    ) -> None:
        assert says in str(refused(self.file(tmp_path, **values)))

    def test_two_files_that_are_not_parts_are_refused(self, tmp_path: Path) -> None:
        self.file(tmp_path, name="a.gguf")
        assert "not one model: a.gguf, b.gguf" in refused(self.file(tmp_path, name="b.gguf")).why

    def test_split_file_is_one_checkpoint_and_a_missing_part_is_named(self, tmp_path: Path) -> None:
        split = {"split__count": 2, "split__tensors__count": 2}
        one, two = (f"m-0000{number}-of-00002.gguf" for number in (1, 2))
        self.file(tmp_path, Row("a"), name=one, split__no=0, **split)
        assert f"missing: {two}" in refused(tmp_path).why
        self.file(tmp_path, Row("b"), name=two, split__no=1, **split)
        assert read(tmp_path).weights == (one, two)

    def test_damaged_file_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "tiny.gguf").write_bytes(gguf_file(metadata())[:-1000])
        error = refused(tmp_path)
        assert "tiny.gguf is truncated" in error.why
        assert error.hint == "download the checkpoint again"


def _mutated(name: str) -> Callable[..., None]:
    @settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test(tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / name
        if not path.is_file():
            sharded(tmp_path, SHARDS)
            path.with_suffix(".whole").write_bytes(path.read_bytes())
        made = bytearray(path.with_suffix(".whole").read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            made[data.draw(st.integers(0, len(made) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(made[: data.draw(st.integers(0, len(made)))])
        with contextlib.suppress(ConfigurationError):
            assert read(tmp_path).parameters >= 0

    return test


test_changed_config_is_read_or_refused = _mutated("config.json")
test_changed_index_is_read_or_refused = _mutated("model.safetensors.index.json")
test_changed_shard_is_read_or_refused = _mutated(TWO)


NAMES = st.text(max_size=80)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES, NAMES, NAMES)
def test_facts_of_any_header_can_be_written_into_a_url(
    tmp_path: Path, one: str, two: str, three: str
) -> None:
    values = metadata(general__architecture=one, tokenizer__ggml__pre=two)
    (tmp_path / "g").mkdir(exist_ok=True)
    (tmp_path / "g" / "tiny.gguf").write_bytes(gguf_file(values))
    quantised = {"model_type": one, "quantization_config": {"quant_method": three}}
    for folder in (tmp_path / "g", model(tmp_path / "m", quantised)):
        with contextlib.suppress(ConfigurationError):
            facts = read(folder).facts
            assert parse(f"file:/x#sha256={'0' * 64}{write_facts(facts)}").facts == facts


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    made = selected(model(tmp_path), ())
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_headers(made)


def test_key_of_another_input_that_is_null_makes_no_other_model(tmp_path: Path) -> None:
    config = LLAMA | {"rope_scaling": None, "vision_config": None, "eos_token_id": [1, 2]}
    assert read(model(tmp_path, config)).architecture == "llama"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ('---\r\nlicense: "mit"\r\n---\r\n', "mit"),
        ("# A model\nlicense: mit\n", ""),
        ("---\nlicense: [a, b]\n---\n", ""),
        ("---\nlanguage: en\n---\nlicense: mit\n", ""),
    ],
)
def test_licence_is_that_of_the_model_card(tmp_path: Path, card: str, licence: str) -> None:
    model(tmp_path, LLAMA)
    (tmp_path / "README.md").write_text(card)
    assert read(tmp_path).licence == licence
