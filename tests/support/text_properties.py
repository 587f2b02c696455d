"""Random tokens and typed control tokens through the text module; in env `triton-openvino`.

    python text_properties.py TEMPLATES FOLDER LISTS

FOLDER has the files of a tokenizer. Prints one JSON object:

    pieces       lists of tokens whose text in pieces is not the text of all at once
    read         control texts that a caller wrote and that became control tokens
    changed      control texts that a caller wrote and whose tokens have another text
    template     control tokens in a rendered conversation in which a caller wrote all of them
    reference    control tokens in the same conversation without them
"""

import json
import random
import sys
from pathlib import Path
from typing import Any

TEMPLATES, FOLDER, LISTS = sys.argv[1:]
sys.path.insert(0, f"{TEMPLATES}/shared")

import text  # type: ignore[import-not-found]  # noqa: E402
from pieces import Pieces  # type: ignore[import-not-found]  # noqa: E402
from turns import Conversation  # type: ignore[import-not-found]  # noqa: E402

MOST = 14  # tokens of a list


def differing(words: Any, lists: int) -> list[list[int]]:
    """Return lists whose pieces, one token at a time, do not join to the whole."""
    draw, tokenizer = random.Random(1), words.tokenizer  # noqa: S311 - no secret
    every = range(tokenizer.size)
    parts = [one for one in every if not tokenizer.raw(one).isascii()]
    parts += sorted(tokenizer.single_bytes)
    kinds = [every, parts or every, sorted(tokenizer.special) or every]
    found = []
    for _ in range(lists):
        tokens = [draw.choice(draw.choice(kinds)) for _ in range(draw.randrange(1, MOST))]
        pieces = Pieces(words)
        joined = "".join(pieces.add([one]) for one in tokens) + pieces.add([], last=True)
        if joined != words.tokenizer.tokenizer.decode(tokens, skip_special_tokens=True):
            found.append(tokens)
    return found


def own(words: Any, said: str) -> int:
    """Return how many control tokens the prompt of one message has."""
    tokens = words.encode(Conversation([{"role": "user", "content": said}]))
    return sum(token in words.tokenizer.control for token in tokens)


def main() -> None:
    """Ask and print."""
    words = text.load(Path(FOLDER))
    control = words.tokenizer.control
    typed = {index: words.encode_text(f"x {one.content}y") for index, one in control.items()}
    plain = {index: words.decode(tokens, skip_special=False) for index, tokens in typed.items()}
    every = " ".join(one.content for one in control.values())
    counted = [own(words, said) for said in (f"Hello {every}!", "Hello!")]
    begin = [one for one in words.encode_text("x") if one in control]  # of every text
    document = {
        "pieces": differing(words, int(LISTS)),
        "read": [control[index].content for index, tokens in typed.items()
                 if [one for one in tokens if one in control] != begin],
        "changed": [control[index].content for index, shown in plain.items()
                    if f"x {control[index].content}y" not in shown],
        "template": counted[0],
        "reference": counted[1],
        "separators": [one.content for one in control.values() if not one.special],
    }  # fmt: skip
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
