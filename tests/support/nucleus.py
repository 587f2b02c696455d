"""OpenVINO's sampler beside numpy; run in the environment triton-openvino.

    python nucleus.py TEMPLATES ENGINE PROMPT DRAWS

Prints one JSON object: the tokens that the serving template's own code draws for each setting, the
probabilities that numpy computes from the model's logits for the same prompt, and what the template
makes of seeds, penalties, lengths, control tokens and the pieces of a text.
"""

import json
import os
import random
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import openvino

TEMPLATES, ENGINE, PROMPT, DRAWS = sys.argv[1:]
for name in ("openvino", "shared"):
    sys.path.insert(0, f"{TEMPLATES}/{name}")
os.environ["FORGE_SITE_PACKAGES"] = str(Path(openvino.__file__).parents[1])
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")

import model  # type: ignore[import-not-found]  # noqa: E402
import turns  # type: ignore[import-not-found]  # noqa: E402
from model_io import Limits  # type: ignore[import-not-found]  # noqa: E402
from pieces import Pieces  # type: ignore[import-not-found]  # noqa: E402
from sampling import Sampling  # type: ignore[import-not-found]  # noqa: E402

TEMPERATURE = 1.0
SETTINGS: dict[str, dict[str, float]] = {
    "all": {},
    "top_p 0.6": {"top_p": 0.6},
    "top_p 0.3": {"top_p": 0.3},
    "top_k 3": {"top_k": 3},
    "min_p 0.3": {"min_p": 0.3},
}
SCRIPTS = (
    "Party 🎉🎉🎉🎉 and 👨‍👩‍👧‍👦",
    "안녕하세요 저는",
    "こんにちは、世界。",
    "नमस्ते दुनिया",
    "สวัสดีครับ",
    "Привет, Ελλάδα, مرحبا",
    "naïve € 100 “q” ½",
    "two  blanks\n\n\ttab",
)
CONTROL = ("<|im_start|>system", "a <|im_end|> b", "<|endoftext|>")


def probabilities(ids: np.ndarray) -> np.ndarray:
    """Of the next token, by one run of the graph without any sampler."""
    compiled = openvino.Core().compile_model(f"{ENGINE}/openvino_model.xml", "CPU")
    length = ids.shape[-1]
    feed = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.arange(length, dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    names = {name for one in compiled.inputs for name in one.names}
    logits = compiled({name: value for name, value in feed.items() if name in names})[0]
    values = np.asarray(logits[0, -1], np.float64) / TEMPERATURE
    weights = np.exp(values - values.max())
    return np.asarray(weights / weights.sum())


def answered(
    generator: "model.Generator", prompt: list[int], count: int, **given: object
) -> list[Any]:
    """The tokens of one answer, with their logarithms."""
    handle = generator.add(prompt, count, Sampling(**given))
    found: list[Any] = []
    while not handle.finished:
        generator.step()
        found += handle.new_tokens()
    return [*found, *handle.new_tokens()]


def draws(generator: "model.Generator", prompt: list[int]) -> dict[str, list[int]]:
    """Tokens that come after the prompt, for each setting."""
    drawn: dict[str, list[int]] = {}
    for name, given in SETTINGS.items():
        drawn[name] = []
        while len(drawn[name]) < int(DRAWS):
            handles = [
                generator.add(prompt, 1, Sampling(temperature=TEMPERATURE, **given))
                for _ in range(8)
            ]
            while generator.busy():
                generator.step()
            for handle in handles:
                drawn[name] += [one.token for one in handle.new_tokens()]
    return drawn


def pieces_and_whole(words: "model.text.Words") -> list[tuple[str, str]]:
    """Texts that come token by token, beside the same tokens at once; random tokens too."""
    numbers = random.Random(1)  # noqa: S311
    short = [index for index, raw in words.tokenizer.vocabulary.items() if len(raw) <= 2]
    lists = [words.encode_text(one) for one in SCRIPTS]
    lists += [numbers.choices(short + sorted(words.special), k=12) for _ in range(300)]
    lists += [numbers.choices(range(len(words.tokenizer.vocabulary)), k=8) for _ in range(300)]
    found = []
    for tokens in lists:
        pieces = Pieces(words)
        parts = [pieces.add([one]) for one in tokens[:-1]] + [pieces.add(tokens[-1:], last=True)]
        found.append(("".join(parts), words.tokenizer.tokenizer.decode(tokens)))
    return found


def control(words: "model.text.Words") -> list[dict[str, object]]:
    """What texts with control tokens become, alone and as a message."""
    found = []
    for written in CONTROL:
        said = turns.Conversation([{"role": "user", "content": written}])
        other = turns.Conversation([{"role": "user", "content": "x"}])
        plain = words.encode_text(written)
        counts = [sum(one in words.special for one in words.encode(talk)) for talk in (said, other)]
        found.append({
            "special": sum(one in words.special for one in plain),
            "text": words.decode(plain, skip_special=False) == written,
            "message": written in words.decode(words.encode(said), skip_special=False),
            "of_the_template": counts[0] == counts[1],
        })  # fmt: skip
    return found


def main() -> None:
    """Draw and compute."""
    limits = Limits(max_batch_size=8, max_seq_len=256, kv_cache_mib=None, max_num_batched_tokens=64)
    generator = model.Generator(Path(ENGINE), limits)
    words = generator.words
    prompt = words.encode(PROMPT)
    seeded = [
        [one.token for one in answered(generator, prompt, 12, temperature=1.0, seed=seed)]
        for seed in (5, 5, 6)
    ]
    greedy = answered(generator, prompt, 12, top_logprobs=1)
    penalised = answered(generator, prompt, 40, frequency_penalty=2.0, presence_penalty=2.0)
    plain = answered(generator, prompt, 40)
    scored = generator.add_scored([*prompt, *(one.token for one in greedy)], top=True)
    while generator.busy():
        generator.step()
    document = {
        "drawn": draws(generator, prompt),
        "probabilities": probabilities(np.asarray([prompt], np.int64)).tolist(),
        "seeded": seeded,
        "greedy": [(one.token, one.logprob, one.top) for one in greedy],
        "scored": [(one.token, one.logprob, one.top) for one in scored.scored[-len(greedy):]],
        "repeated": [len(one) - len({t.token for t in one}) for one in (plain, penalised)],
        "long": len(answered(generator, prompt, 30, ignore_eos=True)),
        "pieces": pieces_and_whole(words),
        "control": control(words),
    }  # fmt: skip
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
