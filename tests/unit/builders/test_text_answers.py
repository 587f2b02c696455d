"""What the tools that compare tokenizers say, with a stand-in for tokenizers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import text_answers
import text_probe
import text_stored
from text_answers import Answer, TextError

ROOT = Path(__file__).resolve().parents[3]


class Bytes:
    """A tokenizer of bytes that begins texts with 256; 257 is special."""

    has_template = True

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return ([256] if add_special_tokens else []) + list(text.encode())

    def decode(self, tokens: list[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode(errors="replace")

    def render(self, talk: text_probe.Talk) -> Answer:
        if talk.messages[0]["role"] not in {"system", "user"}:
            return Answer(None, "TemplateError: roles must alternate")
        return Answer(json.dumps([list(talk.messages), talk.tools, talk.add_generation_prompt]))


class Split(Bytes):
    """Digits are cut otherwise, as by another pre-tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return super().encode(text.replace("12", "21"), add_special_tokens=add_special_tokens)


class Cleaned(Bytes):
    """Blanks before full stops are lost, as by clean_up_tokenization_spaces."""

    def decode(self, tokens: list[int]) -> str:
        return super().decode(tokens).replace(" ?", "?")


class Unbegun(Bytes):
    """No token begins a text."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        del add_special_tokens
        return super().encode(text, add_special_tokens=False)


class Escaped(Bytes):
    """The template's JSON is escaped for HTML."""

    def render(self, talk: text_probe.Talk) -> Answer:
        answer = super().render(talk)
        return Answer(answer.prompt and answer.prompt.replace("<", "\\u003c"), answer.refusal)


class Lenient(Bytes):
    """The template refuses nothing."""

    def render(self, talk: text_probe.Talk) -> Answer:
        return Answer(super().render(talk).prompt or "ok")


class Strict(Bytes):
    """The template also refuses tools that are not None."""

    def render(self, talk: text_probe.Talk) -> Answer:
        return super().render(talk) if talk.tools is None else Answer(None, "TypeError")


class Bare(Bytes):
    """There is no template."""

    has_template = False


class Renamed(Bytes):
    """One token stands for another text; no text of the probe has it."""

    def decode(self, tokens: list[int]) -> str:
        return "x" if tokens == [3] else super().decode(tokens)


WRONG: dict[str, tuple[Bytes, str]] = {
    "tokens": (Split(), r"tokens of the probe's 'digits' differ .* at token \d+ of \d+\n"),
    "decoding": (Cleaned(), r"decoded text of the probe's 'signs' differs .* at character 3 of "),
    "a token's text": (Renamed(), "decoded text of token 3 differs"),
    "the first token": (Unbegun(), r"special tokens added before a text differ"),
    "JSON in a template": (
        Escaped(),
        r"chat template with 'several turns' differs .*\n.*u003cthink.*\n.*<think",
    ),
    "a refusal": (Lenient(), r"'the assistant begins' differs[^\n]*\n  here: +'ok'\n.*refused"),
    "another refusal": (Strict(), r"'tools' differs[^\n]*\n  here: +refused \(TypeError\)"),
    "no template": (Bare(), "there is none chat template here, and one in the reference"),
}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    answers = text_answers.ask(Bytes(), ["<tool>"], 258)
    return {**answers, "made_by": {"tokenizer": "Bytes"}}


def test_equal_tokenizers_are_equal(expected: dict[str, Any]) -> None:
    text_answers.compare(expected, Bytes())


@pytest.mark.parametrize(("asked", "message"), WRONG.values(), ids=WRONG)
def test_a_difference_is_named_with_both_sides(
    expected: dict[str, Any], asked: Bytes, message: str
) -> None:
    with pytest.raises(TextError, match=message):
        text_answers.compare(expected, asked)


def test_stored_answers_are_read_as_they_were_written(
    expected: dict[str, Any], tmp_path: Path
) -> None:
    text_answers.write(expected, tmp_path / "text.json")
    assert text_answers.read(tmp_path / "text.json") == expected
    text_answers.write(text_answers.read(tmp_path / "text.json"), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "text.json").read_bytes()


def test_answers_to_another_probe_are_refused(expected: dict[str, Any], tmp_path: Path) -> None:
    stored = tmp_path / "old.text.json"
    text_answers.write({**expected, "probe_sha256": "0" * 64}, stored)
    with pytest.raises(TextError, match="answers another probe"):
        text_answers.read(stored)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}', "\xff"])
def test_damaged_answers_are_refused_without_a_traceback(content: str, tmp_path: Path) -> None:
    stored = tmp_path / "x.text.json"
    stored.write_bytes(content.encode("latin-1"))
    done = run(stored, tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: x.text.json does not hold answers to the probe")
    assert "Traceback" not in done.stderr


def run(stored: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, text_stored.__file__, "--stored", stored, "--output", folder / "output"]
    return subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, check=False, timeout=60
    )


def test_answers_that_the_project_has_are_those_to_the_probe_of_today(tmp_path: Path) -> None:
    [stored] = (ROOT / "references").glob("*.text.json")
    assert run(stored, tmp_path).returncode == 0
    assert (tmp_path / "output" / "text.json").read_bytes() == stored.read_bytes()


def test_template_that_refuses_one_message_of_a_user_serves_nobody() -> None:
    class Closed(Bytes):
        def render(self, talk: text_probe.Talk) -> Answer:
            return Answer(None, f"TemplateError: {talk.name}")

    with pytest.raises(TextError, match="refuses one message of a user: TemplateError: a user"):
        text_answers.ask(Closed(), [], 3)


def test_probe_has_twelve_scripts_and_what_tokenizers_cut_unlike_each_other() -> None:
    import unicodedata

    text = "".join(text_probe.PIECES.values())
    scripts = {unicodedata.name(sign, "").split()[0] for sign in text if sign.isalpha()}
    wanted = {"LATIN", "GREEK", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "ARABIC",
              "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI", "GEORGIAN", "ARMENIAN",
              "ETHIOPIC"}  # fmt: skip
    assert wanted <= scripts
    for piece in ("It's", "1234567890", "   ", "\t", "\r\n", "\n\n\n", "<s>", "▁", "Ġ", "\u200d"):
        assert piece in text


def test_special_tokens_of_a_model_are_in_the_probe_between_letters_and_blanks() -> None:
    text = text_probe.pieces(["<tool>", "<s>"])[text_probe.SPECIAL]
    assert "a<tool>b <tool> c\n<tool>" in text
    many = text_probe.pieces(f"<{number}>" for number in range(9000))[text_probe.SPECIAL]
    assert many.count("\n") == text_probe.MOST_SPECIAL
