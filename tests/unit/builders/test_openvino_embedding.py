"""What the compiler of embedding models refuses, before OpenVINO is needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import embedding_checkpoint
import numpy as np
import openvino_embedding
import pytest
import safetensors_file
from embedding_checkpoint import UnsupportedEmbeddingError

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "max_position_embeddings": 16,
    "vocab_size": 5,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
PIECES = [
    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
]
TEMPLATE = {"type": "TemplateProcessing", "single": PIECES}
TYPE = "sentence_transformers.models"


def written(folder: Path, config: Any = None, tokenizer: Any = None, weights: bytes = b"") -> Path:
    """A checkpoint, whose weights are one header."""
    modules = [
        {"idx": 0, "path": "", "type": f"{TYPE}.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": f"{TYPE}.Pooling"},
    ]
    files = {
        "modules.json": modules,
        "config.json": CONFIG if config is None else config,
        "tokenizer.json": {"post_processor": TEMPLATE} if tokenizer is None else tokenizer,
        "1_Pooling/config.json": {"pooling_mode": "cls"},
    }
    (folder / "1_Pooling").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


def refused(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The program ends with 3, one message that names what is wrong, and no output."""
    output = folder / "out"
    arguments = ["--checkpoint", str(folder / "in"), "--output", str(output)]
    assert openvino_embedding.main(arguments) == openvino_embedding.CONFIGURATION_ERROR
    said = capsys.readouterr().err
    assert "\nError: " in f"\n{said}"
    assert name in said
    assert not output.exists()


def test_a_bert_encoder_is_understood() -> None:
    openvino_embedding.check_config(CONFIG)


WRONG: list[object] = ["2", None, True, [], {}, 2.5, -1, 0, math.nan, math.inf]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("num_attention_heads", "num_hidden_layers")
            for value in WRONG
        ),
        *(("layer_norm_eps", value) for value in ["1e-12", None, True, [], -1.0, 1.0, math.nan]),  # type: ignore[var-annotated]
        *(("hidden_act", value) for value in ["relu", "gelu_new", None, ["gelu"], {}, 1]),  # type: ignore[var-annotated]
        *(("position_embedding_type", value) for value in ["relative_key", None, []]),  # type: ignore[var-annotated]
        *(("is_decoder", value) for value in [True, "false"]),
        *(("model_type", value) for value in ["roberta", None, ["bert"], {}, 1]),  # type: ignore[var-annotated]
        ("num_attention_heads", 3),
        ("quantization_config", {"bits": 4}),
        ("pruned_heads", {"0": [1]}),
        ("rope_theta", 10000.0),
    ],
)
def test_a_field_that_the_graph_does_not_obey_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: Any
) -> None:
    written(tmp_path / "in", {**CONFIG, name: value})
    words = {"num_attention_heads": "heads", "model_type": "model; supported: bert"}
    refused(tmp_path, capsys, words.get(name, name))


@pytest.mark.parametrize("name", ["num_attention_heads", "num_hidden_layers", "hidden_size"])
def test_a_size_that_is_missing_is_no_missing_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    written(tmp_path / "in", {one: value for one, value in CONFIG.items() if one != name})
    refused(tmp_path, capsys, f"config.json has no valid {name}: None")


def test_no_epsilon_is_that_of_bert() -> None:
    openvino_embedding.check_config({k: v for k, v in CONFIG.items() if k != "layer_norm_eps"})


@pytest.mark.parametrize("processor", [TEMPLATE, {"type": "BertProcessing"}])
def test_a_tokenizer_of_bert_is_understood(tmp_path: Path, processor: Any) -> None:
    folder = written(tmp_path / "in", tokenizer={"post_processor": processor})
    openvino_embedding.check_tokenizer(embedding_checkpoint.read_checkpoint(folder))


def singles(*values: Any) -> list[dict[str, Any]]:
    return [{**TEMPLATE, "single": single} for single in values]


TYPES: list[Any] = [1, None, "0", [0], {}, False, 0.0]


@pytest.mark.parametrize(
    "processor",
    [
        *(None, "BertProcessing", [], [TEMPLATE], 1, True, {}),
        {"type": ["BertProcessing"]},
        {"type": "RobertaProcessing"},
        {"type": "TemplateProcessing"},
        *({**TEMPLATE, "single": single} for single in ("[CLS] $A [SEP]", {}, [1], [[]], [{}])),  # type: ignore[var-annotated]
        {**TEMPLATE, "single": [{"Sequence": ["A", 0]}]},
        *(  # type: ignore[var-annotated]
            {
                **TEMPLATE,
                "single": [*PIECES[:2], {"SpecialToken": {"id": "[SEP]", "type_id": kind}}],
            }
            for kind in (1, None, "0", [0], {}, False, 0.0)
        ),
    ],
)
def test_a_tokenizer_that_may_give_other_types_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], processor: Any
) -> None:
    written(tmp_path / "in", tokenizer={"post_processor": processor})
    refused(tmp_path, capsys, "tokenizer.json")


@pytest.mark.parametrize("tokenizer", [[], "x", 1])
def test_a_tokenizer_that_is_no_object_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tokenizer: Any
) -> None:
    written(tmp_path / "in", tokenizer=tokenizer)
    refused(tmp_path, capsys, "tokenizer.json is not a JSON object")


def tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (b"", "model.safetensors"),
        (header(a=tensor("BF16", (4,))), "tensor a has the type BF16"),
        (header(a=tensor(shape=(-1, -2))), "tensor a has the shape [-1, -2]"),
        (header(a=tensor(offsets=(0, math.inf))), "header"),
        (header(a=tensor(shape=(math.inf,))), "header"),
        (header(a=tensor(shape="x")), "model.safetensors"),
        (header(a=tensor(offsets=(0, 4))), "model.safetensors"),
        (header(a=[]), "model.safetensors"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "header"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], weights: bytes, why: str
) -> None:
    written(tmp_path / "in", weights=weights)
    refused(tmp_path, capsys, why)


@pytest.mark.parametrize("value", [70000.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_weights_that_16_bits_cannot_hold_are_refused(value: float, at: int) -> None:
    array = np.zeros(2, np.float32)
    array[at] = value
    arrays = {"a": np.zeros(0, np.float32), "b": np.array([2**40]), "c": array}
    with pytest.raises(UnsupportedEmbeddingError, match="tensor c has values"):
        openvino_embedding.check_range(arrays)
    openvino_embedding.check_range({"a": arrays["a"], "b": arrays["b"]})


WORDS, PLACES = "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((WORDS, shape) for shape in [(4, 8), (5, 16), (5,), (), (5, 8, 1)]),
        *((PLACES, shape) for shape in [(15, 8), (16, 4), (16,)]),
    ],
)
def test_sizes_that_the_tables_do_not_have_are_refused(name: str, shape: tuple[int, ...]) -> None:
    right = {WORDS: (5, 8), PLACES: (16, 8)}

    def check(shapes: dict[str, tuple[int, ...]]) -> None:
        arrays = {f"bert.{one}": np.zeros(size) for one, size in shapes.items()}
        openvino_embedding.check_sizes(CONFIG, SimpleNamespace(arrays=arrays, prefix="bert."))

    check(dict(right))
    with pytest.raises(UnsupportedEmbeddingError, match=name):
        check({**right, name: shape})


def test_a_damaged_index_of_weights_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "in")
    (folder / safetensors_file.INDEX).write_text('{"weight_map": {"a": "../b"}}')
    refused(tmp_path, capsys, "outside")
