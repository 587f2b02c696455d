"""Where the passphrase of the keys comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import UsageError
from forge.release.keys.passphrases import passphrase_source


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"one\n", "one"), (b"one\r\ntwo\n", "one"), (b"one", "one"), (b" one \n", " one ")],
)
def test_passphrase_is_the_first_line_of_its_file(
    tmp_path: Path, text: bytes, expected: str
) -> None:
    (tmp_path / "p").write_bytes(text)
    assert passphrase_source({}, file=tmp_path / "p")() == expected
    assert passphrase_source({"FORGE_PASSPHRASE_FILE": str(tmp_path / "p")})() == expected


def test_sources_of_a_passphrase_have_an_order(tmp_path: Path) -> None:
    (tmp_path / "argument").write_text("argument")
    (tmp_path / "variable").write_text("variable")
    environment = {
        "FORGE_PASSPHRASE_FILE": str(tmp_path / "variable"),
        "FORGE_PASSPHRASE": "value",
    }
    found = []
    found.append(passphrase_source(environment, tmp_path / "argument", lambda: "prompt")())
    found.append(passphrase_source(environment, None, lambda: "prompt")())
    del environment["FORGE_PASSPHRASE_FILE"]
    found.append(passphrase_source(environment, None, lambda: "prompt")())
    found.append(passphrase_source({}, None, lambda: "prompt")())
    assert found == ["argument", "variable", "value", "prompt"]


@pytest.mark.parametrize("text", ["", "\n", "\nsecond"])
def test_empty_passphrase_file_is_not_a_reason_to_ask(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(UsageError, match="No passphrase for the keys"):
        passphrase_source({"FORGE_PASSPHRASE": "value"}, tmp_path / "p", lambda: "prompt")()
