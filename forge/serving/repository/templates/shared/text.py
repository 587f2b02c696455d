# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Text to tokens and back, for every template: tokenizer, chat template and stop tokens.

Tokens come from tokenizer.json by the package `tokenizers`, completed as transformers completes it.
An engine that has none (OpenVINO's own conversion of a GGUF file) brings the tokenizer of its
runtime. The chat template is always rendered here (chat_template.py), never by a runtime.

What a caller writes is text: a control token in it is encoded as the letters it is written with.
Only the tokens that the chat template itself writes are special (plain_text.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import plain_text
import tool_prompt
import turns
from chat_template import (
    DEFAULT,
    RENDER_ERRORS,
    ChatTemplate,
    content,
    named_tokens,
    read_sources,
)

MAX_FILE_BYTES = 256 * 1024 * 1024
TOKENIZER = "tokenizer.json"
FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a token of one byte


@dataclass(frozen=True)
class Spelling:
    """One token alone: its text, where a part of a character is U+FFFD, and its bytes."""

    text: str
    raw: bytes


class Tokenizer(Protocol):
    """Text to tokens and back, without a chat template."""

    special: frozenset[int]  # tokens that `decode` leaves out
    special_texts: tuple[str, ...]  # how control tokens are written, which no caller can write
    single_bytes: frozenset[int]  # tokens of one byte, whose runs are decoded as a whole
    size: int  # tokens are the numbers below it

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text, with those that begin and end every text if wanted."""

    def encode_parts(
        self, parts: Sequence[plain_text.Part], *, add_special_tokens: bool
    ) -> list[int]:
        """Return the tokens of a text in parts, of which some have no control tokens."""

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of tokens."""

    def raw(self, token: int) -> bytes:
        """Return the bytes of a token."""


class RuntimeTokenizer(Tokenizer, Protocol):
    """The tokenizer of a runtime, for an engine without tokenizer.json."""

    chat_template: str  # Jinja text; empty if it has none
    named: Mapping[str, str]  # the named special tokens, e.g. `bos_token`


@dataclass(frozen=True)
class Words:
    """A tokenizer and its chat template.

    Attributes:
        tokenizer: for text without a template, and for rendered prompts.
        chat: the chat template, or None if the model has none.
        stop: tokens that end an answer, by the model's files; empty if they name none.
    """

    tokenizer: Tokenizer
    chat: ChatTemplate | None
    stop: frozenset[int] = frozenset()
    spelled: dict[int, Spelling] = field(default_factory=dict, compare=False, repr=False)

    @property
    def special(self) -> frozenset[int]:
        """Tokens that are left out of the text."""
        return self.tokenizer.special

    @property
    def single_bytes(self) -> frozenset[int]:
        """Tokens of one byte, of which a run is decoded as a whole."""
        return self.tokenizer.single_bytes

    @property
    def tool_calls(self) -> str | None:
        """The format in which the model writes calls of tools; None without a chat template."""
        return None if self.chat is None else self.chat.tool_calls or tool_prompt.HERMES

    def encode(self, said: turns.Prompt) -> list[int]:
        """Return the tokens of a conversation, chat template applied, or of text as it is.

        Raises RequestError if the template refuses the conversation or there is none for it, and
        for a number that is not a token.
        """
        if isinstance(said, turns.Ids):
            return self._known(said.tokens)
        if isinstance(said, str) or self.chat is None:
            return self.encode_text(turns.without_template(said))
        if self.chat.tool_calls is None:
            said = tool_prompt.as_text(said)
        marks = plain_text.Marks(self.tokenizer.special_texts)
        try:
            prompt = self.chat.render(
                marks.put(said.messages),
                tools=marks.put(said.tools),
                add_generation_prompt=said.add_generation_prompt,
            )
        except RENDER_ERRORS as error:
            raise turns.RequestError(f"The chat template refuses the messages: {error}") from None
        # The template writes the special tokens itself.
        return self.tokenizer.encode_parts(marks.parts(prompt), add_special_tokens=False)

    def _known(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens. Raises RequestError: an engine reads beyond its table for others."""
        if (last := max(tokens)) >= self.tokenizer.size:
            message = f"{last} is not a token of this model, whose last one is"
            raise turns.RequestError(f"{message} {self.tokenizer.size - 1}")
        return list(tokens)

    def encode_text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the tokens of text that a caller wrote."""
        parts = (plain_text.Part(text, plain=True),)
        return self.tokenizer.encode_parts(parts, add_special_tokens=add_special_tokens)

    def tokenize(self, said: turns.Tokenize) -> list[int]:
        """Return the tokens of text or of a conversation. Raises RequestError."""
        if isinstance(said.said, str):
            return self.encode_text(said.said, add_special_tokens=said.add_special_tokens)
        return self.encode(said.said)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of tokens; special ones are left out unless wanted."""
        return self.tokenizer.decode(tokens, skip_special=skip_special)

    def spell(self, token: int) -> Spelling:
        """Return one token alone, as OpenAI's API shows it next to its probability."""
        if token not in self.spelled:
            raw = self.tokenizer.raw(token)
            self.spelled[token] = Spelling(raw.decode(errors="replace"), raw)
        return self.spelled[token]


class JsonTokenizer:
    """tokenizer.json, read by the package `tokenizers`."""

    def __init__(self, tokenizer: Any, templates: str = "") -> None:
        """Take a tokenizer and the chat templates whose separators no caller can write."""
        self.tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self.added = {int(index): token for index, token in added.items()}
        self.special = frozenset(index for index, token in self.added.items() if token.special)
        # Where the files say so, no control token is ever read from text.
        matched = () if tokenizer.encode_special_tokens else self.special
        self.control = {
            index: token
            for index, token in self.added.items()
            if index in matched or _separates(token.content, templates)
        }
        self.special_texts = tuple(token.content for token in self.control.values())
        vocabulary = tokenizer.get_vocab()
        self.size = 1 + max(vocabulary.values(), default=-1)
        self.single_bytes = frozenset(
            index for text, index in vocabulary.items() if BYTE.fullmatch(text)
        )
        decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
        kinds = {decoder.get("type"), *(one["type"] for one in decoder.get("decoders", ()))}
        self.byte_level = "ByteLevel" in kinds

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the tokens of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def encode_parts(
        self, parts: Sequence[plain_text.Part], *, add_special_tokens: bool
    ) -> list[int]:
        """Return the tokens of a text in parts, of which some have no control tokens."""
        if not any(plain_text.has_any(part, self.special_texts) for part in parts):
            text = "".join(part.text for part in parts)
            return self.encode(text, add_special_tokens=add_special_tokens)
        return self._guarded.encode(parts, add_special_tokens=add_special_tokens)

    @cached_property
    def _guarded(self) -> plain_text.GuardedTokenizer:
        return plain_text.GuardedTokenizer(self.tokenizer, self.control)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        """Return the text of tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=skip_special))

    def raw(self, token: int) -> bytes:
        """Return the bytes of a token."""
        if token in self.added:
            return str(self.added[token].content).encode()
        text = self.tokenizer.id_to_token(token)
        if text is None:
            return b""
        if single := BYTE.fullmatch(text):
            return bytes([int(single[1], 16)])
        if self.byte_level and all(letter in LETTERS for letter in text):
            return bytes(LETTERS[letter] for letter in text)
        return str(text).replace("\u2581", " ").encode()


def _letters() -> dict[str, int]:
    """Return the byte of each letter that GPT-2's byte-level BPE writes instead of it.

    Printable bytes of Latin-1 are themselves; the others follow from U+0100 on, in order
    (`bytes_to_unicode` of openai/gpt-2).
    """
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [one for one in range(256) if one not in kept]
    return {chr(one): one for one in kept} | {chr(256 + n): one for n, one in enumerate(others)}


LETTERS = _letters()


def load(folder: Path, runtime: RuntimeTokenizer | None = None) -> Words:
    """Return the words of an engine's folder.

    Args:
        folder: the engine, with the files of a Hugging Face tokenizer.
        runtime: the tokenizer of the engine's runtime, for a folder without tokenizer.json.

    Raises:
        FileNotFoundError: there is neither tokenizer.json nor a tokenizer of the runtime.
        ValueError: a file is damaged, or the files contradict each other.
    """
    config = read(folder / "tokenizer_config.json")
    tokens_map = read(folder / "special_tokens_map.json")
    sources = read_sources(folder, config)
    special = named_tokens(config, tokens_map)
    tokenizer: Tokenizer
    if (folder / TOKENIZER).is_file():
        templates = "".join(sources.values())
        tokenizer = JsonTokenizer(_from_json(folder / TOKENIZER, config, tokens_map), templates)
    elif runtime is not None:
        tokenizer = runtime
        special = {**runtime.named, **special}
        if not sources and runtime.chat_template:
            sources = {DEFAULT: runtime.chat_template}
    else:
        raise FileNotFoundError(f"The engine lacks {TOKENIZER}")
    chat = ChatTemplate(sources, special) if sources else None
    stop = stop_tokens(read(folder / "generation_config.json"), read(folder / "config.json"))
    return Words(tokenizer, chat, stop)


def read(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if there is no such file. Raises ValueError."""
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} does not hold an object")  # noqa: TRY004
    return value


def stop_tokens(*configs: Mapping[str, Any]) -> frozenset[int]:
    """Return `eos_token_id` of the first file that names one: a number or several."""
    for config in configs:
        value = config.get("eos_token_id")
        if value is not None:
            return frozenset(map(int, value if isinstance(value, list) else [value]))
    return frozenset()


def _separates(text: str, templates: str) -> bool:
    """Return whether a token separates turns: a template writes it, and only it does."""
    return plain_text.SEPARATOR.fullmatch(text) is not None and text in templates


def _from_json(path: Path, config: Mapping[str, Any], tokens_map: Mapping[str, Any]) -> Any:
    """Return the tokenizer as transformers completes it."""
    from tokenizers import AddedToken, Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the package raises no narrower class
        raise ValueError(f"{TOKENIZER} cannot be read: {error}") from None
    # Settings of training: transformers neither cuts nor fills up a text that it is asked for.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = bool(config.get("split_special_tokens", False))
    known = {_key(token) for token in tokenizer.get_added_tokens_decoder().values()}
    for index, token in _listed_tokens(config):
        added = AddedToken(token["content"], **{name: bool(token[name]) for name in FLAGS})
        if _key(added) not in known:
            tokenizer.add_tokens([added])
        found = tokenizer.token_to_id(added.content)
        if found != index:
            raise ValueError(
                f"tokenizer_config.json has token {added.content!r} as {index}, {TOKENIZER} as"
                f" {found}"
            )
    known_texts = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [one for one in _special_texts(config, tokens_map) if one not in known_texts]
    tokenizer.add_tokens([AddedToken(one, special=True) for one in dict.fromkeys(missing)])
    return tokenizer


def _key(token: Any) -> tuple[Any, ...]:
    return (token.content, *(getattr(token, name) for name in FLAGS))


def _listed_tokens(config: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return the added tokens of tokenizer_config.json by id, with all flags. Raises ValueError."""
    listed = config.get("added_tokens_decoder") or {}
    try:
        found = [
            (
                int(index),
                dict.fromkeys(FLAGS, False) | {"normalized": not token.get("special")} | token,
            )
            for index, token in listed.items()
        ]
        good = all(isinstance(token["content"], str) for _, token in found)
    except (AttributeError, TypeError, ValueError, KeyError):
        good = False
    if not good:
        raise ValueError("added_tokens_decoder in tokenizer_config.json is not valid")
    return sorted(found, key=lambda one: one[0])


def _special_texts(config: Mapping[str, Any], tokens_map: Mapping[str, Any]) -> Iterator[str]:
    """Yield the text of every token that the files call special."""
    yield from named_tokens(config, tokens_map).values()
    values = {**config} if "added_tokens_decoder" in config else {**config, **tokens_map}
    for name in ("extra_special_tokens", "additional_special_tokens"):
        listed = values.get(name)
        if isinstance(listed, list):
            yield from filter(None, map(content, listed))
            return
