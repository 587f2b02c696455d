# ruff: noqa: E501, RUF001 - texts in many scripts
"""The texts and conversations with which two tokenizers are compared. Standard library only.

`text_check.py` asks the reference and writes its answers to text.json; `text_engine_check.py` asks
what an engine is served with. `digest` names the probe, so that stored answers to another one are
not taken for answers to this one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

NOW = dt.datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 - strftime_now shows local time
SHORT = "short"  # the piece that a serving runtime can repeat in a moment
SPECIAL = "special tokens"
MOST_SPECIAL = 24  # special tokens of a model that the probe uses; some models have thousands

PIECES: Mapping[str, str] = {
    SHORT: "It's 2026: 3 naïve cats, Привет, 你好, नमस्ते 🙂\n\tx = 10 * y\n",
    "latin": "Hello, world! The quick brown fox; a naïve café in Århus, Łódź, İstanbul, Tiếng Việt.",
    "greek": "Η γρήγορη αλεπού πηδάει. Πόσο κάνει; 15€, άνοιξη.",
    "cyrillic": "Съешь же ещё этих мягких французских булок. Їжак, ќерка, ЁЖ.",
    "han": "今天天气很好，我们去公园散步吧。繁體中文測試：龍鳳齊飛。𠮷野家",
    "kana": "すもももももももものうち。カタカナテスト、ﾊﾝｶｸ、がぎぐ。",
    "hangul": "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장입니다! ㄱㄴㄷ",
    "arabic": "مرحبا بالعالم، كيف حالك؟ اللُّغَةُ العَرَبِيَّة ٢٠٢٦",
    "hebrew": "שלום עולם! מה שלומך? בְּרֵאשִׁית",
    "devanagari": "नमस्ते दुनिया। क्षत्रिय, ज्ञान, १२३ रुपये।",
    "bengali and tamil": "আমার সোনার বাংলা। வணக்கம் உலகம்! க்ஷ",
    "thai": "สวัสดีชาวโลก ภาษาไทยไม่มีช่องว่าง ๑๒๓",
    "georgian and armenian": "გამარჯობა მსოფლიო. Բարեւ աշխարհ։",
    "ethiopic": "ሰላም ለዓለም። አማርኛ ፩፪፫",
    "digits": "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 2026-11-29 1e-5 0x1F x2y10 ½ ² １２３ 9",
    "blanks": " a  b   c    d     e      f       g        h                i\u00a0j\u3000k\u2009l ",
    "lines": "a\nb\n\nc\n\n\nd\r\ne\r\n\r\nf\tg\t\th\t\n \n  \n\ti \n",
    "contractions": "it's IT'S I'll we're We'RE don't DON'T he'd I'm they've o'clock don’t 'tis s's",
    "signs": "!!! ??? ... -- --- == === != <= >= -> => :: // /* */ && || ++ \\n \\ `x` #$%^&*_~|«»„“”…–—",
    "code": 'def f(x: int) -> str:\n    """Doc."""\n    if x >= 10:\n\t\treturn f"{x:>5}"\n    '
    "return {'a': [1, 2], \"b\": None}  # note\n\nint main(){return 0;}",
    "markup": '<b class="x">A &amp; B</b> {{ name }} {% if x %} [link](https://example.org/?q=1&r=2)',
    "emoji": "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 1️⃣ ❤️ ☕︎",
    "composed and decomposed": "é e\u0301 Å A\u030a ﬁ Ａ ǆ ệ e\u0323\u0302 각 ᄀ\u1161ᆨ",
    "rare": "𓀀 𝔘𝔫𝔦 \ue000 \u200b\u200d\ufeff \u202e \x7f \x01 ﷽ 🀄 ꙮ",
    "marks of tokenizers": "▁low ▁▁x Ġx Ċ ##ing </w> @@ <0x0A> <unk> <s> </s> [INST] <|im_end|>",
    "long runs": "a" * 200
    + "=" * 100
    + "-" * 33
    + " " * 70
    + "x"
    + "\n" * 50
    + "1" * 50
    + "的" * 40,
    "one space": " ",
    "one line": "\n",
    "no text": "",
    "begins with blanks": "   Hi",
    "ends with blanks": "Hi   ",
}

# Shows every name and filter of apply_chat_template, also those that the model's template lacks.
FEATURES = """\
{%- if tools is not none %}{{ tools | tojson }}|{{ tools | tojson(indent=2) }}{% else %}no tools{% endif %}
{% if documents is none %}no documents{% else %}{{ documents | length }}{% endif %}
{% for message in messages %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
    {% generation %}{% set inside = message.role %}{{ message | tojson }}{% endgeneration %}
    {{ inside is defined }}
{% endfor %}
{{ strftime_now('%Y-%m-%d %H:%M:%S') }} {{ strftime_now is defined }} {{ add_generation_prompt }}
{{ {'b': 1, 'a': '<é>'} | tojson(sort_keys=true) }} {{ not_defined }}
"""

WEATHER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city: <b>°C</b> & wind, naïve 'forecast'.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "e.g. Zürich"},
                "unit": {"type": "string", "enum": ["°C", "°F"], "default": "°C"},
                "days": {"type": "array", "items": {"type": "integer"}},
            },
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True)
class Talk:
    """A conversation for a chat template.

    Attributes:
        name: for messages.
        messages: the turns.
        tools: functions that the model can call, or None.
        documents: for templates that take some, or None.
        add_generation_prompt: whether the prompt ends where the answer begins.
        template: Jinja text to use instead of the model's.
    """

    name: str
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    documents: Sequence[Mapping[str, Any]] | None = None
    add_generation_prompt: bool = True
    template: str | None = None


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    """Return messages of (role, content)."""
    return [{"role": role, "content": content} for role, content in turns]


_CALL: Mapping[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call12345",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
        }
    ],
}
_RESULT: Mapping[str, Any] = {
    "role": "tool",
    "name": "get_weather",
    "tool_call_id": "call12345",
    "content": '{"temperature": "3 °C", "sky": "<grey>"}',
}
_DOCUMENTS = [{"title": "Zürich & more", "text": "It <rains>.\n\nOften."}]

TALKS: Sequence[Talk] = (
    Talk("a user", said(("user", "What is the capital of France?"))),
    Talk("a system message", said(("system", "Be brief."), ("user", "Hi"))),
    Talk(
        "several turns",
        said(
            ("system", "You are a café guide."),
            ("user", "Where?"),
            ("assistant", "In Århus.\n\n1. Here\n2. There"),
            ("user", "Why?"),
            ("assistant", "Because <think>it is near</think>."),
            ("user", "Thanks 🙂"),
        ),
    ),
    Talk("tools", said(("system", "Use tools."), ("user", "Weather in Zürich?")), tools=[WEATHER]),
    Talk("an empty list of tools", said(("user", "Hi")), tools=[]),
    Talk(
        "a tool's result",
        [*said(("user", "Weather in Zürich?")), _CALL, _RESULT],
        tools=[WEATHER],
    ),
    Talk("documents", said(("user", "Does it rain?")), documents=_DOCUMENTS),
    Talk("no generation prompt", said(("user", "Hi"), ("assistant", "Hello.")), None, None, False),
    Talk(
        "characters with a meaning elsewhere",
        said(
            ("user", "<b>é</b> & \"q\" 'r' {{ messages }} {% raw %} \\n 👩‍👩‍👧 \u2028 <|x|> [INST]")
        ),
    ),
    Talk("an empty message", said(("user", ""), ("assistant", ""), ("user", " "))),
    Talk(
        "blanks at the ends", said(("system", "\n a \n"), ("user", "  b\t"), ("assistant", " c "))
    ),
    Talk("two users", said(("user", "a"), ("user", "b"))),
    Talk("the assistant begins", said(("assistant", "Hi"), ("user", "Hello"))),
    Talk("the system is last", said(("user", "a"), ("system", "b"))),
    Talk("a role that no template knows", said(("critic", "No."))),
    Talk("a list of parts", [{"role": "user", "content": [{"type": "text", "text": "Hi <é>"}]}]),
    Talk("a message without content", [*said(("user", "a")), {"role": "assistant"}]),
    Talk("all functions of a template", said(("user", "<é>"), ("tool", "x")), template=FEATURES),
    Talk(
        "all functions of a template, with tools",
        said(("user", "a")),
        tools=[WEATHER],
        documents=_DOCUMENTS,
        template=FEATURES,
    ),
)


def pieces(special: Iterable[str]) -> dict[str, str]:
    """Return every text of the probe by name, with a model's special tokens in one of them."""
    found = {**PIECES, **mixtures()}
    tokens = sorted(set(special))[:: max(1, len(set(special)) // MOST_SPECIAL)][:MOST_SPECIAL]
    found[SPECIAL] = "".join(f"a{token}b {token} c\n{token}" for token in tokens)
    found["all"] = "\n".join(found.values())
    return found


def mixtures() -> dict[str, str]:
    """Return texts whose characters are drawn from all others, always the same ones."""
    draw = random.Random(20260203)  # noqa: S311 - the same texts for everyone
    signs = sorted({sign for text in PIECES.values() for sign in text})
    found = {}
    for number in range(1, 13):
        words = ("".join(draw.choices(signs, k=draw.randint(1, 8))) for _ in range(8))
        found[f"mixture {number}"] = draw.choice((" ", "", "\n", "  ")).join(words)
    return found


def digest() -> str:
    """Return the SHA-256 of the whole probe, the special tokens of a model apart."""
    whole = [pieces(()), [asdict(talk) for talk in TALKS], NOW.isoformat()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
