"""What builders declare of the checkpoints they take, and the sentence for one they do not."""

from __future__ import annotations

import gguf_model
import pytest
import tokenizer_json

from forge.builders import CheckpointFacts, Takes, check, load, names, takers
from forge.builders.takes import CONVERTED_GGUF, HUGGINGFACE, unsupported
from forge.builders.tools.gguf_header import TENSOR_TYPES
from forge.errors import ConfigurationError
from tests.support.builder_plans import profile

GGUF = Takes("gguf", ("gpt2/qwen2", "gpt2/smollm"), ("f32", "q8_0"))
PROFILES = {
    "openvino": "development",
    "tensorrt-rtx": "rtx-pro-4000-aot",
    "onnx-runtime": "tesla-p40",
    "tensorrt-llm": "rtx-pro-4000",
    "edge-llm": "jetson-agx-orin",
}


def gguf(**more: object) -> CheckpointFacts:
    facts = {"tokenizer": "gpt2/qwen2", "quantisation": ("f32", "q8_0")} | more
    return CheckpointFacts("gguf", "llama", **facts)  # type: ignore[arg-type]


def huggingface(**more: object) -> CheckpointFacts:
    facts = {"tokenizer": "tokenizer.json", "quantisation": ("none",)} | more
    return CheckpointFacts("huggingface", "llama", **facts)  # type: ignore[arg-type]


def test_what_is_not_known_is_not_refused() -> None:
    assert unsupported((GGUF,), CheckpointFacts()) is None
    assert unsupported((GGUF,), CheckpointFacts(form="gguf")) is None
    assert unsupported((), huggingface()) is None  # a project's own builder that declares nothing


def test_one_of_several_kinds_is_enough() -> None:
    assert unsupported((GGUF, HUGGINGFACE), huggingface()) is None
    assert unsupported((GGUF, HUGGINGFACE), gguf()) is None
    fp8 = Takes("huggingface", ("tokenizer.json",), ("fp8",))
    assert unsupported((HUGGINGFACE, fp8), huggingface(quantisation=("fp8",))) is None


@pytest.mark.parametrize(
    ("facts", "what", "why", "hint"),
    [
        (huggingface(), "Hugging Face checkpoints", "supported: GGUF files", "GGUF file"),
        (gguf(tokenizer="llama"), "the tokenizer 'llama'", "gpt2/qwen2, gpt2/smollm", "Hugging"),
        (gguf(tokenizer="none"), "without a tokenizer", "gpt2/qwen2", "another"),
        (
            gguf(quantisation=("f32", "iq4_xs", "q5_k")),
            "of type IQ4_XS and Q5_K",
            "F32, Q8_0",
            "Q8",
        ),
    ],
)
def test_refusal_says_what_is_supported_and_what_to_do(
    facts: CheckpointFacts, what: str, why: str, hint: str
) -> None:
    found = unsupported((GGUF,), facts)
    assert found is not None
    assert what in found.what
    assert why in found.why
    assert hint in found.hint


def test_architecture_of_one_form_only_is_refused_in_the_other() -> None:
    takes = (Takes("gguf", ("*",), ("q8_0",), ("llama",)), HUGGINGFACE)
    phi3 = CheckpointFacts("gguf", "phi3", "llama", ("q8_0",))
    found = unsupported(takes, phi3)
    assert found is not None
    assert found.what == "'phi3' models as GGUF files"
    assert unsupported(takes, huggingface()) is None


class TestPrecisions:
    """A builder that takes a GGUF file as it is, and Hugging Face for all it converts."""

    TAKES = (
        Takes("gguf", ("*",), ("q8_0",), ("llama",), precisions=("as-is",)),
        Takes("huggingface", ("tokenizer.json",), ("none",), precisions=("fp16", "int8")),
    )

    def test_form_counts_for_the_precisions_that_it_is_declared_for(self) -> None:
        quantised = gguf(quantisation=("q8_0",))
        assert unsupported(self.TAKES, quantised, "as-is") is None
        assert unsupported(self.TAKES, huggingface(), "int8") is None
        assert unsupported(self.TAKES, quantised) is None

    @pytest.mark.parametrize(
        ("facts", "precision", "hint"),
        [
            (huggingface(), "as-is", "set engine.precision to fp16 or int8, or use a GGUF"),
            (gguf(quantisation=("q8_0",)), "fp16", "set engine.precision to as-is, or use the"),
            (gguf(quantisation=("q4_k",)), "fp16", "use the Hugging Face checkpoint"),
        ],
    )
    def test_other_precision_that_takes_it_is_named(
        self, facts: CheckpointFacts, precision: str, hint: str
    ) -> None:
        found = unsupported(self.TAKES, facts, precision)
        assert found is not None
        assert found.hint.startswith(hint)


