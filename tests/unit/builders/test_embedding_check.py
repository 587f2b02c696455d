"""The comparison of an embedding model with its checkpoint, when it is built."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import embedding_check
import embedding_format
import pytest
from embedding_format import Embeddings, FormatError

RIGHT = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
REFERENCE = Embeddings(["a", "b", "c"], RIGHT, {"transformers": "5"})
BROKEN = [math.nan, math.inf, -math.inf]


def computed(vectors: Sequence[Sequence[float]]) -> embedding_check.Embed:
    """A model that makes these vectors of the texts of the reference."""
    known = dict(zip(REFERENCE.texts, vectors, strict=True))
    return lambda texts: [known[text] for text in texts]


def test_equal_vectors_pass(capsys: pytest.CaptureFixture[str]) -> None:
    found = embedding_check.compare(REFERENCE, computed(RIGHT))
    assert found["alone"] == {"cosine_min": pytest.approx(1.0), "difference_max": 0.0}
    assert found["together"]["cosine_min"] == pytest.approx(1.0)
    assert embedding_check.verdict(found) == 0
    assert "3 texts: 1.0000000 alone, 1.0000000 in batches" in capsys.readouterr().err


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_value_that_is_not_finite_is_refused_wherever_it_is(value: float, at: int) -> None:
    vectors = [[value, 0.0] if index == at else one for index, one in enumerate(RIGHT)]
    found = embedding_check.compare(REFERENCE, computed(vectors))
    for part in (found["alone"], found["together"]):
        assert (part["cosine_min"], part["difference_max"]) == (0.0, None)
    assert embedding_check.verdict(found) == embedding_check.GATE_FAILED


@pytest.mark.parametrize("vector", [[0.8, 0.6], [-0.6, -0.8], [0.0, 0.0], [0.6, 0.8, 0.0]])
def test_a_vector_that_is_not_the_checkpoints_is_refused(vector: list[float]) -> None:
    found = embedding_check.compare(REFERENCE, computed([*RIGHT[:2], vector]))
    assert embedding_check.verdict(found) == embedding_check.GATE_FAILED


def test_a_model_that_is_wrong_in_batches_only_is_refused() -> None:
    right = computed(RIGHT)

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return right(texts) if len(texts) == 1 else [[math.nan, 0.0], *right(texts)[1:]]

    found = embedding_check.compare(REFERENCE, embed)
    assert found["alone"]["cosine_min"] == pytest.approx(1.0)
    assert embedding_check.verdict(found) == embedding_check.GATE_FAILED


ENCODER = """
class Encoder:
    def __init__(self, engine): pass
    def embed(self, batch):
        return [{"a": [1.0, 0.0], "b": [float("nan"), 1.0]}[one] for one in batch]
"""
WORDS = """
class Words:
    def __init__(self, engine): pass
    def encode(self, texts): return texts
"""


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Import the programs of this folder, not those of another test."""
    monkeypatch.syspath_prepend(str(folder))
    for name in ("encoder_of_test", "words_of_test"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def run(folder: Path, encoder: str = ENCODER, words: str = WORDS) -> int:
    reference = folder / "reference"
    reference.mkdir(exist_ok=True)
    if not (reference / "reference.json").exists():
        embedding_format.write(reference / "reference.json", Embeddings(["a", "b"], RIGHT[:2], {}))
    for name, text in (("encoder_of_test.py", encoder), ("words_of_test.py", words)):
        (folder / name).write_text(text)
    options = {
        "--engine": folder, "--reference": reference, "--encoder": folder / "encoder_of_test.py",
        "--words": folder / "words_of_test.py", "--output": folder / "out",
        "--probe": folder / "probe",
    }  # fmt: skip
    return int(embedding_check.main([str(one) for pair in options.items() for one in pair]))


def test_the_program_ends_with_6_and_a_receipt_that_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch, tmp_path)
    assert run(tmp_path) == embedding_check.GATE_FAILED
    text = (tmp_path / "out" / "embedding.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["alone"] == {"cosine_min": 0.0, "difference_max": None}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not valid"),
        ("[]", "is not valid"),
        ('{"texts": ["a"], "embeddings": ["AAA="], "tools": {}}', "not float32"),
        ('{"texts": ["a"], "embeddings": [], "tools": {}}', "one vector of equal width"),
        ('{"texts": [], "embeddings": [], "tools": {}}', "one vector of equal width"),
        ('{"texts": ["a"], "embeddings": ["AACAPw=="], "tools": []}', "is not valid"),
        ('{"texts": ["a", "b"], "embeddings": ["AACAPw==", "AADAfw=="], "tools": {}}', "finite"),
    ],
)
def test_a_reference_that_is_not_valid_ends_with_3(
    tmp_path: Path, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference" / "reference.json").write_text(text)
    assert run(tmp_path) == embedding_check.CONFIGURATION_ERROR
    assert why in capsys.readouterr().err


def fails(where: str, error: str) -> str:
    return where.replace("pass", f"raise {error}").replace("return", f"raise {error} #")


@pytest.mark.parametrize(
    ("programs", "code", "why"),
    [
        (
            {"words": fails(WORDS, "Exception('no vocabulary')")},
            3,
            "tokenizer cannot be loaded: no",
        ),
        ({"encoder": fails(ENCODER, "RuntimeError('no memory')")}, 5, "not be computed: no memory"),
    ],
)
def test_a_model_that_does_not_compute_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    programs: dict[str, str],
    code: int,
    why: str,
) -> None:
    alone(monkeypatch, tmp_path)
    assert run(tmp_path, **programs) == code
    assert why in capsys.readouterr().err


def test_a_reference_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.json"
    embedding_format.write(path, REFERENCE)
    monkeypatch.setattr(embedding_format, "MAX_BYTES", 10)
    with pytest.raises(FormatError, match="larger than 10 bytes"):
        embedding_format.read(path)
