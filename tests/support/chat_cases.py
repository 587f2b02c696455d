"""Chat templates and tokenizer folders, and what transformers makes of them.

    python chat_cases.py FILE        in the tool environment `transformers`

writes its answers; tests/unit/serving/repository/templates/chat_answers.json was made so. The unit
tests compare the serving templates with them, and tests/e2e/builders/test_text.py makes them again.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOW = dt.datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - strftime_now shows local time
TOOL = {"type": "function", "function": {"name": "é", "description": "<b> & 'x'", "z": 1, "a": 2}}
HELLO = ({"role": "user", "content": "Hi <é> 🙂"},)
TALK = (
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": ""},
    {"role": "user", "content": "b"},
)
NAMES = "[{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ pad_token }}|{{ image_token }}]"
TWO = [
    {"name": "default", "template": "plain {{ tools }}"},
    {"name": "tool_use", "template": "tools {{ tools | length }}"},
]
BOS = {"content": "<s>", "lstrip": False, "normalized": False, "rstrip": False,
       "single_word": False, "special": True}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A tokenizer's folder, beside its tokenizer.json, and one call.

    Attributes:
        config: tokenizer_config.json.
        files: other files by path: text, or a value that is written as JSON.
        messages: the conversation.
        call: other arguments of apply_chat_template.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    messages: Sequence[Mapping[str, Any]] = HELLO
    call: Mapping[str, Any] = field(default_factory=dict)


def of(template: str, messages: Sequence[Mapping[str, Any]] = HELLO, **call: Any) -> Case:
    """A case whose template is in tokenizer_config.json."""
    return Case({"chat_template": template}, messages=messages, call=call)


CASES: Mapping[str, Case] = {
    "tools that are not given are none": of("{{ tools is none }} {{ tools is defined }}"),
    "an empty list of tools is a list": of("{{ tools is not none }}", tools=[]),
    "tools": of("{% if tools is not none %}{{ tools | tojson }}{% endif %}", tools=[TOOL]),
    "documents that are not given are none": of("{{ documents is none }}"),
    "documents": of("{{ documents[0].title }}", documents=[{"title": "é", "text": "x"}]),
    "no generation prompt": of("{{ add_generation_prompt }}", add_generation_prompt=False),
    "tojson": of("{{ messages | tojson }}"),
    "tojson with indent": of("{{ messages | tojson(indent=4) }}"),
    "tojson by position": of("{{ messages | tojson(true, 2) }}"),
    "tojson with separators": of("{{ [1, {'b': 1, 'a': 2}] | tojson(separators=(',', ':')) }}"),
    "tojson sorted": of("{{ {'b': 1, 'a': '<'} | tojson(sort_keys=true) }}"),
    "tojson of what JSON lacks": of("{{ cycler | tojson }}"),
    "the date": of("{{ strftime_now('%d %b %Y %H:%M:%S') }}"),
    "the date, guarded": of("{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}"),
    "generation": of("{% generation %}\n  {{ 1 }}\n{% endgeneration %}\nend"),
    "generation keeps its variables": of(
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"
    ),
    "generation in a loop": of(
        "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration -%}"
        "{% endfor %}",
        TALK,
    ),
    "break and continue": of(
        "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.role }}"
        "{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
        TALK,
    ),
    "blocks are trimmed": of(
        "a\n   {% if true %}\n b\n   {% endif %}\n  {# note #}\n{{ 'c' }}\n\n", TALK
    ),
    "the last line's end": of("{{ messages[0].content }}\n"),
    "namespace and macro": of(
        "{% macro say(x) %}<{{ x }}>{% endmacro %}{% set n = namespace(x='') %}"
        "{% for m in messages %}{% set n.x = n.x + m.role[0] %}{% endfor %}{{ say(n.x) }}",
        TALK,
    ),
    "methods of strings": of(
        "{{ messages[0]['content'].strip().split(' ')[-1].upper() }}|{{ 'abc'[::-1] }}|"
        "{{ messages[1:] | length }}|{{ 'x' ~ 1 }}|{{ messages[0].role in ['system'] }}",
        TALK,
    ),
    "markup is not escaped": of("{{ '<b>' }}{{ messages[0].content }}"),
    "a refusal": of("{{ raise_exception('Roles must <alternate>') }}"),
    "a name that is not defined": of("[{{ nothing }}]{{ nothing is defined }}"),
    "an attribute of a name that is not defined": of("{{ nothing.more }}"),
    "a key that messages lack": of("[{{ messages[0].name }}]"),
    "text and nothing added": of("{{ 'a' + none }}"),
    "a division by zero": of("{{ 1 / 0 }}"),
    "Python behind a value": of("{{ messages.__class__.__mro__ }}"),
    "a list that is changed": of("{{ messages.append(1) }}"),
    "a range without an end": of("{% for x in range(999999999) %}{% endfor %}"),
    "special tokens as texts": Case(
        {"chat_template": NAMES, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    ),
    "special tokens as objects": Case(
        {"chat_template": NAMES, "bos_token": {"__type": "AddedToken", **BOS}, "eos_token": None}
    ),
    "special tokens in the map only": Case(
        {"chat_template": NAMES},
        {"special_tokens_map.json": {"bos_token": BOS, "eos_token": "</s>", "pad_token": "</s>"}},
    ),
    "special tokens in the map and in the configuration": Case(
        {"chat_template": NAMES, "bos_token": "<s>", "pad_token": "<unk>"},
        {"special_tokens_map.json": {"bos_token": "</s>", "eos_token": "<s>"}},
    ),
    "the map of a configuration that lists added tokens": Case(
        {"chat_template": NAMES, "bos_token": "<s>", "added_tokens_decoder": {"1": BOS}},
        {"special_tokens_map.json": {"bos_token": "</s>", "eos_token": "<s>"}},
    ),
    "a token of another name": Case({"chat_template": NAMES, "image_token": "<image>"}),
    "named extra tokens": Case(
        {"chat_template": NAMES, "extra_special_tokens": {"image_token": "<image>"}}
    ),
    "a list of extra tokens": Case(
        {"chat_template": NAMES + "{{ extra_special_tokens is defined }}",
         "additional_special_tokens": ["<image>"]}
    ),
    "a number that is called a token": Case({"chat_template": NAMES, "add_bos_token": True}),
    "named templates": Case({"chat_template": TWO}),
    "named templates with tools": Case({"chat_template": TWO}, call={"tools": [TOOL]}),
    "named templates with an empty list of tools": Case({"chat_template": TWO}, call={"tools": []}),
    "named templates without a default": Case({"chat_template": TWO[1:]}),
    "a template for tools alone": Case({"chat_template": TWO[1:]}, call={"tools": [TOOL]}),
    "one named template": Case({"chat_template": TWO[:1]}, call={"tools": [TOOL]}),
    "a file goes before the configuration": Case(
        {"chat_template": "configuration"}, {"chat_template.jinja": "file {{ bos_token }}\n"}
    ),
    "a file and a folder": Case(
        {"chat_template": "configuration"},
        {"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "tools"},
        call={"tools": [TOOL]},
    ),
    "a folder goes before the configuration": Case(
        {"chat_template": "configuration"}, {"additional_chat_templates/tool_use.jinja": "tools"}
    ),
}  # fmt: skip

_TOKENIZER: Mapping[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 3},
        "unk_token": "<unk>",
    },
}


def write(case: Case, folder: Path) -> None:
    """Write the folder of a case."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **case.config}
    files = {"tokenizer.json": _TOKENIZER, "tokenizer_config.json": config, **case.files}
    for name, value in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def answer(case: Case, folder: Path) -> dict[str, str]:
    """What transformers makes of a case: the prompt, or the class and the text of an error."""
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = type("Clock", (), {"now": staticmethod(lambda: NOW)})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    try:
        return {
            "prompt": tokenizer.apply_chat_template(
                list(case.messages),
                tokenize=False,
                **{"add_generation_prompt": True, **case.call},
            )
        }
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return {"refusal": type(error).__name__, "message": str(error)}


def main() -> None:
    """Write the answers to the file that is named."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    answers = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(case, Path(folder))
            answers[name] = answer(case, Path(folder))
    text = json.dumps(answers, indent=1, ensure_ascii=False)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
