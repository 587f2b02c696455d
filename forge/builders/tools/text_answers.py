"""What a tokenizer and its chat template answer to the probe; the first difference of two.

A document of answers (text.json):

    schema_version, probe_sha256      the probe that was asked
    made_by                           version by package; `tokenizer`: the class of the reference
    begin, end                        tokens that are added to a text without a chat template
    pieces: [{name, text, tokens, decoded}]
    vocabulary: {id: text}            some tokens by themselves
    template                          whether the model has a chat template
    talks: [{name, prompt, refusal}]  one of the two is null
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import text_probe

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
NAME = "text.json"
SCHEMA_VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
NUMBERS = re.compile(r"\[[\d,\s]+\]")
REPLACEMENT = "\ufffd"  # part of a character, by itself
SHOWN_TOKENS = 5
SHOWN_CHARACTERS = 60


class TextError(Exception):
    """The tokenizer or the chat template is not the reference's, or cannot be compared."""


@dataclass(frozen=True)
class Answer:
    """What a chat template makes of a conversation.

    Attributes:
        prompt: the text; None if the template refuses the conversation.
        refusal: the kind of the refusal, with the template's own message; None if it does not.
    """

    prompt: str | None
    refusal: str | None = None


class Asked(Protocol):
    """A tokenizer with its chat template."""

    has_template: bool

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""

    def render(self, talk: text_probe.Talk) -> Answer:
        """Apply the chat template."""


