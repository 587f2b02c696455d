"""Options and files that the release commands share."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from forge.errors import ConfigurationError, TrustError
from forge.release.steps.common import parser, read_object, run

RESULT = {"b": 1, "a": [2]}


def arguments(**given: Any) -> Namespace:
    return Namespace(**{"json": False, "result": None} | given)


def test_result_is_printed_and_written_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda _: RESULT, arguments()) == 0
    assert capsys.readouterr().out == ""
    assert run(lambda _: RESULT, arguments(json=True, result=tmp_path / "r.json")) == 0
    text = capsys.readouterr().out
    assert json.loads(text) == RESULT
    assert text == (tmp_path / "r.json").read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'


def test_error_becomes_its_exit_code_and_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_: Namespace) -> dict[str, Any]:
        raise TrustError("It is not signed", why="no key", hint="sign it")

    assert run(command, arguments(json=True, result=tmp_path / "r.json")) == 7
    output = capsys.readouterr()
    assert output.err == "Error: It is not signed: no key\n  → sign it\n"
    assert output.out == ""
    assert not (tmp_path / "r.json").exists()


def test_result_that_cannot_be_written_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda _: RESULT, arguments(result=tmp_path / "no" / "r.json")) == 9
    assert "r.json" in capsys.readouterr().err


def test_parser_names_its_module_and_its_description(capsys: pytest.CaptureFixture[str]) -> None:
    command = parser("forge.release.steps.x", "Do a thing.")
    assert command.parse_args([]) == Namespace(json=False, result=None)
    assert command.parse_args(["--json", "--result", "r"]).result == Path("r")
    assert command.prog == "python -m forge.release.steps.x"
    assert command.description == "Do a thing."
    with pytest.raises(SystemExit) as ended:
        command.parse_args(["--other"])
    assert ended.value.code == 2
    assert "--other" in capsys.readouterr().err


def test_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "does not hold a JSON object"),
        (b"1", "does not hold a JSON object"),
        (b"{", "Cannot read"),
        (b"\xff\xfe", "Cannot read"),
        (b"", "Cannot read"),
        (b"[" * 100_000, "Cannot read"),
        (None, "Cannot read"),
        (b" " * (16 * 1024 * 1024 + 1), "is larger than 16777216 bytes"),
    ],
    ids=["list", "number", "cut", "encoding", "empty", "nested", "missing", "large"],
)
def test_file_that_is_not_a_json_object_is_named(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    if data is not None:
        (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_object(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in caught.value.what
    assert caught.value.exit_code == 3
