"""Compare the serving text module with transformers. Runs in the tool environment `transformers`.

    python text_check.py --checkpoint DIR --text templates/shared/text.py --output DIR

    OUTPUT/text.json    the reference's answers to the probe (text_answers.py)

The reference is AutoTokenizer and its apply_chat_template. For tokenizer.json in SentencePiece's
form, whose normalizer puts a blank before every text, the reference is asked for each piece between
special tokens with that blank: LlamaTokenizer of transformers 5 builds the tokenizer again and puts
it only where there is none, whereas SentencePiece and the models' authors put it always.

Exit code 3: the tokenizer or the chat template differs, or cannot be loaded. 5: it could not be
read or written.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import room
import text_answers
import text_probe
import text_served
from text_answers import CONFIGURATION_ERROR, STEP_FAILED, Answer, TextError

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

ROOM = room.Room(memory_mib=1000)  # measured: docs/reference/builders.md
PACKAGES = ("jinja2", "tokenizers", "transformers")
HINT = (
    "  → tokenizer.json and the class {name} of transformers contradict each other: to keep"
    " tokenizer.json, set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config.json; to"
    " keep the class, write it again: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
)


def main(argv: list[str] | None = None) -> int:
    """Compare and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Compare the serving text module with a reference."
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="the templates' text.py")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        room.require(ROOM, "comparing the tokenizer", arguments.output)
        answers = check(arguments.checkpoint, text_served.load_module(arguments.text))
        text_answers.write(answers, arguments.output / text_answers.NAME)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except TextError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the tokenizer could not be read or written: {error}\n")
        return STEP_FAILED
    sys.stderr.write(summary(answers))
    return 0


def check(checkpoint: Path, module: Any) -> dict[str, Any]:
    """Return the reference's answers, which are also those of the text module. Raises TextError."""
    served = text_served.load(module, checkpoint)
    reference = Reference(checkpoint)
    answers = text_answers.ask(reference, reference.special, len(reference.tokenizer))
    check_named_tokens(reference, served)
    try:
        text_answers.compare(answers, served)
    except TextError as error:
        hint = "" if "chat template" in str(error) else f"\n{HINT.format(name=reference.name)}"
        raise TextError(f"{error}{hint}") from None
    made_by = {name: metadata.version(name) for name in PACKAGES}
    return {**answers, "made_by": {**made_by, "tokenizer": reference.name}}


def check_named_tokens(reference: Reference, served: text_served.Served) -> None:
    """Raise TextError if the chat template uses a token that only the reference's class knows."""
    if not served.has_template:
        return
    chat = served.words.chat
    here, there = dict(chat.special), reference.tokenizer.special_tokens_map
    used = {word for source in chat.sources.values() for word in re.findall(r"\w+_token\b", source)}
    for name in sorted(used):
        if here.get(name) != there.get(name):
            raise TextError(
                f"the chat template uses {name}: {here.get(name)!r} here, {there.get(name)!r} in"
                f" the reference ({reference.name})\n"
                f"  → set {name} in tokenizer_config.json"
            )


class Reference:
    """AutoTokenizer of transformers."""

    def __init__(self, checkpoint: Path) -> None:
        """Load the tokenizer. Raises TextError."""
        from transformers import AutoTokenizer

        refuse_own_code(checkpoint)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001 - a tokenizer's class can raise anything
            raise TextError(
                f"transformers cannot load the tokenizer: {type(error).__name__}: {error}"
            ) from None
        self.name = type(self.tokenizer).__name__
        self.has_template = self.tokenizer.chat_template is not None
        tokens = self.tokenizer.added_tokens_decoder.values()
        self.special = sorted({token.content for token in tokens if token.content.strip()})
        self.prefixed = prefixes_every_text(checkpoint)
        self.ends = self._ends()
        self.between = re.compile("|".join(map(re.escape, sorted(self.special, key=len)[::-1])))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        if not self.prefixed:
            return self._encode(text, add_special_tokens=add_special_tokens)
        tokens = self._encode_pieces(text)
        if not add_special_tokens:
            return tokens
        begin, end = self.ends
        return [*begin, *tokens, *end]

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])

    def _ends(self) -> tuple[list[int], list[int]]:
        """Return the tokens that are added before and after a text."""
        plain, whole = (self._encode("x", add_special_tokens=add) for add in (False, True))
        start = next(n for n in range(len(whole)) if whole[n : n + len(plain)] == plain)
        return whole[:start], whole[start + len(plain) :]

    def _encode_pieces(self, text: str) -> list[int]:
        tokens: list[int] = []
        position = 0
        for match in [*self.between.finditer(text), None]:
            piece = text[position : match.start() if match else len(text)]
            if piece:
                tokens += self._encode(f" {piece}", add_special_tokens=False)
            if match:
                tokens.append(self.tokenizer.convert_tokens_to_ids(match.group()))
                position = match.end()
        return tokens

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def render(self, talk: text_probe.Talk) -> Answer:
        """Apply the chat template at the probe's time."""
        from transformers.utils import chat_template_utils

        class Clock:
            @staticmethod
            def now() -> Any:
                return text_probe.NOW

        before = chat_template_utils.datetime
        chat_template_utils.datetime = Clock
        try:
            prompt = self.tokenizer.apply_chat_template(
                [dict(message) for message in talk.messages],
                tools=talk.tools,
                documents=talk.documents,
                chat_template=talk.template,
                add_generation_prompt=talk.add_generation_prompt,
                tokenize=False,
            )
        except Exception as error:  # noqa: BLE001 - each error of a template is an answer
            return Answer(None, text_served.refusal(error))
        finally:
            chat_template_utils.datetime = before
        return Answer(str(prompt))


def refuse_own_code(checkpoint: Path) -> None:
    """Raise TextError for a tokenizer whose class is code of the checkpoint: it is not executed."""
    try:
        config = json.loads((checkpoint / "tokenizer_config.json").read_bytes())
        own = "AutoTokenizer" in config.get("auto_map", {})
    except (OSError, ValueError, AttributeError, TypeError):
        return  # read again, and refused if it is not valid, by transformers
    if own:
        raise TextError(
            "tokenizer_config.json names code of its own (auto_map), which is not executed\n"
            "  → if tokenizer.json alone is the tokenizer, remove auto_map and set tokenizer_class"
            " to PreTrainedTokenizerFast"
        )


def prefixes_every_text(checkpoint: Path) -> bool:
    """Return whether tokenizer.json puts SentencePiece's blank before every piece of text."""
    try:
        normalizer = json.loads((checkpoint / "tokenizer.json").read_bytes()).get("normalizer")
    except (OSError, ValueError, AttributeError):
        return False
    found = (normalizer or {}).get("normalizers", [normalizer or {}])
    return any(one.get("type") == "Prepend" for one in found)


def summary(answers: dict[str, Any]) -> str:
    """Return one line about what was compared."""
    tokens = sum(len(piece["tokens"]) for piece in answers["pieces"])
    refused = sum(talk["prompt"] is None for talk in answers["talks"])
    return (
        f"text: {len(answers['pieces'])} texts with {tokens} tokens and"
        f" {len(answers['talks'])} conversations ({refused} refused by both) are equal to"
        f" {answers['made_by']['tokenizer']} of transformers {answers['made_by']['transformers']}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
