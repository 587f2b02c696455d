"""Which checkpoints a builder takes, by what their headers state; a builder declares it as `TAKES`.

What is not known of a checkpoint is not refused while a release is planned: the fetch and the tools
read the same headers again.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from forge.memory.shape import ModelShape

__all__ = [
    "CONVERTED_GGUF",
    "HUGGINGFACE",
    "UNKNOWN",
    "CheckpointFacts",
    "Takes",
    "Unsupported",
    "unsupported",
]

FORMS: Final = {"gguf": "GGUF files", "huggingface": "Hugging Face checkpoints"}


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What is known of a checkpoint before it is converted; None: not known.

    Attributes:
        form: `gguf` or `huggingface`.
        architecture: `model_type` of config.json, or its equivalent for a GGUF file.
        tokenizer: `tokenizer.json`, `tokenizer.model`, …; of a GGUF file `llama` (SentencePiece),
            `gpt2/PRE` (BPE) or another value of tokenizer.ggml.model; `none` if there is none.
        quantisation: `none` or the method (`gptq`, `awq`, `fp8`, …) of a Hugging Face checkpoint;
            all tensor types of a GGUF file, in lower case.
        shape: the sizes that its memory is computed from.
    """

    form: str | None = None
    architecture: str | None = None
    tokenizer: str | None = None
    quantisation: tuple[str, ...] | None = None
    shape: ModelShape | None = None


UNKNOWN: Final = CheckpointFacts()


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What of a checkpoint is not supported, in the parts of an error message.

    Attributes:
        what: the object of "does not support".
        why: what is supported.
        hint: what to do next.
    """

    what: str
    why: str
    hint: str

    def __str__(self) -> str:
        return f"does not support {self.what} ({self.why})"


@dataclass(frozen=True, slots=True)
class Takes:
    """One kind of checkpoint that a builder takes.

    Attributes:
        form: `gguf` or `huggingface`.
        tokenizers: supported kinds, as globs (see CheckpointFacts).
        quantisations: supported methods or tensor types, in lower case.
        architectures: supported ones of this form; empty: all ARCHITECTURES of the builder.
        precisions: values of engine.precision for which it takes this form; empty: all.
    """

    form: str
    tokenizers: tuple[str, ...]
    quantisations: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()

    def unsupported(self, facts: CheckpointFacts) -> Unsupported | None:
        """Return why a checkpoint of this form is not taken; None if it is, as far as known."""
        if facts.architecture is not None and not self._supports(facts.architecture):
            return Unsupported(
                f"{facts.architecture!r} models as {FORMS[self.form]}",
                f"supported architectures of this form: {', '.join(self.architectures)}",
                "use another form of the same model, or another engine.builder:"
                " docs/reference/builders.md",
            )
        if facts.tokenizer is not None and not _matches(facts.tokenizer, self.tokenizers):
            return _tokenizer(self, facts.tokenizer)
        odd = [one for one in facts.quantisation or () if one not in self.quantisations]
        return _quantisation(self, odd) if odd else None

    def _supports(self, architecture: str) -> bool:
        return not self.architectures or architecture in self.architectures


# What ggml's tensor types can be converted from: `gguf.quants.dequantize` of gguf 0.19.
_DEQUANTISED: Final = (
    *("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"),
    *("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "tq1_0", "tq2_0", "mxfp4", "nvfp4"),
    *("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_nl", "iq4_xs"),
)
HUGGINGFACE: Final = Takes(
    form="huggingface",
    # The step `huggingface` makes tokenizer.json of tokenizer.model.
    tokenizers=("tokenizer.json", "tokenizer.model"),
    quantisations=("none",),
)
"""A Hugging Face checkpoint with original weights."""

CONVERTED_GGUF: Final = Takes(
    form="gguf",
    # `SPLITS` of tools/tokenizer_json.py and SentencePiece.
    tokenizers=(
        *("llama", "gpt2/llama3", "gpt2/llama-v3", "gpt2/llama-bpe", "gpt2/smaug-bpe"),
        *("gpt2/qwen2", "gpt2/gpt-4o", "gpt2/tekken", "gpt2/smollm", "gpt2/starcoder"),
        *("gpt2/refact", "gpt2/gpt-2"),
    ),
    quantisations=_DEQUANTISED,
    # `FAMILIES` of tools/gguf_model.py.
    architectures=("gemma2", "gemma3_text", "granite", "llama", "qwen2", "qwen3", "smollm3"),
)
"""A GGUF file that the step `huggingface` converts."""


def unsupported(
    takes: Sequence[Takes], facts: CheckpointFacts, precision: str | None = None
) -> Unsupported | None:
    """Return why none of several kinds is this checkpoint; None if one is, as far as known.

    Args:
        takes: the kinds that a builder takes; none: any.
        facts: what is known of the checkpoint.
        precision: engine.precision; None: any.
    """
    chosen = [
        one for one in takes if precision is None or precision in (one.precisions or {precision})
    ]
    reason = _first(chosen, facts) if takes else None
    others = [one for one in takes if one not in chosen and _first([one], facts) is None]
    if reason is None or not others:
        return reason
    names = " or ".join(others[0].precisions)
    return replace(reason, hint=f"set engine.precision to {names}, or {reason.hint}")


def _first(takes: Sequence[Takes], facts: CheckpointFacts) -> Unsupported | None:
    found = [one for one in takes if facts.form in {None, one.form}]
    if not found:
        return _form(takes, str(facts.form))
    reasons = [one.unsupported(facts) for one in found]
    return reasons[0] if all(reasons) else None


def _form(takes: Sequence[Takes], form: str) -> Unsupported:
    supported = " and ".join(FORMS[one.form] for one in takes)
    hint = (
        "use a GGUF file of the same model: ?path=*.gguf"
        if form == "huggingface"
        else "use the Hugging Face checkpoint of the same model"
    )
    return Unsupported(FORMS.get(form, form), f"supported: {supported}", hint)


def _tokenizer(takes: Takes, found: str) -> Unsupported:
    what = f"checkpoints with the tokenizer {found!r}"
    if takes.form == "gguf":
        hint = "use the Hugging Face checkpoint of the same model, or another engine.builder"
    elif found == "none":
        hint = "add the tokenizer's files to path= of the URL, for example &path=tokenizer*"
    else:
        hint = "write tokenizer.json next to it with AutoTokenizer.save_pretrained of transformers"
    if found == "none":
        what = "checkpoints without a tokenizer"
    return Unsupported(what, f"supported tokenizers: {', '.join(takes.tokenizers)}", hint)


def _quantisation(takes: Takes, odd: Sequence[str]) -> Unsupported:
    names = " and ".join(one.upper() if takes.form == "gguf" else one for one in odd)
    if takes.form == "gguf":
        supported = ", ".join(one.upper() for one in takes.quantisations)
        hint = "use a file of the same model in Q8_0, or its Hugging Face checkpoint"
        return Unsupported(f"GGUF tensors of type {names}", f"supported types: {supported}", hint)
    return Unsupported(
        f"weights that are quantised already ({names})",
        f"supported quantisation: {', '.join(takes.quantisations)}",
        "use the original weights of the model; engine.precision says how they are quantised",
    )


def _matches(found: str, globs: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(found, glob) for glob in globs)
