"""The reference file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_format as form


def a_reference() -> form.Reference:
    random = np.random.default_rng(3)
    passages = []
    for kind, size, start in (("short", 9, 0), ("long", 20, 0), ("decode", 12, 4)):
        tokens = [int(one) for one in random.integers(0, 100, size)]
        logits = random.normal(0, 2, (size - 1 - start, 100))
        expected = form.expect(logits, np.array(tokens[start + 1 :]))
        passages.append(form.Passage(kind, tokens, start, expected))
    return form.Reference({"precision": "float32"}, tuple(passages))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = a_reference()
    form.write(tmp_path / "a.npz", written)
    found = form.read(tmp_path / "a.npz")
    assert found.facts == written.facts
    for one, other in zip(found.passages, written.passages, strict=True):
        assert (one.kind, one.tokens, one.start) == (other.kind, other.tokens, other.start)
        assert (one.expected.ids == other.expected.ids).all()
        assert np.allclose(one.expected.logprobs, other.expected.logprobs, rtol=1e-3)
        assert np.allclose(one.expected.rest, other.expected.rest, atol=1e-6)
        assert np.allclose(one.expected.actual, other.expected.actual, atol=1e-6)


def test_equal_references_are_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        form.write(tmp_path / name, a_reference())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_most_likely_tokens_come_first_and_the_rest_is_what_they_lack_to_one() -> None:
    logits = np.log(np.array([[*([0.002] * 100), 0.5, 0.3]]))
    found = form.expect(logits, np.array([101]))
    assert found.ids[0, :2].tolist() == [100, 101]
    assert np.exp(found.rest[0]) == pytest.approx(0.002 * 38, rel=1e-6)
    assert np.exp(found.actual[0]) == pytest.approx(0.3, rel=1e-6)


def test_file_with_fewer_positions_than_its_passages_is_refused(tmp_path: Path) -> None:
    form.write(tmp_path / "a.npz", a_reference())
    with np.load(tmp_path / "a.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["ids"] = arrays["ids"][:-1]
    np.savez(tmp_path / "b.npz", **arrays)
    with pytest.raises(form.InvalidReferenceError, match="fewer positions"):
        form.read(tmp_path / "b.npz")


def test_file_with_python_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", facts=np.array([{"a": 1}], dtype=object))
    with pytest.raises(form.InvalidReferenceError, match="not a valid reference"):
        form.read(tmp_path / "a.npz")
