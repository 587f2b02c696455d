"""Text to tokens and back, with stand-ins for tokenizers; tests/e2e/builders has the real ones."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.templates import load

text = load("shared", "text")
RequestError = text.turns.RequestError
CHAT = (
    "{% for message in messages %}\n"
    "{{ bos_token + message['role'] + ': ' + message['content'] }}\n"
    "    {% endfor %}\n"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Letters:
    """A runtime's tokenizer: a token is the number of a letter, and 1 begins a text."""

    chat_template = "{{ bos_token }}{{ eos_token }}{{ messages[0].content }}"
    named: Mapping[str, str] = MappingProxyType({"bos_token": "^", "eos_token": "$"})
    special = frozenset({1})
    special_texts = ("<s>",)
    single_bytes: frozenset[int] = frozenset()
    size = 0x110000

    def encode(self, prompt: str, *, add_special_tokens: bool) -> list[int]:
        return ([1] if add_special_tokens else []) + [ord(letter) for letter in prompt]

    def encode_parts(self, parts: Any, *, add_special_tokens: bool) -> list[int]:
        """The texts of plain parts are in brackets."""
        prompt = "".join(f"[{one.text}]" if one.plain else one.text for one in parts)
        return self.encode(prompt, add_special_tokens=add_special_tokens)

    def decode(self, tokens: list[int], *, skip_special: bool = True) -> str:
        return "".join(chr(token) for token in tokens if token > 1 or not skip_special)

    def raw(self, token: int) -> bytes:
        return bytes([token])


def words(template: str | None) -> Any:
    special = {"bos_token": "<s>"}
    chat = text.ChatTemplate({"default": template}, special) if template is not None else None
    return text.Words(Letters(), chat)


def talk(*contents: str, role: str = "user") -> Any:
    return text.turns.Conversation([{"role": role, "content": one} for one in contents])


def said(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


def test_chat_template_is_applied_as_one_user_turn_without_special_tokens() -> None:
    tokens = words(CHAT).encode(talk("Hi {{ 1 }}"))
    assert said(tokens) == "<s>user: Hi {{ 1 }}\nassistant: "


def test_all_turns_reach_the_template() -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    conversation = text.turns.Conversation(turns)
    assert (
        said(words(CHAT).encode(conversation)) == "<s>system: Be brief.\n<s>user: Hi\nassistant: "
    )


def test_raw_text_gets_no_template_but_the_tokens_that_begin_a_text() -> None:
    assert words(CHAT).encode("Hi") == words(None).encode("Hi") == [1, *map(ord, "[Hi]")]


def test_a_message_of_a_model_without_a_template_is_text_and_a_conversation_is_refused() -> None:
    assert words(None).encode(talk("a")) == [1, *map(ord, "[a]")]
    with pytest.raises(RequestError, match="no chat template"):
        words(None).encode(talk("Hi", role="system"))


def test_control_tokens_of_a_caller_are_text_and_those_of_the_template_are_not() -> None:
    tokens = words(CHAT).encode(talk("a <s> b", "<s>"))
    assert said(tokens) == "<s>user: a [<s>] b\n<s>user: [<s>]\nassistant: "


def test_control_tokens_in_tools_and_calls_are_text_too() -> None:
    template = "<s>{{ tools | tojson }}{{ messages[0].tool_calls | tojson }}{# [TOOL_CALLS] #}"
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a<s>": "<s>"}}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    tools = [{"type": "function", "function": {"description": "<s>"}}]
    tokens = words(template).encode(text.turns.Conversation(messages, tools))
    assert said(tokens).count("[<s>]") == 3
    assert said(tokens).count("<s>") == 4


def test_tools_are_text_for_a_template_that_has_no_known_format_of_calls() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "<s>"}}]
    messages = [{"role": "user", "content": "a"}]
    for template in (CHAT, CHAT + "{{ tools }}"):
        model = words(template)
        assert model.tool_calls == "hermes"
        prompt = said(model.encode(text.turns.Conversation(messages, tools)))
        assert '"description": "[<s>]"' in prompt
        assert "user: a" in prompt


