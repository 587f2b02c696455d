# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Chat templates, rendered as transformers' apply_chat_template renders them.

The rules are those of transformers 5.14.1 (utils/chat_template_utils.py and
tokenization_utils_base.py), without its dependencies: which of several templates, which names a
template can use, the sandbox, `{% generation %}`, `tojson`, `raise_exception` and `strftime_now`.
Where a bundle is built, the step `text` renders the same conversations with both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import tool_prompt

FILE = "chat_template.jinja"
FOLDER = "additional_chat_templates"  # one file for each further template
MAX_TEMPLATE_BYTES = 16 * 1024 * 1024
DEFAULT, TOOL_USE = "default", "tool_use"
# Tokens that a template can use by name (SPECIAL_TOKENS_ATTRIBUTES of transformers); a model can
# have more, all named *_token.
NAMED_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# What a template that gets unexpected messages can raise, in addition to jinja2's own errors.
RENDER_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def _now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - strftime_now gives the local time, as in transformers


@dataclass(frozen=True)
class ChatTemplate:
    """The chat templates of one tokenizer.

    Attributes:
        sources: Jinja text by name; `default` for a tokenizer that has one.
        special: the named special tokens, e.g. `bos_token`.
        clock: the time that `strftime_now` shows.
    """

    sources: Mapping[str, str]
    special: Mapping[str, str]
    clock: Callable[[], datetime] = _now
    _compiled: dict[str, jinja2.Template] = field(init=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Compile every template. Raises ValueError for one that is not valid Jinja."""
        environment = _environment(self.clock)
        for name, source in self.sources.items():
            try:
                self._compiled[name] = environment.from_string(source)
            except jinja2.TemplateError as error:
                message = f"The chat template {name!r} is not valid: {error}"
                raise ValueError(message) from None

    @property
    def tool_calls(self) -> str | None:
        """The format of calls of tools that the template writes; None if none known here."""
        found = self.sources.get(TOOL_USE) or self.sources.get(DEFAULT, "")
        return tool_prompt.format_of(found)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the prompt of a conversation. Raises RENDER_ERRORS if the template refuses it.

        Args:
            messages: the turns.
            tools: JSON schemas of functions; None if there are none, as templates test for it.
            documents: documents with title and text, for templates that use them.
            add_generation_prompt: whether the prompt ends where the answer begins.
        """
        return self._chosen(tools).render(
            messages=messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            **self.special,
        )

    def _chosen(self, tools: Sequence[Mapping[str, Any]] | None) -> jinja2.Template:
        name = TOOL_USE if tools is not None and TOOL_USE in self._compiled else DEFAULT
        if name not in self._compiled:
            known = ", ".join(sorted(self._compiled))
            raise ValueError(f"There is no default chat template, only: {known}")
        return self._compiled[name]


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, which marks the answers in training data.

    Rendering keeps its content; as in transformers, it is a block of its own for variables.
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2's interface

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        """Return a call of `_content` with the block's body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Callable[[], str]) -> str:
        return caller()


def read_sources(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the chat templates of a tokenizer by name; files replace those of its configuration.

    Args:
        folder: a Hugging Face folder.
        config: the content of its tokenizer_config.json.

    Raises ValueError for a file or an entry that cannot be a template.
    """
    paths = {DEFAULT: folder / FILE}
    paths |= {path.stem: path for path in sorted((folder / FOLDER).glob("*.jinja"))}
    files = {name: _read(path) for name, path in paths.items() if path.is_file()}
    return files or _from_config(config.get("chat_template"))


def named_tokens(config: Mapping[str, Any], tokens_map: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that a template can use by name.

    Args:
        config: tokenizer_config.json.
        tokens_map: special_tokens_map.json. It counts only if `config` does not list the added
            tokens: newer tokenizers have everything in `config`, and transformers does not read it.
    """
    values = {**config}
    if "added_tokens_decoder" not in config:
        values |= tokens_map
    more = values.get("extra_special_tokens")
    if isinstance(more, Mapping):
        values |= {name: token for name, token in more.items() if name not in NAMED_TOKENS}
        names = set(more)
    else:
        names = set()
    names |= {name for name in values if name.endswith("_token")} | set(NAMED_TOKENS)
    found = {name: content(values.get(name)) for name in sorted(names)}
    return {name: token for name, token in found.items() if token is not None}


def content(token: Any) -> str | None:
    """Return the text of a special token, a string or an object; None for another value."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - templates give it by position, too
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Return a value as JSON without jinja2's escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def refuse(message: str) -> None:
    """Raise an error: what a template calls to refuse a conversation."""
    raise jinja2.TemplateError(message)


def _environment(clock: Callable[[], datetime]) -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=[GenerationBlock, jinja2.ext.loopcontrols],
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: clock().strftime(form)
    return environment


def _read(path: Path) -> str:
    if path.stat().st_size > MAX_TEMPLATE_BYTES:
        raise ValueError(f"{path.name} is larger than {MAX_TEMPLATE_BYTES} bytes")
    return path.read_text(encoding="utf-8")


def _from_config(found: Any) -> dict[str, str]:
    if not found:
        return {}
    try:
        named = (
            {DEFAULT: found}
            if isinstance(found, str)
            else {one["name"]: one["template"] for one in found}
        )
    except (TypeError, KeyError):
        named = {"": None}
    if not all(isinstance(one, str) for pair in named.items() for one in pair):
        raise ValueError("chat_template in tokenizer_config.json is neither a text nor named texts")
    return named
