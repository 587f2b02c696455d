"""The receipt of OpenVINO IR on processors that compute otherwise, with a stand-in for OpenVINO.

The stand-in raises what the bindings make of C++ exceptions; tests/e2e/test_accuracy.py measures
with the real one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino_receipt
import pytest
import receipt


class Type:
    """As openvino.Type prints itself."""

    def to_string(self) -> str:
        return "bf16"


class Request:
    def __init__(self, logits: np.ndarray | Exception) -> None:
        self.logits = logits

    def reset_state(self) -> None:
        pass

    def infer(self, _given: dict[str, Any]) -> dict[str, np.ndarray]:
        if isinstance(self.logits, Exception):
            raise self.logits
        return {"logits": self.logits}


def port(name: str) -> SimpleNamespace:
    return SimpleNamespace(get_names=lambda: {name})


class Compiled:
    def __init__(self, logits: np.ndarray | Exception, output: str, hint: Any) -> None:
        self.inputs, self.outputs = [port("input_ids")], [port(output)]
        self.logits, self.hint = logits, hint

    def create_infer_request(self) -> Request:
        return Request(self.logits)

    def get_property(self, name: str) -> Any:
        assert name == "INFERENCE_PRECISION_HINT"
        if isinstance(self.hint, Exception):
            raise self.hint
        return self.hint


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    (tmp_path / "openvino_model.xml").write_text("<net/>")
    (tmp_path / "engine.json").write_text(json.dumps({"precision": {"found": "u8"}}))
    return tmp_path


def install(patch: pytest.MonkeyPatch, compiled: Compiled | Exception) -> None:
    def compile_model(_model: object, _device: str) -> Compiled:
        if isinstance(compiled, Exception):
            raise compiled
        return compiled

    core = SimpleNamespace(compile_model=compile_model, read_model=lambda _path: None)
    patch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    patch.setattr(openvino_receipt.metadata, "version", lambda _package: "2026.4.1")


def scorer(
    patch: pytest.MonkeyPatch,
    engine: Path,
    logits: np.ndarray | Exception | None = None,
    output: str = "logits",
    hint: Any = None,
) -> openvino_receipt.Scorer:
    found = np.zeros((1, 3, 8), np.float32) if logits is None else logits
    install(patch, Compiled(found, output, hint or Type()))
    return openvino_receipt.Scorer(engine)


ERRORS = [
    IndexError("_Map_base::at"),
    IndexError(),
    ValueError("bad combination"),
    RuntimeError("no kernel"),
    OverflowError("too large"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_engine_that_does_not_load_on_this_processor_is_refused_with_the_limit(
    monkeypatch: pytest.MonkeyPatch, engine: Path, error: Exception
) -> None:
    install(monkeypatch, error)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    with pytest.raises(receipt.EngineError) as caught:
        openvino_receipt.Scorer(engine)
    text = str(caught.value)
    assert text.startswith("OpenVINO cannot load the engine on this processor: ")
    assert (str(error) or "IndexError()") in text
    assert "ONEDNN_MAX_CPU_ISA is AVX512_CORE: unset it" in text


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_engine_that_fails_while_it_is_executed_is_refused(
    monkeypatch: pytest.MonkeyPatch, engine: Path, error: Exception
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    with pytest.raises(receipt.EngineError) as caught:
        scorer(monkeypatch, engine, error).score([[1, 2, 3]])
    assert str(caught.value).startswith("OpenVINO cannot execute the engine on this processor: ")
    assert "ONEDNN_MAX_CPU_ISA" not in str(caught.value)


def test_refusal_of_a_processor_ends_the_tool_with_3_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(
        json.dumps({"engine": {"max_batch_size": 1, "max_seq_len": 64}})
    )
    monkeypatch.setattr(
        receipt,
        "read",
        lambda _path: SimpleNamespace(facts={"vocabulary": 8}, of_kind=lambda _kind: []),
    )

    def load(_engine: Path) -> Any:
        with openvino_receipt.refused("load the engine"):
            raise IndexError("_Map_base::at")

    argv = ["--engine", str(tmp_path), "--reference", str(tmp_path)]
    argv += ["--settings", str(tmp_path / "settings.json"), "--output", str(tmp_path / "out")]
    assert receipt.main(load, lambda _engine: openvino_receipt.ROOM, argv) == 3
    assert "_Map_base::at" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_receipt_says_in_which_arithmetic_the_processor_computed(
    monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    found = scorer(monkeypatch, engine).executed
    assert found == "OpenVINO IR, openvino 2026.4.1, CPU, bf16"


@pytest.mark.parametrize(
    ("hint", "shown"), [("float8", "float8"), (RuntimeError("unsupported"), "unknown arithmetic")]
)
def test_arithmetic_that_nobody_has_heard_of_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, engine: Path, hint: Any, shown: str
) -> None:
    assert scorer(monkeypatch, engine, hint=hint).executed.endswith(f", CPU, {shown}")


def test_engine_without_logits_is_refused(monkeypatch: pytest.MonkeyPatch, engine: Path) -> None:
    with pytest.raises(receipt.EngineError, match="no output 'logits'"):
        scorer(monkeypatch, engine, output="hidden")


@pytest.mark.parametrize("shape", [(3, 8), (1, 1, 8), (1, 0, 8), (2, 3, 8)])
def test_logits_of_another_shape_are_refused(
    monkeypatch: pytest.MonkeyPatch, engine: Path, shape: tuple[int, ...]
) -> None:
    wrong = scorer(monkeypatch, engine, np.zeros(shape, np.float32))
    with pytest.raises(receipt.EngineError, match="shape"):
        wrong.decode([1, 2, 3], [4])


def test_logits_of_each_row_are_returned_without_its_padding(
    monkeypatch: pytest.MonkeyPatch, engine: Path
) -> None:
    logits = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    rows = scorer(monkeypatch, engine, logits).score([[1, 2, 3], [4]])
    assert rows[0].tolist() == logits[0].tolist()
    assert rows[1].tolist() == logits[1, :1].tolist()
