"""Small tokenizers of every kind that GGUF files name. Runs in the environment `transformers`.

    python tiny_tokenizers.py OUTPUT [PROBES]

    OUTPUT/KIND/tokenizer.json      as the reference tokenizer of such a model has it
    OUTPUT/KIND.json                the token ids of each probe text

The pre-tokenizers are those of the published tokenizer.json of a model of each kind; the
vocabularies are trained on the probe text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, trainers

SIZE = 512
PROBES = (
    "It's 12345 o'clock; I'LL pay $3.50 (or €1,234.56)... don't!",
    "  two blanks   three\ttab\n\nnew lines \r\n  end  ",
    "Größe naïve café œuvre — “quotes” ½ ² Ⅷ",
    "Быстрая коричневая лиса 2026 года",
    "Η γρήγορη καφέ αλεπού",  # noqa: RUF001
    "السلام عليكم ١٢٣٤",
    "שלום עולם",
    "नमस्ते दुनिया १२३",
    "สวัสดีชาวโลก",
    "你好,世界!一二三",
    "こんにちは世界 カタカナ",
    "안녕하세요 세계",
    "ગુજરાતી தமிழ் বাংলা",
    "é e\u0301 (NFC and NFD) Å A\u030a",
    "emoji 🚀👩‍💻🇩🇪 and \u200bzero width",
    "def f(x):\n    return x[0] + 100  # HTTPServer snake_case camelCase",
    "<|bos|> in the text <|end|>\n<|tool|>after",
    " <|end|> blank <|end|>",
    "",
    " ",
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def level(*, regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": regex}  # fmt: skip


def split(regex: str) -> dict[str, Any]:
    pattern = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
               "invert": False}  # fmt: skip
    return {"type": "Sequence", "pretokenizers": [pattern, level(regex=False)]}


DIGITS = {
    "type": "Sequence",
    "pretokenizers": [{"type": "Digits", "individual_digits": True}, level(regex=True)],
}
SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
PREPEND = {"type": "Prepend", "prepend": "▁"}
# KIND → parts of tokenizer.json, whether texts begin with BOS, whether merges may be ignored.
KINDS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "llama-bpe": ({"pre_tokenizer": split(LLAMA3)}, True, True),
    "smaug-bpe": ({"pre_tokenizer": split(LLAMA3)}, False, False),
    "qwen2": ({"pre_tokenizer": split(QWEN2), "normalizer": {"type": "NFC"}}, False, False),
    "gpt-4o": ({"pre_tokenizer": split(GPT4O)}, False, False),
    "tekken": ({"pre_tokenizer": split(TEKKEN)}, True, True),
    "smollm": ({"pre_tokenizer": DIGITS}, False, False),
    "refact": ({"pre_tokenizer": DIGITS}, False, False),
    "gpt-2": ({"pre_tokenizer": level(regex=True)}, False, False),
    "spm": (
        {"normalizer": {"type": "Sequence", "normalizers": [PREPEND, SPACES]}},
        True,
        False,
    ),
    "spm-no-prefix": ({"normalizer": SPACES}, True, False),
}


def main(argv: list[str]) -> int:
    """Make the tokenizers."""
    output = Path(argv[0])
    for kind in KINDS:
        folder = output / kind
        folder.mkdir(parents=True, exist_ok=True)
        made = make(kind)
        made.save(str(folder / "tokenizer.json"))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|bos|>",
                  "eos_token": "<|end|>", "chat_template": "{{ messages }}"}  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        ids = [made.encode(text).ids for text in PROBES]
        (output / f"{kind}.json").write_text(json.dumps(ids))
    return 0


def make(kind: str) -> Tokenizer:
    """Return a trained tokenizer."""
    parts, bos, ignore_merges = KINDS[kind]
    pieces = kind.startswith("spm")
    special = ["<unk>", "<|bos|>", "<|end|>"]
    base = json.loads(Tokenizer(models.BPE(byte_fallback=pieces, fuse_unk=pieces)).to_str())
    empty = Tokenizer.from_str(json.dumps({**base, **parts}))
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - 1,
        special_tokens=[*special, *(bytes_ if pieces else [])],
        initial_alphabet=[] if pieces else alphabet(),
        limit_alphabet=96 if pieces else 1000,
        show_progress=False,
    )
    english = [text for text in PROBES for _ in range(3 if text.isascii() else 1)]
    empty.train_from_iterator([text for text in english if "<|" not in text], trainer)
    document = json.loads(empty.to_str())
    document["model"] |= {"ignore_merges": ignore_merges, "unk_token": None}
    if pieces:
        document["model"]["unk_token"] = "<unk>"
    document["added_tokens"] = [one for one in document["added_tokens"]
                                if one["content"] in special]  # fmt: skip
    tool = {**document["added_tokens"][0], "id": len(document["model"]["vocab"])}
    document["added_tokens"].append(tool | {"content": "<|tool|>", "special": False})
    if bos:
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [1], "tokens": ["<|bos|>"]}},
        }  # fmt: skip
    return Tokenizer.from_str(json.dumps(document))


def alphabet() -> list[str]:
    """Return the 256 letters that stand for bytes."""
    from tokenizers import pre_tokenizers

    return list(pre_tokenizers.ByteLevel.alphabet())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
