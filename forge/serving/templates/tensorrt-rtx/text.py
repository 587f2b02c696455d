# ruff: noqa: INP001 - Triton loads this file by its path
"""Text to tokens and back: tokenizer, chat template and stop tokens of a Hugging Face folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.sandbox
import turns

MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Words:
    """A tokenizer and its chat template.

    Attributes:
        tokenizer: of the package `tokenizers`.
        template: Jinja text, or None where a prompt is taken as it is.
        special: `bos_token`, `eos_token` … as the template may name them.
        stop: tokens that end an answer.
    """

    tokenizer: Any
    template: str | None
    special: dict[str, str]
    stop: frozenset[int]

    def encode(self, said: turns.Turns | str) -> list[int]:
        """Tokens of turns, chat template applied, or of text as it is. Raises RequestError."""
        if isinstance(said, str) or self.template is None:
            return list(self.tokenizer.encode(turns.without_template(said)).ids)
        try:
            prompt = render(self.template, said, self.special)
        except (jinja2.TemplateError, ValueError) as error:
            raise turns.RequestError(f"The chat template refuses the messages: {error}") from None
        return list(self.tokenizer.encode(prompt, add_special_tokens=False).ids)

    def decode(self, tokens: list[int]) -> str:
        """Text of tokens, special ones left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def load(folder: Path) -> Words:
    """The words of an engine's folder.

    Raises:
        FileNotFoundError: no tokenizer.json.
        ValueError: a file is damaged, or nothing says which token ends an answer.
    """
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").is_file():
        raise FileNotFoundError("The engine lacks tokenizer.json")
    config = read(folder / "tokenizer_config.json")
    stop = stop_tokens(read(folder / "generation_config.json"), read(folder / "config.json"))
    if not stop:
        raise ValueError("Neither generation_config.json nor config.json names an eos_token_id")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Words(tokenizer, template_of(folder, config), special_tokens(config), stop)


def read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file. Raises ValueError."""
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} does not hold an object")  # noqa: TRY004
    return value


def template_of(folder: Path, config: dict[str, Any]) -> str | None:
    """chat_template.jinja, else the one in tokenizer_config.json (the default of several)."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {one["name"]: one["template"] for one in found}
        found = named.get("default")
    return str(found) if found else None


def special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and the like; each is a string or an object that holds one."""
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def stop_tokens(*configs: dict[str, Any]) -> frozenset[int]:
    """`eos_token_id` of the first file that names one: a number or several."""
    for config in configs:
        value = config.get("eos_token_id")
        if value is not None:
            return frozenset(map(int, value if isinstance(value, list) else [value]))
    return frozenset()


def render(template: str, said: turns.Turns, special: dict[str, str]) -> str:
    """Apply a chat template as transformers does: sandboxed, blocks trimmed."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=["jinja2.ext.loopcontrols"],
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(template).render(
        messages=said, add_generation_prompt=True, **special
    )


def refuse(message: str) -> None:
    """What a template calls to refuse a conversation."""
    raise ValueError(message)