def test_a_model_without_a_chat_template_has_no_format_of_calls() -> None:
    assert text.Words(Letters(), None).tool_calls is None
    assert words("{{ tools }}[TOOL_CALLS]").tool_calls == "mistral"


def test_token_ids_are_the_prompt_as_they_are() -> None:
    assert words(CHAT).encode(text.turns.Ids((5, 1, 7))) == [5, 1, 7]


@pytest.mark.parametrize("token", [0x110000, 2**40])
def test_number_that_is_no_token_is_refused_before_an_engine_reads_beyond_its_table(
    token: int,
) -> None:
    with pytest.raises(RequestError, match=f"{token} is not a token of this model"):
        words(CHAT).encode(text.turns.Ids((5, token, 7)))


FAILING = {
    "its own refusal": ("{{ raise_exception('no users') }}", "no users"),
    "a text and nothing": ("{{ messages[0].content + none }}", "can only concatenate"),
    "a name that is not defined": ("{{ nothing.more }}", "'nothing' is undefined"),
    "Python behind a value": ("{{ messages.__class__.__mro__ }}", "unsafe"),
}


@pytest.mark.parametrize(("template", "message"), FAILING.values(), ids=FAILING)
def test_what_a_template_raises_is_a_bad_request(template: str, message: str) -> None:
    with pytest.raises(RequestError, match=f"refuses the messages: .*{message}"):
        words(template).encode(talk("Hi"))


STOPS = {
    "a number": (({"eos_token_id": 2},), {2}),
    "several": (({"eos_token_id": [2, 7]},), {2, 7}),
    "the generation's own first": (({"eos_token_id": 3}, {"eos_token_id": 2}), {3}),
    "else the model's": (({}, {"eos_token_id": 2}), {2}),
    "none": (({"eos_token_id": None}, {}), set()),
}


@pytest.mark.parametrize(("configs", "expected"), STOPS.values(), ids=STOPS)
def test_stop_tokens_come_from_the_first_file_that_names_them(
    configs: tuple[dict[str, Any], ...], expected: set[int]
) -> None:
    assert text.stop_tokens(*configs) == expected


def test_engine_without_tokenizer_json_has_its_runtimes_tokenizer_and_template(
    tmp_path: Path,
) -> None:
    loaded = text.load(tmp_path, Letters())
    assert said(loaded.encode(talk("Hi"))) == "^$Hi"
    assert loaded.decode([1, ord("H")]) == "H"


def test_template_file_goes_before_the_runtimes_and_its_tokens_stay(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{{ eos_token }} of a file")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    loaded = text.load(tmp_path, Letters())
    assert said(loaded.encode(talk("Hi"))) == "^</s> of a file"


def test_runtime_without_a_template_refuses_conversations_only(tmp_path: Path) -> None:
    runtime = Letters()
    runtime.chat_template = ""
    assert text.load(tmp_path, runtime).encode("a") == [1, *map(ord, "[a]")]
    assert text.load(tmp_path, runtime).chat is None


def test_engine_without_any_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lacks tokenizer\.json"):
        text.load(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000], ids=["list", "cut", "deep"])
def test_file_that_is_no_object_is_refused_by_name(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"tokenizer_config\.json"):
        text.load(tmp_path, Letters())


class AddedToken:
    """tokenizers.AddedToken."""

    def __init__(self, content: str, **flags: bool) -> None:
        self.content = content
        for name in text.FLAGS:
            setattr(self, name, flags.get(name, False))


