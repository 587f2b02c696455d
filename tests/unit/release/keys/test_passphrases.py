"""Where the passphrases of the keys come from, and which are refused."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from forge.errors import UsageError
from forge.release.keys.passphrases import (
    MIN_LENGTH,
    OwnPassphrases,
    check_strength,
    passphrase_source,
)


def secret(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"one\n", "one"), (b"one\r\ntwo\n", "one"), (b"one", "one"), (b" one \n", " one ")],
)
def test_passphrase_is_the_first_line_of_its_file(
    tmp_path: Path, text: bytes, expected: str
) -> None:
    secret(tmp_path / "p", text)
    assert passphrase_source({}, file=tmp_path / "p")() == expected
    assert passphrase_source({"FORGE_PASSPHRASE_FILE": str(tmp_path / "p")})() == expected


def test_sources_of_a_passphrase_have_an_order(tmp_path: Path) -> None:
    secret(tmp_path / "argument", "argument")
    secret(tmp_path / "variable", "variable")
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
    secret(tmp_path / "p", text)
    with pytest.raises(UsageError, match="No passphrase for the keys"):
        passphrase_source({"FORGE_PASSPHRASE": "value"}, tmp_path / "p", lambda: "prompt")()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_passphrase_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret(tmp_path / "the words", "words", mode)
    reads: list[Callable[[], str | None]] = [
        passphrase_source({}, path),
        passphrase_source({"FORGE_PASSPHRASE_FILE": str(path)}),
        partial(OwnPassphrases({"root-1": path}).of, "root-1"),
    ]
    for read in reads:
        with pytest.raises(UsageError, match=f"Other users can open {path}") as caught:
            read()
        assert caught.value.why == f"its mode is {mode:04o}"
        assert f"chmod 600 '{path}'" in caught.value.hint
        assert caught.value.exit_code == 2
    path.chmod(0o400)
    assert passphrase_source({}, path)() == "words"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_file_of_another_owner_may_be_shared_with_a_group_but_not_with_all(tmp_path: Path) -> None:
    path = secret(tmp_path / "credential", "words", 0o440)
    os.chown(path, 12345, 12345)
    assert passphrase_source({}, path)() == "words"
    path.chmod(0o444)
    with pytest.raises(UsageError, match="Other users can open"):
        passphrase_source({}, path)()


def test_passphrase_may_come_from_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, b"words\n")
    os.close(write)
    try:
        assert passphrase_source({}, Path(f"/dev/fd/{read}"))() == "words"
    finally:
        os.close(read)


@pytest.mark.parametrize(
    "passphrase",
    ["correct horse battery staple", "j4Vw!9sQzT0pLm#", "fünf Wörter die mir keiner rät",
     "829174658392017", "my secret garden grows tall", "tomato tomato potato carrot"],
)  # fmt: skip
def test_long_and_unexpected_passphrase_is_accepted(passphrase: str) -> None:
    check_strength(passphrase, ["my-release"])


@pytest.mark.parametrize(
    ("passphrase", "reason"),
    [
        ("", "0 characters, at least 15"),
        ("fourteen chars", "14 characters, at least 15"),
        ("aaaaaaaaaaaaaaaaaaaa", "fewer than 6 different"),
        ("abcabcabcabcabcabc", "fewer than 6 different"),
        ("potato-potato-potato", "fewer than 6 different"),
        ("carrots-carrots-carrots", "repeats one part"),
        ("12345678901234567890", "the digits"),
        ("zyxwvutsrqponmlkjihg", "the alphabet"),
        ("qwertyuiopasdfgh", "the keyboard"),
        ("My Release 2026 2026", "name of the user or the project"),
        ("my-release-my-RELEASE!", "name of the user or the project"),
        ("forge passphrase 1234", "name of the user or the project"),
        ("Forge-My-Release-Password", "name of the user or the project"),
    ],
)
def test_passphrase_that_is_easily_guessed_is_refused(passphrase: str, reason: str) -> None:
    with pytest.raises(UsageError, match="passphrase of the keys is too weak") as caught:
        check_strength(passphrase, ["my-release"])
    assert reason in caught.value.why
    assert f"{MIN_LENGTH} characters" in caught.value.hint
    assert not passphrase or passphrase not in str(caught.value)


def test_name_of_the_user_is_expected_in_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "maximiliane")
    with pytest.raises(UsageError, match="too weak"):
        check_strength("Maximiliane 1987 !?")


def test_user_without_an_account_may_choose_a_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    check_strength("correct horse battery staple")


def test_passphrases_of_single_keys_are_named_in_one_variable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        secret(tmp_path / name, f"words of {name}\n")
    text = f"root-1={tmp_path}/a:root-3={tmp_path}/b:"
    own = OwnPassphrases.read({"FORGE_KEY_PASSPHRASE_FILES": text})
    found = [own.of(name) for name in ("root-1", "root-2", "root-3")]
    assert found == ["words of a", None, "words of b"]
    assert OwnPassphrases.read({}).of("root-1") is None


@pytest.mark.parametrize("text", ["root-1", "=x", "root-1=", "root-1=a:b"])
def test_variable_that_names_no_key_or_no_file_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="FORGE_KEY_PASSPHRASE_FILES is not valid") as caught:
        OwnPassphrases.read({"FORGE_KEY_PASSPHRASE_FILES": text})
    assert "root-1=FILE:root-2=FILE" in caught.value.hint


def test_empty_file_of_a_key_is_not_the_common_passphrase(tmp_path: Path) -> None:
    own = OwnPassphrases({"root-1": secret(tmp_path / "p", "\n")})
    with pytest.raises(UsageError, match="No passphrase for the key root-1"):
        own.of("root-1")