def ask(asked: Asked, special: Sequence[str], vocabulary: int) -> dict[str, Any]:
    """Return all answers to the probe, as the document above, `made_by` left out.

    Args:
        asked: the tokenizer.
        special: its special tokens.
        vocabulary: number of its tokens.
    """
    pieces = []
    for name, text in text_probe.pieces(special).items():
        tokens = asked.encode(text, add_special_tokens=False)
        pieces.append(
            {"name": name, "text": text, "tokens": tokens, "decoded": asked.decode(tokens)}
        )
    begin, end = added(asked, text_probe.PIECES[text_probe.SHORT])
    ids = range(0, vocabulary, max(1, vocabulary // 300))
    texts = {str(token): asked.decode([token]) for token in ids}
    return {
        "schema_version": SCHEMA_VERSION,
        "probe_sha256": text_probe.digest(),
        "begin": begin,
        "end": end,
        "pieces": pieces,
        # A runtime may show nothing for part of a character.
        "vocabulary": {token: text for token, text in texts.items() if REPLACEMENT not in text},
        "template": asked.has_template,
        "talks": _talks(asked),
    }


def added(asked: Asked, text: str) -> tuple[list[int], list[int]]:
    """Return the tokens added before and after a text. Raises TextError if it is changed inside."""
    plain = asked.encode(text, add_special_tokens=False)
    whole = asked.encode(text, add_special_tokens=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise TextError("the special tokens that are added to a text change its other tokens")


def _talks(asked: Asked) -> list[dict[str, Any]]:
    if not asked.has_template:
        return []
    answers = {talk.name: asked.render(talk) for talk in text_probe.TALKS}
    first = answers[text_probe.TALKS[0].name]
    if first.prompt is None:
        raise TextError(f"the chat template refuses one message of a user: {first.refusal}")
    return [
        {"name": name, "prompt": answer.prompt, "refusal": answer.refusal}
        for name, answer in answers.items()
    ]


def compare(expected: Mapping[str, Any], asked: Asked) -> None:
    """Raise TextError with the first difference between stored answers and those of `asked`."""
    for piece in expected["pieces"]:
        tokens = asked.encode(piece["text"], add_special_tokens=False)
        if tokens != piece["tokens"]:
            where = f"the tokens of the probe's {piece['name']!r}"
            raise TextError(_tokens_differ(where, tokens, piece["tokens"], asked))
        decoded = asked.decode(tokens)
        if decoded != piece["decoded"]:
            where = f"the decoded text of the probe's {piece['name']!r}"
            raise TextError(_texts_differ(where, decoded, piece["decoded"]))
    for token, text in expected["vocabulary"].items():
        decoded = asked.decode([int(token)])
        if decoded != text:
            raise TextError(_texts_differ(f"the decoded text of token {token}", decoded, text))
    found = added(asked, text_probe.PIECES[text_probe.SHORT])
    for where, ours, theirs in zip(("before", "after"), found, _ends(expected), strict=True):
        if ours != theirs:
            what = f"the special tokens added {where} a text"
            raise TextError(_tokens_differ(what, ours, theirs, asked))
    _compare_talks(expected, asked)


def _ends(expected: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    return list(expected["begin"]), list(expected["end"])


def _compare_talks(expected: Mapping[str, Any], asked: Asked) -> None:
    if asked.has_template != expected["template"]:
        here, there = ("one", "none") if asked.has_template else ("none", "one")
        raise TextError(f"there is {here} chat template here, and {there} in the reference")
    stored = {talk["name"]: talk for talk in expected["talks"]}
    for talk in text_probe.TALKS if stored else ():
        answer, there = asked.render(talk), stored[talk.name]
        where = f"the chat template with {talk.name!r}"
        if answer.prompt is not None and there["prompt"] is not None:
            if answer.prompt != there["prompt"]:
                raise TextError(_texts_differ(where, answer.prompt, there["prompt"]))
        elif (answer.prompt, answer.refusal) != (there["prompt"], there["refusal"]):
            raise TextError(
                f"{where} differs from the reference\n"
                f"  here:      {_outcome(answer.prompt, answer.refusal)}\n"
                f"  reference: {_outcome(there['prompt'], there['refusal'])}"
            )


def _outcome(prompt: str | None, refusal: str | None) -> str:
    return f"refused ({refusal})" if prompt is None else repr(prompt[:SHOWN_CHARACTERS])


def _tokens_differ(where: str, here: list[int], there: list[int], asked: Asked) -> str:
    pairs = enumerate(zip(here, there, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(here), len(there)))
    lines = [f"{where} differ from the reference's at token {at} of {len(there)}"]
    for name, tokens in (("here:     ", here), ("reference:", there)):
        part = tokens[max(0, at - 1) : at + SHOWN_TOKENS]
        lines.append(f"  {name} {part}, {[asked.decode([token]) for token in part]}")
    return "\n".join(lines)


def _texts_differ(where: str, here: str, there: str) -> str:
    pairs = enumerate(zip(here, there, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(here), len(there)))
    part = slice(max(0, at - SHOWN_CHARACTERS // 2), at + SHOWN_CHARACTERS)
    return (
        f"{where} differs from the reference at character {at} of {len(there)}\n"
        f"  here:      {here[part]!r}\n"
        f"  reference: {there[part]!r}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return stored answers to the probe of today. Raises TextError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise TextError(f"{path.name} is larger than {MAX_BYTES} bytes")
        answers = json.loads(path.read_bytes())
        found = (answers["schema_version"], answers["probe_sha256"])
        for name in ("begin", "end", "pieces", "vocabulary", "template", "talks", "made_by"):
            answers[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextError(f"{path.name} does not hold answers to the probe: {error!r}") from None
    if found != (SCHEMA_VERSION, text_probe.digest()):
        raise TextError(
            f"{path.name} answers another probe than forge/builders/tools/text_probe.py\n"
            "  → make it again with text_check.py in the environment transformers"
        )
    return dict(answers)


def write(answers: Mapping[str, Any], path: Path) -> None:
    """Write answers, the same bytes for the same answers."""
    text = json.dumps(answers, indent=1, sort_keys=True, ensure_ascii=False)
    # Numbers of a list on one line: a page of them otherwise.
    text = NUMBERS.sub(lambda found: " ".join(found.group().split()), text)
    path.write_text(text + "\n", encoding="utf-8")
