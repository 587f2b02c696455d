"""forge.yaml: what it may say, and that nothing in it is taken for something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.runners.project_file import read_project_file
from tests.support.trusted_builders import builders, write_project_file


def test_project_without_the_file_names_no_builders(tmp_path: Path) -> None:
    assert read_project_file(tmp_path).builders is None
    (tmp_path / "forge.yaml").write_text("")
    assert read_project_file(tmp_path).builders is None


def test_builders_are_read_with_their_steps_and_keys(tmp_path: Path) -> None:
    named = builders(hosted=["checkpoint", "engine@*"], gpu=["smoke@*"])
    write_project_file(tmp_path, named)
    assert read_project_file(tmp_path).builders == named


WRONG = {
    "no builder": "builders: {}",
    "no mapping": "builders: [a]",
    "name with a slash": "builders: {../a: {steps: ['*'], keys: [x]}}",
    "name with capitals": "builders: {A: {steps: ['*'], keys: [x]}}",
    "no keys": "builders: {a: {steps: ['*']}}",
    "steps are no list": "builders: {a: {steps: '*', keys: [x]}}",
    "key is no PEM": "builders: {a: {steps: ['*'], keys: [x]}}",
    "unknown field": "builders: {a: {steps: ['*'], keys: [], trust: true}}",
    "twice": "builders: {a: {steps: ['*'], keys: [x]}}\nbuilders: {}",
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_file_that_is_not_valid_is_refused_by_name(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "forge.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=r"forge\.yaml is not valid") as caught:
        read_project_file(tmp_path)
    assert caught.value.exit_code == 3
