"""Rows told from sentences, and cells that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.nvidia_smi import is_gpu_row, is_unknown, is_unsupported, known, locate, read_rows


@pytest.mark.parametrize("cell", ["N/A", "[N/A]", "Not Supported", "[Not Supported]", " [N/A] "])
def test_what_a_gpu_does_not_have_is_not_supported(cell: str) -> None:
    assert (is_unsupported(cell), is_unknown(cell), known(cell)) == (True, False, None)


CELLS = [
    "[Unknown Error]",
    "[GPU requires reset]",
    "[Insufficient Permissions]",
    "[something new]",
    "ERR!",
]


@pytest.mark.parametrize("cell", CELLS)
def test_what_cannot_be_read_now_is_unknown(cell: str) -> None:
    assert (is_unsupported(cell), is_unknown(cell), known(cell)) == (False, True, None)


@pytest.mark.parametrize("cell", ["0", "24467", "Orin (nvgpu)", "GPU-1", "Tesla [P40]"])
def test_a_value_is_a_value(cell: str) -> None:
    assert known(f" {cell} ") == cell


def test_the_first_thing_beside_the_rows_is_the_note() -> None:
    said = read_rows("P40, 1, 580.1\nfirst\nsecond\n", "third\n", 14, "", is_gpu_row)
    assert said.rows == (("P40", "1", "580.1"),)
    assert said.note == "exit code 14: first (a warning, the rows are good)"
    assert read_rows("", "third\n", 9, "", is_gpu_row).note == "exit code 9: third"
    assert read_rows("", "", 9, "", is_gpu_row).note == "exit code 9: no output"
    assert read_rows("", "", 0, "not installed", is_gpu_row).note == "not installed"
    assert read_rows("P40, 1, 580.1\n", "", 0, "", is_gpu_row).note == ""


def test_a_row_on_standard_error_is_none() -> None:
    assert read_rows("", "P40, 1, 580.1\n", 0, "", is_gpu_row).rows == ()


@given(st.text(), st.text(), st.integers(0, 255))
def test_no_text_breaks_the_reader(output: str, errors: str, code: int) -> None:
    read_rows(output, errors, code, "", is_gpu_row)


def test_it_is_looked_for_on_path_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("path", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nvidia-smi").write_text("#!/bin/sh\n")
        (tmp_path / name / "nvidia-smi").chmod(0o755)
    folders = (str(tmp_path / "none"), str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert locate(folders) == str(tmp_path / "path" / "nvidia-smi")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert locate(folders) == str(tmp_path / "elsewhere" / "nvidia-smi")
    assert locate(()) is None
