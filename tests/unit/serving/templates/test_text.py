"""Chat template and stop tokens of a Hugging Face folder."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.support.templates import load

text = load("tensorrt-rtx", "text")
CHAT = (
    "{% for message in messages %}\n"
    "{{ bos_token + message['role'] + ': ' + message['content'] }}\n"
    "    {% endfor %}\n"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


class Letters:
    """A tokenizer of letters; it says whether special tokens were asked for."""

    def encode(self, prompt: str, *, add_special_tokens: bool = True) -> Any:
        ids = ([1] if add_special_tokens else []) + [ord(letter) for letter in prompt]
        return type("Encoding", (), {"ids": ids})

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        return "".join(chr(t) for t in tokens if t > 1 or not skip_special_tokens)


def words(template: str | None) -> Any:
    return text.Words(Letters(), template, {"bos_token": "<s>"}, frozenset({2}))


def test_chat_template_is_applied_as_one_user_turn_without_special_tokens() -> None:
    ids = words(CHAT).encode([{"role": "user", "content": "Hi {{ 1 }}"}])
    assert "".join(map(chr, ids)) == "<s>user: Hi {{ 1 }}\nassistant: "


def test_without_a_template_the_tokenizer_s_own_special_tokens_are_added() -> None:
    assert words(None).encode("a") == [1, ord("a")]


def test_special_tokens_are_left_out_of_the_answer() -> None:
    assert words(None).decode([72, 105, 1]) == "Hi"


def test_template_may_refuse_a_conversation() -> None:
    said = [{"role": "user", "content": "Hi"}]
    with pytest.raises(text.turns.RequestError, match="refuses the messages: no users"):
        words("{{ raise_exception('no users') }}").encode(said)


def test_all_turns_reach_the_template() -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    ids = words(CHAT).encode(said)
    assert "".join(map(chr, ids)) == "<s>system: Be brief.\n<s>user: Hi\nassistant: "


def test_raw_text_gets_no_template() -> None:
    assert words(CHAT).encode("Hi") == [1, ord("H"), ord("i")]


def test_a_conversation_without_a_template_is_refused() -> None:
    with pytest.raises(text.turns.RequestError, match="no chat template"):
        words(None).encode([{"role": "system", "content": "Hi"}])


def test_template_cannot_reach_python() -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        text.render("{{ messages.__class__.__mro__ }}", [], {})


def test_template_file_goes_before_the_configuration(tmp_path: Path) -> None:
    config = {
        "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]
    }
    assert text.template_of(tmp_path, config) == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert text.template_of(tmp_path, config) == "file"
    assert text.template_of(tmp_path / "nowhere", {}) is None


def test_special_tokens_may_be_strings_or_objects() -> None:
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "pad_token": None,
    }
    assert text.special_tokens(config) == {"bos_token": "<s>", "eos_token": "</s>"}


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


def test_file_that_is_no_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="does not hold an object"):
        text.read(path)
    assert text.read(tmp_path / "other.json") == {}
