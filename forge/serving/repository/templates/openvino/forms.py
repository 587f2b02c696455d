# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""The form of an answer, as OpenVINO GenAI takes it: XGrammar compiles it there.

A JSON schema is given as the grammar that json_grammar.py makes of it, not to XGrammar's own
converter, which allows white space without end and ignores keywords. A form that XGrammar cannot
compile raises inside of the pipeline's step, which then serves no request any more (openvino-genai
2026.4.1). So each form is compiled in a pipeline of its own first: a graph without weights, whose
logits are zeros, with the engine's tokenizer. It takes 0.3 s to make, and a form some milliseconds
to a second.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai as genai
from json_grammar import any_object, grammar_of
from repetitions import check_repetitions
from turns import RequestError

MAX_BYTES = 64 * 1024  # of a form's JSON
MAX_DEPTH = 32
MAX_KNOWN = 64  # forms that are known to compile
SOURCE = re.compile(r"^\[[\d:]+\] \S+:\d+: (?:Check failed: \(.*?\) is false: )?")


class Forms:
    """Checks forms and gives each as a request's configuration.

    Args:
        engine: the engine's folder, for its tokenizer.
        tokenizer: the pipeline's; its vocabulary is read with the first form only.
    """

    def __init__(self, engine: Path, tokenizer: Any) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.pipeline: Any = None
        self.known: dict[str, dict[str, str]] = {}
        self.lock = threading.Lock()

    def check(self, form: dict[str, Any] | None) -> None:
        """Raise RequestError for a form that cannot be compiled, with the reason."""
        if form is not None:
            self._compiled(form)

    def configuration(self, form: dict[str, Any]) -> Any:
        """Return the configuration of a request. Raises RequestError as `check`."""
        return genai.StructuredOutputConfig(**self._compiled(form))

    def _compiled(self, form: dict[str, Any]) -> dict[str, str]:
        """Return a form as XGrammar takes it; the latest ones are kept."""
        text = json.dumps(form)
        known = self.known.get(text)
        if known is None:
            with self.lock:
                limit(form, text)
                known = translated(form)
                self._compile(known)
                self.known[text] = known
                if len(self.known) > MAX_KNOWN:
                    self.known.pop(next(iter(self.known)))
        return known

    def _compile(self, known: dict[str, str]) -> None:
        if self.pipeline is None:
            self.pipeline = probe(self.engine, len(self.tokenizer.get_vocab()))
        config = genai.GenerationConfig()
        config.max_new_tokens = 1
        config.structured_output_config = genai.StructuredOutputConfig(**known)
        try:
            self.pipeline.generate(tensor([1]), config)
        except RuntimeError as error:
            reason = SOURCE.sub("", str(error).strip()).splitlines()
            message = f"structured_outputs cannot be compiled: {reason[0][:300] if reason else ''}"
            raise RequestError(message) from None


def translated(form: dict[str, Any]) -> dict[str, str]:
    """Return a form as the fields of StructuredOutputConfig. Raises RequestError."""
    ((kind, value),) = form.items()
    if kind == "json":
        return {"grammar": grammar_of(value)}
    if kind == "json_object":
        return {"grammar": any_object()}
    if kind == "regex":
        return {"regex": value}
    if kind == "choice":
        # Without escapes: XGrammar reads an escaped surrogate pair as two characters.
        texts = " | ".join(json.dumps(one, ensure_ascii=False) for one in value)
        return {"grammar": f"root ::= {texts}"}
    return {"grammar": value}


def limit(form: dict[str, Any], text: str) -> None:
    """Raise RequestError for a form whose compilation could take long."""
    if len(text) > MAX_BYTES:
        raise RequestError(f"structured_outputs is longer than {MAX_BYTES} bytes")
    waiting: list[tuple[Any, int]] = [(form, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise RequestError(f"structured_outputs is nested deeper than {MAX_DEPTH}")
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list | tuple):
            waiting += [(one, depth + 1) for one in value]
    for kind in ("regex", "grammar"):
        if kind in form:
            check_repetitions(kind, form[kind])


def probe(engine: Path, vocabulary: int) -> Any:
    """Return a pipeline with the engine's tokenizer and a graph whose logits are zeros."""
    import openvino
    from openvino import opset13 as op

    ids = parameter("input_ids", np.int64, 2)
    others = [parameter(name, np.int64, 2) for name in ("attention_mask", "position_ids")]
    beam = parameter("beam_idx", np.int32, 1)
    size = op.constant(np.array([vocabulary], np.int64))
    shape = op.concat([op.shape_of(ids, output_type="i64"), size], 0)
    result = op.result(op.broadcast(op.constant(np.float32(0)), shape))
    result.output(0).get_tensor().set_names({"logits"})
    model = openvino.Model([result], [ids, *others, beam], "probe")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        openvino.save_model(model, folder / "openvino_model.xml")
        for name in ("openvino_*tokenizer.*", "generation_config.json"):
            for path in engine.glob(name):
                (folder / path.name).symlink_to(path.resolve())
        return genai.LLMPipeline(str(folder), "CPU", ATTENTION_BACKEND="SDPA")


def parameter(name: str, kind: Any, rank: int) -> Any:
    """Return an input of a graph."""
    from openvino import opset13 as op

    made = op.parameter([-1] * rank, kind, name=name)
    made.output(0).get_tensor().set_names({name})
    return made


def tensor(tokens: list[int]) -> Any:
    """Return token ids as a pipeline takes a prompt, [1, n]."""
    import openvino

    return openvino.Tensor(np.array([tokens], np.int64))
