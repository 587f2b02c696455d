"""The text module of the serving templates, asked as the reference is asked.

The module is not of this folder: `load_module` imports it from its own, where its siblings are.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Any

import text_probe
from text_answers import Answer, TextError

# In an engine's folder: TensorRT-LLM keeps the tokenizer apart, Edge-LLM's export has it with the
# graph.
PLACES = (".", "tokenizer", "llm")


def load_module(path: Path) -> Any:
    """Return the text module of the templates."""
    sys.path.insert(0, str(path.parent))
    return importlib.import_module(path.stem)


class Served:
    """`Words` of the text module."""

    def __init__(self, words: Any) -> None:
        self.words = words
        self.templates = sys.modules["chat_template"]
        self.has_template = words.chat is not None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        return list(self.words.tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self.words.decode(tokens))

    def render(self, talk: text_probe.Talk) -> Answer:
        """Apply the chat template, or the one that the talk brings."""
        chat = dataclasses.replace(self.words.chat, clock=lambda: text_probe.NOW)
        if talk.template is not None:
            chat = dataclasses.replace(chat, sources={"default": talk.template})
        try:
            prompt = chat.render(
                talk.messages,
                tools=talk.tools,
                documents=talk.documents,
                add_generation_prompt=talk.add_generation_prompt,
            )
        except self.templates.RENDER_ERRORS as error:
            return Answer(None, refusal(error))
        return Answer(prompt)


def refusal(error: Exception) -> str:
    """Return what a refusal is compared by: the message too, if the template wrote it."""
    import jinja2

    own = isinstance(error, jinja2.TemplateError)
    return f"{type(error).__name__}: {error}" if own else type(error).__name__


def load(module: Any, folder: Path) -> Served:
    """Return the tokenizer of an engine or a checkpoint. Raises TextError.

    An engine of OpenVINO without tokenizer.json has its runtime's; that needs its packages.
    """
    place = next(
        (folder / one for one in PLACES if (folder / one / "tokenizer.json").is_file()), folder
    )
    runtime = None
    if not (place / "tokenizer.json").is_file() and (place / "openvino_tokenizer.xml").is_file():
        runtime = _openvino(place)
    try:
        return Served(module.load(place, runtime))
    except FileNotFoundError:
        raise TextError(
            "there is no tokenizer.json\n"
            "  → write one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        ) from None
    except ValueError as error:
        raise TextError(str(error)) from None


def _openvino(folder: Path) -> Any:
    import openvino_genai
    from runtime_tokenizer import RuntimeTokenizer

    return RuntimeTokenizer(openvino_genai.Tokenizer(str(folder)))