QUANTISED = ("gptq", "awq", "fp8", "fbgemm_fp8", "bitsandbytes", "compressed-tensors", "mxfp4",
             "modelopt", "unknown")  # fmt: skip


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("method", QUANTISED)
def test_quantised_checkpoint_is_refused_by_every_builder(name: str, method: str) -> None:
    facts = huggingface(quantisation=(method,))
    chosen = profile(PROFILES[name])
    with pytest.raises(ConfigurationError, match="does not support") as caught:
        check(chosen, load(name), "llama", facts)
    assert caught.value.exit_code == 3
    assert method in str(caught.value) or "Hugging Face" in str(caught.value)


@pytest.mark.parametrize("name", names())
def test_llama_in_a_supported_form_is_planned_for_every_builder(name: str) -> None:
    facts = CheckpointFacts("gguf", "llama", "gpt2/smollm", ("f32", "q4_1", "q8_0"))  # the demo's
    check(profile(PROFILES[name]), load(name), None, facts)


@pytest.mark.parametrize("name", ["edge-llm", "onnx-runtime", "tensorrt-llm", "tensorrt-rtx"])
@pytest.mark.parametrize("tokenizer", ["spiece.model", "tekken.json", "tiktoken", "none"])
def test_checkpoint_without_tokenizer_json_is_refused(name: str, tokenizer: str) -> None:
    with pytest.raises(ConfigurationError, match="tokenizer") as caught:
        check(profile(PROFILES[name]), load(name), "llama", huggingface(tokenizer=tokenizer))
    assert "supported tokenizers: tokenizer.json, tokenizer.model" in caught.value.why


def test_architecture_known_from_headers_only_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="does not support 'gemma2' models"):
        check(
            profile("jetson-agx-orin"),
            load("edge-llm"),
            None,
            CheckpointFacts(architecture="gemma2"),
        )


def test_takers_say_for_each_builder_why_not() -> None:
    found = takers(gguf(tokenizer="llama"))
    assert found["edge-llm"] is None
    assert found["openvino"] is None  # by way of the Hugging Face form
    found = takers(gguf(tokenizer="rwkv"))
    assert "does not support checkpoints with the tokenizer 'rwkv'" in str(found["openvino"])
    assert set(found) == set(names())


def test_what_the_conversion_takes_is_what_its_tool_knows() -> None:
    families = {family.model_type for family in gguf_model.FAMILIES.values()}
    assert set(CONVERTED_GGUF.architectures) == families
    splits = {f"gpt2/{split}" for split in tokenizer_json.SPLITS}
    assert set(CONVERTED_GGUF.tokenizers) == splits | {"llama"}


def test_types_that_are_declared_are_types_of_ggml() -> None:
    known = {name.lower() for name, _, _ in TENSOR_TYPES.values()}
    for name in names():
        for takes in load(name).TAKES:
            if takes.form == "gguf":
                assert set(takes.quantisations) <= known
    assert {"q5_k", "iq4_xs", "bf16"} <= set(CONVERTED_GGUF.quantisations)


@pytest.mark.parametrize("name", names())
def test_each_precision_of_a_builder_takes_some_form(name: str) -> None:
    builder = load(name)
    for precision in builder.PRECISIONS:
        assert any(precision in (one.precisions or builder.PRECISIONS) for one in builder.TAKES)
    for one in builder.TAKES:
        assert set(one.precisions) <= set(builder.PRECISIONS)
        assert not one.architectures or set(one.architectures) & set(builder.ARCHITECTURES)
