"""Input for each tool of forge/builders/tools that passes the checks of its headers.

The weights are not numbers, so that a tool which reads them before it looks at the machine fails in
another way than by a refusal for lack of memory or disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import embedding_format
import numpy as np
import reference_format
from safetensors_file import Planned, write

from tests.support.gguf import Row, gguf_file
from tests.support.gguf_headers import header
from tests.support.zero_tensors import write_checkpoint

__all__ = ["ARGUMENTS"]

TOOLS = Path(__file__).parents[2] / "forge" / "builders" / "tools"
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 128,
    "intermediate_size": 128,
    "max_position_embeddings": 4096,
    "num_attention_heads": 2,
    "num_hidden_layers": 0,
    "rope_parameters": {"rope_theta": 1.0, "rope_type": "default"},
    "rope_theta": 1.0,
    "tie_word_embeddings": False,
    "vocab_size": 8,
}
KINDS = {"F32": 0, "Q8_0": 8}  # of GGUF
ENGINE = {"precision": "fp16", "max_batch_size": 2, "max_input_len": 64, "max_seq_len": 128}


def _json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _checkpoint(folder: Path) -> Path:
    """A Hugging Face folder whose weights are NaN."""
    _json(folder / "config.json", CONFIG)
    (folder / "tokenizer.json").write_text("{}")
    names = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    nan = np.full(4, np.nan, np.float32).tobytes()
    write(folder, [Planned(name, "F32", (2, 2)) for name in names], [nan] * 3)
    return folder


def _onnx(folder: Path) -> Path:
    for name in ("model.onnx", "model.onnx_data", "config.json", "tokenizer.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not a graph")
    return folder


def _reference(folder: Path) -> Path:
    folder.mkdir()
    logits = np.zeros((3, 80))
    tokens = [1, 2, 3, 4]
    expected = reference_format.expect(logits, np.array(tokens[1:]))
    passages = tuple(
        reference_format.Passage(kind, tokens, 0, expected) for kind in reference_format.KINDS
    )
    facts = {"vocabulary": 80, "precision": "float32", "architecture": "llama", "text": {}}
    made = reference_format.Reference(facts, passages)
    reference_format.write(folder / reference_format.NAME, made)
    return folder


def _text(folder: Path) -> Path:
    return _json(folder / "text.json", {"passages": ["a"]})


def _settings(folder: Path, **more: object) -> str:
    settings = {"precision": "fp16", "engine": ENGINE, "hardware": {"compute_capability": "12.0"}}
    return str(_json(folder / "settings.json", settings | more))


def _embedding(folder: Path) -> Path:
    kind = "sentence_transformers.models"
    modules = [{"idx": 0, "path": "", "type": f"{kind}.Transformer"}]
    modules.append({"idx": 1, "path": "1_Pooling", "type": f"{kind}.Pooling"})
    config = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 5}
    config |= {"num_hidden_layers": 1, "max_position_embeddings": 16, "layer_norm_eps": 1e-12}
    _json(folder / "modules.json", modules)
    _json(folder / "config.json", config)
    _json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    _json(folder / "tokenizer.json", {"post_processor": {"type": "BertProcessing"}})
    (folder / "model.safetensors").write_bytes(b"not a header")
    return folder


def _embeddings(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    embedding_format.write(path, embedding_format.Embeddings(["a"], [[1.0]], {}))
    return path


def _command(folder: Path) -> list[str]:
    """A tool of others that must not be started."""
    return ["--", "touch", str(folder / "started")]


def _receipt(engine: Path, folder: Path, *more: str) -> list[str]:
    reference = str(_reference(folder / "reference"))
    return ["--engine", str(engine), "--reference", reference, "--settings", _settings(folder),
            *more]  # fmt: skip


def _given(checkpoint: Path, *more: str) -> list[str]:
    return ["--checkpoint", str(checkpoint), *more]


def _edge_llm_engine(folder: Path) -> list[str]:
    (folder / "export" / "llm").mkdir(parents=True)
    (folder / "export" / "llm" / "model.onnx.data").write_bytes(b"1")
    record = _json(folder / "record" / "export.json", {}).parent
    settings = _settings(folder, compiler=["llm_build"])
    return ["--export", str(folder / "export"), "--record", str(record), "--settings", settings]


def _edge_llm_export(folder: Path) -> list[str]:
    more = ["--export", str(folder / "output"), "--record", str(folder / "record")]
    more += ["--quantisation", "fp16", "--sm", "110", "--architectures", "llama"]
    return _given(_checkpoint(folder / "in"), *more, *_command(folder))


def _edge_llm_quantise(folder: Path) -> list[str]:
    more = ["--quantisation", "fp8", "--calibration", str(_text(folder))]
    more += ["--architectures", "llama"]
    return _given(_checkpoint(folder / "in"), *more)


def _embedding_check(folder: Path) -> list[str]:
    (folder / "engine").mkdir()
    reference = _embeddings(folder / "reference" / "reference.json").parent
    code = ["--encoder", str(folder / "none.py"), "--words", str(folder / "none.py")]
    return ["--engine", str(folder / "engine"), "--reference", str(reference), *code,
            "--probe", str(folder / "probe")]  # fmt: skip


def _modelopt(folder: Path) -> list[str]:
    more = ["--precision", "fp8", "--calibration", str(_text(folder))]
    return _given(_checkpoint(folder / "in"), *more)


def _openvino_compile(folder: Path) -> list[str]:
    (folder / "in").mkdir()
    made = header()
    rows = [Row(one.name, one.shape, KINDS[one.kind]) for one in made.tensors]
    (folder / "in" / "model.gguf").write_bytes(gguf_file(made.values, rows))
    return _given(folder / "in", "--settings", _settings(folder, engine={"precision": "as-is"}))


def _tensorrt_llm_convert(folder: Path) -> list[str]:
    more = ["--architectures", "llama", "--algorithm", "none"]
    more += ["--calibration", str(_text(folder)), "--dataset", str(folder / "dataset")]
    return _given(_checkpoint(folder / "in"), *more)


def _tensorrt_llm_engine(folder: Path) -> list[str]:
    made = write_checkpoint(folder / "in", {"a.weight": ("F16", [4, 8])}, None)
    return _given(made, "--tokenizer", str(made), "--settings", _settings(folder))


ARGUMENTS: Mapping[str, Callable[[Path], list[str]]] = {
    "edge_llm_engine": _edge_llm_engine,
    "edge_llm_export": _edge_llm_export,
    "edge_llm_quantise": _edge_llm_quantise,
    "edge_llm_receipt": lambda folder: _receipt(_onnx(folder / "in"), folder),
    "embedding_check": _embedding_check,
    "embedding_reference": lambda folder: _given(
        _embedding(folder / "in"), "--text", str(_text(folder))
    ),
    "embedding_stored": lambda folder: ["--stored", str(_embeddings(folder / "in"))],
    "modelopt_quantise": _modelopt,
    "onnx_receipt": lambda folder: _receipt(_onnx(folder / "in"), folder),
    "onnx_runtime_engine": lambda folder: _given(
        _onnx(folder / "in"), "--settings", _settings(folder, runtime={})
    ),
    "openvino_compile": _openvino_compile,
    "openvino_embedding": lambda folder: _given(_embedding(folder / "in")),
    "openvino_export": lambda folder: _given(
        _checkpoint(folder / "in"), "--settings", _settings(folder)
    ),
    "openvino_receipt": lambda folder: _receipt(
        _onnx(folder / "in"), folder, "--checkpoint", str(folder / "in")
    ),
    "reference": lambda folder: _given(_checkpoint(folder / "in"), "--text", str(_text(folder))),
    "reference_copy": lambda folder: [str(_text(folder))],
    "tensorrt_llm_cast": lambda folder: _given(_checkpoint(folder / "in"), "--precision", "bf16"),
    "tensorrt_llm_convert": _tensorrt_llm_convert,
    "tensorrt_llm_engine": _tensorrt_llm_engine,
    "tensorrt_rtx_compile": lambda folder: _given(
        _onnx(folder / "in"), "--settings", _settings(folder)
    ),
    "text_check": lambda folder: _given(_checkpoint(folder / "in"), "--text", "none.py"),
    "text_engine_check": lambda folder: [
        *("--engine", str(folder), "--expected", str(folder), "--text", "none.py")
    ],
    "text_stored": lambda folder: ["--stored", str(_text(folder))],
    "to_huggingface": lambda folder: _given(_checkpoint(folder / "in")),
    "to_onnx": lambda folder: _given(_checkpoint(folder / "in"), "--settings", _settings(folder)),
    "torch_receipt": lambda folder: _receipt(_checkpoint(folder / "in"), folder),
}
"""Arguments of each tool by name, without its output; the function makes the files."""
