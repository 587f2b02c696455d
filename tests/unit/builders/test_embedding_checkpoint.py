"""What a checkpoint of sentence-transformers says of itself, and what is refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import embedding_checkpoint
import pytest
from embedding_checkpoint import UnsupportedEmbeddingError

BASE = "sentence_transformers.models"
FILES: dict[str, Any] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": f"{BASE}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{BASE}.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{BASE}.Normalize"},
    ],
    "config.json": {"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 512},
    "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
    "config_sentence_transformers.json": {"prompts": {"query": "query: "}},
    "tokenizer_config.json": {"model_max_length": 384},
    "2_Normalize/config.json": None,
    "1_Pooling/config.json": {
        "word_embedding_dimension": 8,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
    },
}


def written(folder: Path, **changes: Any) -> Path:
    """A checkpoint; `file.json` is changed under the name `file`, None leaves it out."""
    for name, content in FILES.items():
        found = changes.get(name.removesuffix(".json").replace("/", "_"), content)
        if found is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found if isinstance(found, str) else json.dumps(found))
    return folder


def test_a_checkpoint_has_its_pooling_length_and_width(tmp_path: Path) -> None:
    found = embedding_checkpoint.read_checkpoint(written(tmp_path))
    assert (found.pooling, found.normalize) == ("mean", True)
    assert (found.dimensions, found.max_seq_len) == (8, 256)


def test_it_may_be_inside_of_a_package(tmp_path: Path) -> None:
    found = embedding_checkpoint.read_checkpoint(written(tmp_path / "a" / "model").parents[1])
    assert found.folder == tmp_path / "a" / "model"


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"sentence_bert_config": {"max_seq_length": 1024}}, 512),
        ({"sentence_bert_config": None}, 384),
        ({"sentence_bert_config": None, "tokenizer_config": None}, 512),
        ({"sentence_bert_config": None, "tokenizer_config": {"model_max_length": 1e30}}, 512),
    ],
)
def test_the_longest_text_is_what_sentence_transformers_takes(
    tmp_path: Path, changes: dict[str, Any], length: int
) -> None:
    assert embedding_checkpoint.read_checkpoint(written(tmp_path, **changes)).max_seq_len == length


def test_vectors_are_not_normalized_without_the_module(tmp_path: Path) -> None:
    modules = FILES["modules.json"][:2]
    found = embedding_checkpoint.read_checkpoint(written(tmp_path, modules=modules))
    assert not found.normalize


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls", "embedding_dimension": 8}]
)
def test_the_first_tokens_vector_may_be_the_texts(tmp_path: Path, pooling: dict[str, Any]) -> None:
    found = embedding_checkpoint.read_checkpoint(written(tmp_path, **{"1_Pooling_config": pooling}))
    assert found.pooling == "cls"


def with_module(kind: str) -> list[dict[str, Any]]:
    return [*FILES["modules.json"][:2], {"idx": 2, "path": "2_Dense", "type": kind}]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"modules": None}, "no modules.json"),
        ({"modules": "{"}, "not valid JSON"),
        ({"modules": {"a": 1}}, "not a list"),
        ({"modules": FILES["modules.json"][:1]}, "1 modules"),
        ({"modules": with_module(f"{BASE}.Dense")}, "Dense"),
        ({"modules": with_module("evil.Normalize")}, "evil"),
        ({"modules": [*FILES["modules.json"], FILES["modules.json"][2]]}, "4 modules"),
        ({"1_Pooling_config": {"pooling_mode_max_tokens": True}}, "pooling_mode_max_tokens"),
        (
            {
                "1_Pooling_config": {
                    "pooling_mode_mean_tokens": True,
                    "pooling_mode_cls_token": True,
                }
            },
            "and",
        ),
        ({"1_Pooling_config": {}}, "none"),
        ({"1_Pooling_config": {"pooling_mode": "lasttoken"}}, "lasttoken"),
        ({"1_Pooling_config": {"pooling_mode_mean_tokens": True, "scale": 2}}, "scale"),
        ({"1_Pooling_config": {"word_embedding_dimension": 9}}, "9"),
        (
            {"1_Pooling_config": {"pooling_mode_mean_tokens": True, "include_prompt": False}},
            "prompt",
        ),
        ({"1_Pooling_config": None}, "no readable config.json"),
        ({"sentence_bert_config": {"do_lower_case": True}}, "do_lower_case"),
        ({"sentence_bert_config": {"modality": "image"}}, "modality"),
        ({"config_sentence_transformers": {"default_prompt_name": "query"}}, "default_prompt_name"),
        ({"config": {"hidden_size": 8}}, "max_position_embeddings"),
        ({"config": {"max_position_embeddings": 8}}, "hidden_size"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnsupportedEmbeddingError, match=why):
        embedding_checkpoint.read_checkpoint(written(tmp_path, **changes))


def module(**changes: Any) -> dict[str, Any]:
    return {"modules": [FILES["modules.json"][0], {**FILES["modules.json"][1], **changes}]}


NUMBERS: list[Any] = ["256", True, [], {}, 2.5, -5, 0, math.nan, math.inf, -math.inf]


def wrong(file: str, name: str, values: list[Any], **others: Any) -> list[tuple[Any, ...]]:
    """A changed file for each wrong value of one field."""
    return [({file: {**others, name: value}}, name) for value in values]


def of_module(name: str, values: list[Any]) -> list[tuple[Any, ...]]:
    """modules.json for each wrong value of one field."""
    return [(module(**{name: value}), name) for value in values]


MEAN = {"pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        *wrong("sentence_bert_config", "max_seq_length", [*NUMBERS, 1]),
        *wrong("sentence_bert_config", "do_lower_case", ["false", 0, 1, []]),
        *wrong("config", "hidden_size", [*NUMBERS, None], max_position_embeddings=512),
        *wrong("config", "max_position_embeddings", [*NUMBERS, None, 1], hidden_size=8),
        *wrong("1_Pooling_config", "word_embedding_dimension", [*NUMBERS, None, "8"], **MEAN),
        *wrong("1_Pooling_config", "embedding_dimension", [*NUMBERS, None, "8"], **MEAN),
        *wrong("1_Pooling_config", "include_prompt", ["false", 0, 1, {}], **MEAN),
        *wrong("1_Pooling_config", "pooling_mode_cls_token", ["false", 0, 1, []], **MEAN),
        *wrong("1_Pooling_config", "pooling_mode", [None, 1, ["cls"], {}, "", "max"]),
        *wrong("config_sentence_transformers", "default_prompt_name", [0, False, [], {}, 1]),
        *wrong("config_sentence_transformers", "truncate_dim", [128]),
        *((module(idx=value), "idx") for value in ["x", "1", None, True, 1.0, math.inf, 0, 2, []]),  # type: ignore[var-annotated]
        *((module(path=value), "path") for value in [None, 1, ["1_Pooling"], {}]),  # type: ignore[var-annotated]
        *((module(type=value), "type") for value in [None, 1, [], {}]),  # type: ignore[var-annotated]
        (module(kwargs=["task"]), "kwargs"),
        ({"modules": [1, 2]}, "not a list of objects"),
        ({"1_Pooling_config": {**MEAN, "pooling_mode": "cls"}}, "mean_tokens"),
        ({"2_Normalize_config": {"p": 1}}, "normalisation has 'p'"),
        *(({name: []}, "not a JSON object") for name in ("config", "1_Pooling_config")),
        *(({name: "[" * 200_000}, "not valid JSON") for name in ("config", "modules")),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnsupportedEmbeddingError, match=why):
        embedding_checkpoint.read_checkpoint(written(tmp_path, **changes))


@pytest.mark.parametrize("value", [*NUMBERS, 1])
def test_a_length_of_the_tokenizer_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    changes = {"sentence_bert_config": None, "tokenizer_config": {"model_max_length": value}}
    with pytest.raises(UnsupportedEmbeddingError, match="model_max_length"):
        embedding_checkpoint.read_checkpoint(written(tmp_path, **changes))


def test_null_is_a_field_that_is_not_there(tmp_path: Path) -> None:
    changes = {
        "sentence_bert_config": {"max_seq_length": None, "do_lower_case": None},
        "tokenizer_config": {"model_max_length": None},
        "config_sentence_transformers": {"default_prompt_name": None},
        "1_Pooling_config": {**MEAN, "include_prompt": None, "pooling_mode_cls_token": None},
        "2_Normalize_config": {},
    }
    found = embedding_checkpoint.read_checkpoint(written(tmp_path, **changes))
    assert (found.max_seq_len, found.pooling) == (512, "mean")


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_checkpoint, "MAX_BYTES", 10)
    with pytest.raises(UnsupportedEmbeddingError, match=r"modules\.json is larger than 10 bytes"):
        embedding_checkpoint.read_checkpoint(written(tmp_path))


@pytest.mark.parametrize("path", ["../1_Pooling", "/etc", "1_Pooling\0"])
def test_a_module_outside_of_the_checkpoint_is_refused(tmp_path: Path, path: str) -> None:
    modules = [FILES["modules.json"][0], {**FILES["modules.json"][1], "path": path}]
    with pytest.raises(UnsupportedEmbeddingError, match="names the path"):
        embedding_checkpoint.read_checkpoint(written(tmp_path, modules=modules))


def test_two_models_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "one"), written(tmp_path / "two")
    with pytest.raises(UnsupportedEmbeddingError, match=r"2 files modules\.json"):
        embedding_checkpoint.read_checkpoint(tmp_path)
