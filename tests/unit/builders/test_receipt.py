"""The receipt's figures, against sums written out in plain Python over the whole vocabulary."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import receipt
import reference_format as form
import room

SETTINGS = {"engine": {"max_batch_size": 4, "max_seq_len": 64}}
VOCABULARY = 300


class Model:
    """Logits from a table by the last token and the position; a cache cannot matter."""

    executed = "a table"
    precision = "fp32"

    def __init__(self, seed: int, vocabulary: int = VOCABULARY) -> None:
        random = np.random.default_rng(seed)
        self.table = random.normal(0, 3, (vocabulary, vocabulary)).astype(np.float32)
        self.batches: list[int] = []

    def logits(self, row: list[int]) -> np.ndarray:
        return self.table[row] + np.arange(len(row), dtype=np.float32)[:, None] / 100

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        self.batches.append(len(rows))
        return [self.logits(row) for row in rows]

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        whole = [*prompt, *tokens]
        return self.logits(whole)[len(prompt) - 1 : -1]


def reference_of(model: Model, lengths: dict[str, list[int]]) -> form.Reference:
    random = np.random.default_rng(0)
    passages = []
    for kind, sizes in lengths.items():
        for size in sizes:
            tokens = [int(one) for one in random.integers(0, len(model.table), size)]
            start = 7 if kind == "decode" else 0
            logits = model.logits(tokens)[start:-1]
            expected = form.expect(logits, np.array(tokens[start + 1 :]))
            passages.append(form.Passage(kind, tokens, start, expected))
    facts: dict[str, Any] = {"vocabulary": len(model.table), "precision": "float32"}
    facts |= {"architecture": "table", "text": {"sha256": "0" * 64}}
    return form.Reference(facts, tuple(passages))


LENGTHS = {"short": [20, 31, 12, 25, 18], "long": [60], "decode": [40]}


def softmax(values: np.ndarray) -> list[float]:
    top = max(float(one) for one in values)
    raw = [math.exp(float(one) - top) for one in values]
    return [one / sum(raw) for one in raw]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def test_divergence_of_a_small_vocabulary_is_the_exact_one() -> None:
    right, wrong = Model(1, 60), Model(2, 60)
    reference = reference_of(right, {"short": [30], "long": [30], "decode": [30]})
    found = receipt.measure(reference, wrong, receipt.Limits(1, 64))["short"]
    tokens = reference.passages[0].tokens
    exact = [
        divergence(softmax(a), softmax(b))
        for a, b in zip(right.logits(tokens)[:-1], wrong.logits(tokens)[:-1], strict=True)
    ]
    assert found["kl_mean"] == pytest.approx(sum(exact) / len(exact), rel=2e-3)
    assert found["kl_p99"] == pytest.approx(np.percentile(exact, 99), rel=2e-3)
    assert found["positions"] == 29


def test_divergence_takes_all_tokens_beyond_the_64_as_one() -> None:
    right, wrong = Model(1), Model(2)
    reference = reference_of(right, LENGTHS)
    tokens = reference.passages[0].tokens
    logits = wrong.logits(tokens)[:-1]
    found = receipt.difference(logits, np.array(tokens[1:]), reference.passages[0].expected)
    for place, row in enumerate(right.logits(tokens)[:-1]):
        p, q = softmax(row), softmax(logits[place])
        top = sorted(range(VOCABULARY), key=lambda index: -p[index])[: form.TOP]
        rest = [1 - sum(one[index] for index in top) for one in (p, q)]
        coarse = divergence([*(p[i] for i in top), rest[0]], [*(q[i] for i in top), rest[1]])
        assert found.divergence[place] == pytest.approx(coarse, rel=5e-3)
        assert coarse <= divergence(p, q)


def test_an_engine_that_computes_the_same_has_no_divergence_in_any_section() -> None:
    model = Model(1)
    found = receipt.measure(reference_of(model, LENGTHS), model, receipt.Limits(4, 64))
    assert set(found) == {"short", "batch", "long", "decode"}
    for section in found.values():
        assert abs(section["kl_mean"]) < 1e-6
        assert section["same_top"] == 1
        assert section["perplexity_ratio"] == pytest.approx(1, abs=1e-5)


def test_perplexity_ratio_is_that_of_the_text_by_both() -> None:
    right, wrong = Model(1), Model(2)
    reference = reference_of(right, LENGTHS)
    found = receipt.measure(reference, wrong, receipt.Limits(1, 64))["long"]
    (passage,) = reference.of_kind("long")
    sums = [
        sum(-math.log(softmax(row)[after]) for row, after in
            zip(model.logits(passage.tokens)[:-1], passage.tokens[1:], strict=True))
        for model in (wrong, right)
    ]  # fmt: skip
    assert found["perplexity"] == pytest.approx(math.exp(sums[0] / 59), rel=1e-4)
    assert found["perplexity_ratio"] == pytest.approx(math.exp((sums[0] - sums[1]) / 59), rel=1e-4)


def test_full_batch_means_as_many_rows_in_each_call_as_the_engine_takes() -> None:
    model = Model(1)
    receipt.measure(reference_of(model, LENGTHS), model, receipt.Limits(4, 64))
    # Alone first, then five passages as two calls of four: the second is filled up.
    assert model.batches[-2:] == [4, 4]
    assert set(model.batches[:-2]) == {1}


class WrongInBatch(Model):
    """Right alone, and wrong in every row but the first of a batch."""

    def score(self, rows: list[list[int]]) -> list[np.ndarray]:
        found = super().score(rows)
        return [found[0], *(one[:, ::-1] for one in found[1:])]


class ForgetsItsCache(Model):
    """Right for a whole prompt, and wrong as soon as it continues from its cache."""

    def decode(self, prompt: list[int], tokens: list[int]) -> np.ndarray:
        found = super().decode(prompt, tokens)
        found[1:] = self.table[0]
        return found


class WrongFarAway(Model):
    """Right for 40 tokens, and wrong beyond them, as with a lost rope scaling."""

    def logits(self, row: list[int]) -> np.ndarray:
        found = super().logits(row)
        found[40:] = self.table[0]
        return found


@pytest.mark.parametrize(
    ("model", "section"),
    [(WrongInBatch, "batch"), (ForgetsItsCache, "decode"), (WrongFarAway, "long")],
)
def test_a_fault_of_one_kind_shows_in_its_section_only(model: type[Model], section: str) -> None:
    found = receipt.measure(reference_of(Model(1), LENGTHS), model(1), receipt.Limits(4, 64))
    wrong = {name for name, one in found.items() if one["kl_mean"] > 0.1}
    assert wrong == {section}


def test_values_that_are_no_numbers_are_null_and_not_left_out() -> None:
    class Broken(Model):
        def logits(self, row: list[int]) -> np.ndarray:
            found = super().logits(row)
            found[3] = np.nan
            return found

    found = receipt.measure(reference_of(Model(1), LENGTHS), Broken(1), receipt.Limits(1, 64))
    assert found["short"]["kl_mean"] is None
    assert found["short"]["perplexity_ratio"] is None


def test_a_passage_is_cut_to_what_the_engine_holds() -> None:
    model = Model(1)
    found = receipt.measure(reference_of(model, LENGTHS), model, receipt.Limits(1, 30))
    assert (found["long"]["positions"], found["long"]["context"]) == (29, 30)


def test_rows_of_unlike_length_are_padded_on_the_right_and_masked() -> None:
    tokens, mask = receipt.padded([[5, 6, 7], [8]])
    assert tokens.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert tokens.dtype == mask.dtype == np.int64


def test_logarithms_of_a_whole_context_are_never_held_at_once() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (400, 4000)).astype(np.float32)
    following = np.arange(400)
    tracemalloc.start()
    try:
        expected = form.expect(logits, following)
        receipt.difference(logits, following, expected)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < logits.nbytes / 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "reference").mkdir()
    form.write(tmp_path / "reference" / form.NAME, reference_of(Model(1), LENGTHS))
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def run(folder: Path, load: Any) -> int:
    argv = ["--engine", str(folder / "engine"), "--reference", str(folder / "reference")]
    argv += ["--settings", str(folder / "settings.json"), "--output", str(folder / "out")]
    return int(receipt.main(load, lambda _engine: room.Room(1), argv))


def test_receipt_and_probe_are_written(folder: Path) -> None:
    assert run(folder, lambda _engine: Model(1)) == 0
    document = json.loads((folder / "out" / "receipt.json").read_text())
    assert document["executed"] == "a table"
    assert document["reference"]["precision"] == "float32"
    probe = json.loads((folder / "out" / "probe.json").read_text())
    tokens = probe["tokens"]
    rows = Model(1).logits(tokens)
    known = [math.log(softmax(rows[at])[after]) for at, after in enumerate(tokens[1:])]
    assert probe["logprobs"] == pytest.approx(known, abs=1e-3)


def test_an_engine_that_cannot_run_is_told_without_a_traceback(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_engine: Path) -> Model:
        raise receipt.EngineError("the engine has no model")

    assert run(folder, load) == 3
    assert capsys.readouterr().err == "Error: the engine has no model\n"


@pytest.mark.parametrize("damage", ["cut", "no file", "another format"])
def test_a_damaged_reference_is_refused(
    folder: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "reference" / form.NAME
    data = path.read_bytes()
    path.unlink()
    if damage != "no file":
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"{}")
    assert run(folder, lambda _engine: Model(1)) == 3
    assert "reference.npz is not a valid reference" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["top", "following"])
def test_a_reference_with_tokens_that_the_engine_does_not_have_is_refused(column: str) -> None:
    reference = reference_of(Model(1), LENGTHS)
    (passage, *_) = reference.of_kind("short")
    following = np.array(passage.tokens[1:])
    few = int(passage.expected.ids.max()) if column == "top" else VOCABULARY
    if column == "following":
        following[0] = VOCABULARY
    logits = np.zeros((len(following), few), np.float32)
    with pytest.raises(receipt.EngineError, match="of different models"):
        receipt.difference(logits, following, passage.expected)