class Json:
    """tokenizers.Tokenizer of a file that has 10 tokens and was cut and filled up in training."""

    def __init__(self) -> None:
        self.encode_special_tokens = True
        self.cut = self.filled = True
        self.added = {9: AddedToken("<s>", special=True)}

    def get_vocab(self) -> dict[str, int]:
        return {"word": 4}

    def to_str(self) -> str:
        return '{"decoder": {"type": "ByteLevel"}}'

    def no_truncation(self) -> None:
        self.cut = False

    def no_padding(self) -> None:
        self.filled = False

    def get_added_tokens_decoder(self) -> dict[int, AddedToken]:
        return self.added

    def add_tokens(self, tokens: list[AddedToken]) -> None:
        for token in tokens:
            index = self.token_to_id(token.content)
            self.added[index if index is not None else 1 + max(self.added)] = token

    def token_to_id(self, content: str) -> int | None:
        known = {token.content: index for index, token in self.added.items()}
        return {"word": 4, **known}.get(content)


def completed(monkeypatch: pytest.MonkeyPatch, folder: Path, **files: Any) -> Json:
    """The tokenizer of a folder with tokenizer.json and other files."""
    package = types.ModuleType("tokenizers")
    made = Json()
    vars(package).update(
        AddedToken=AddedToken, Tokenizer=types.SimpleNamespace(from_file=lambda _: made)
    )
    monkeypatch.setitem(sys.modules, "tokenizers", package)
    for name, value in {"tokenizer": {}, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    text.load(folder)
    return made


def test_texts_are_neither_cut_nor_filled_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = completed(monkeypatch, tmp_path)
    assert (made.cut, made.filled, made.encode_special_tokens) == (False, False, False)
    config = {"split_special_tokens": True}
    assert completed(monkeypatch, tmp_path, tokenizer_config=config).encode_special_tokens is True


LISTED = {"10": {"content": "<tool>", "special": True}, "4": {"content": "word", "lstrip": True}}


def test_added_tokens_of_the_configuration_complete_the_tokenizer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = completed(monkeypatch, tmp_path, tokenizer_config={"added_tokens_decoder": LISTED})
    flags = {
        index: (token.content, token.special, token.lstrip, token.normalized)  # type: ignore[attr-defined]
        for index, token in made.added.items()
    }
    assert flags[10] == ("<tool>", True, False, False)
    assert flags[4] == ("word", False, True, True)


def test_files_that_give_a_token_two_numbers_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {"added_tokens_decoder": {"12": {"content": "<tool>", "special": True}}}
    with pytest.raises(ValueError, match=r"'<tool>' as 12, tokenizer\.json as 10"):
        completed(monkeypatch, tmp_path, tokenizer_config=config)


@pytest.mark.parametrize("listed", [{"x": {"content": "a"}}, {"1": 2}, {"1": {}}, [1]])
def test_list_of_added_tokens_that_is_not_valid_is_refused(
    listed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="added_tokens_decoder"):
        completed(monkeypatch, tmp_path, tokenizer_config={"added_tokens_decoder": listed})


SPECIAL: dict[str, dict[str, Any]] = {
    "named": {"tokenizer_config": {"pad_token": "<pad>"}},
    "in the map": {"special_tokens_map": {"pad_token": {"content": "<pad>"}}},
    "more": {"tokenizer_config": {"additional_special_tokens": ["<s>", {"content": "<pad>"}]}},
    "more in the map": {"special_tokens_map": {"additional_special_tokens": ["<pad>"]}},
    "extra": {"tokenizer_config": {"extra_special_tokens": {"audio_token": "<pad>"}}},
}


@pytest.mark.parametrize("files", SPECIAL.values(), ids=SPECIAL)
def test_special_tokens_that_the_tokenizer_lacks_are_added(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = completed(monkeypatch, tmp_path, **files)
    assert [token.content for token in made.added.values()] == ["<s>", "<pad>"]
    assert made.added[10].special  # type: ignore[attr-defined]


def test_tokenizer_json_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: str) -> None:
        raise Exception("expected value at line 1")  # noqa: TRY002 - as the package does

    package = types.ModuleType("tokenizers")
    vars(package).update(AddedToken=AddedToken, Tokenizer=types.SimpleNamespace(from_file=fail))
    monkeypatch.setitem(sys.modules, "tokenizers", package)
    (tmp_path / "tokenizer.json").write_text("")
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be read: expected value"):
        text.load(tmp_path)
