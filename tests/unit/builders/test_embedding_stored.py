"""The reference of an embedding model from a file of the project."""

from __future__ import annotations

from pathlib import Path

import embedding_format
import embedding_stored
import pytest
from embedding_format import Embeddings

FOUND = Embeddings(["a", "ö"], [[1.0, -0.5], [0.25, 0.0]], {"torch": "2"})


def run(folder: Path) -> int:
    arguments = ["--stored", str(folder / "x.embeddings.json"), "--output", str(folder / "out")]
    return int(embedding_stored.main(arguments))


def test_the_reference_is_that_of_the_file(tmp_path: Path) -> None:
    embedding_format.write(tmp_path / "x.embeddings.json", FOUND)
    assert run(tmp_path) == 0
    assert embedding_format.read(tmp_path / "out" / "reference.json") == FOUND


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "1", '{"texts": 1}', "[" * 200_000),
        '{"texts": ["a"], "embeddings": [1], "tools": {}}',
        '{"texts": ["a"], "embeddings": ["AAAAAA==", "AAAAAA=="], "tools": {}}',
        '{"texts": ["a", "b"], "embeddings": ["AAAAAA==", "AAAAAAAAAAA="], "tools": {}}',
        '{"texts": ["a"], "embeddings": ["AADAfw=="], "tools": {}}',
    ],
)
def test_a_file_that_is_not_valid_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.embeddings.json").write_text(text)
    assert run(tmp_path) == embedding_stored.CONFIGURATION_ERROR
    assert capsys.readouterr().err.startswith("Error: x.embeddings.json ")
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_a_failed_step(tmp_path: Path) -> None:
    assert run(tmp_path) == embedding_stored.STEP_FAILED
