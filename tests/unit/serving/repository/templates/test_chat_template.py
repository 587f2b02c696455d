"""Chat templates are rendered as transformers does: chat_answers.json, see chat_cases.py."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import jinja2
import pytest

from tests.support.chat_cases import CASES, NOW, Case, write
from tests.support.templates import load

chat_template = load("shared", "chat_template")
ANSWERS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("chat_answers.json").read_text(encoding="utf-8")
)


def read(folder: Path, name: str) -> Any:
    path = folder / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def served(case: Case, folder: Path) -> str:
    """What the serving template makes of a case."""
    write(case, folder)
    config = read(folder, "tokenizer_config.json")
    special = chat_template.named_tokens(config, read(folder, "special_tokens_map.json"))
    sources = chat_template.read_sources(folder, config)
    chat = chat_template.ChatTemplate(sources, special, lambda: NOW)
    return str(chat.render(list(case.messages), **case.call))


def test_every_case_has_its_answer() -> None:
    assert list(ANSWERS) == list(CASES)


@pytest.mark.parametrize("name", [name for name, one in ANSWERS.items() if "prompt" in one])
def test_prompt_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    assert served(CASES[name], tmp_path) == ANSWERS[name]["prompt"]


@pytest.mark.parametrize("name", [name for name, one in ANSWERS.items() if "refusal" in one])
def test_refusal_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    with pytest.raises(chat_template.RENDER_ERRORS) as caught:
        served(CASES[name], tmp_path)
    assert type(caught.value).__name__ == ANSWERS[name]["refusal"]
    if isinstance(caught.value, jinja2.TemplateError):
        assert str(caught.value) == ANSWERS[name]["message"]


def test_template_that_is_not_valid_is_refused_before_any_request() -> None:
    with pytest.raises(ValueError, match=r"chat template 'tool_use' is not valid: .*endfor"):
        chat_template.ChatTemplate({"default": "", "tool_use": "{% for x in y %}"}, {})


@pytest.mark.parametrize("value", [7, [{"name": "default"}], [{"name": 1, "template": "x"}], "ab"])
def test_chat_template_of_another_form_is_refused(value: Any, tmp_path: Path) -> None:
    if isinstance(value, str):
        assert chat_template.read_sources(tmp_path, {"chat_template": value}) == {"default": "ab"}
        return
    with pytest.raises(ValueError, match="neither a text nor named texts"):
        chat_template.read_sources(tmp_path, {"chat_template": value})


def test_model_without_a_chat_template_has_no_sources(tmp_path: Path) -> None:
    nothing: tuple[Any, ...] = (None, "", [])
    for config in ({}, *({"chat_template": value} for value in nothing)):
        assert chat_template.read_sources(tmp_path, config) == {}


def test_date_is_the_local_one() -> None:
    before = dt.datetime.now()  # noqa: DTZ005
    shown = chat_template.ChatTemplate({"default": "{{ strftime_now('%Y %m %d %H') }}"}, {})
    expected = {f"{when:%Y %m %d %H}" for when in (before, dt.datetime.now())}  # noqa: DTZ005
    assert shown.render([]) in expected
