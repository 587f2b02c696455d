"""Nothing is lost between a GGUF file or a Hugging Face folder and what the builders read.

Tiny random models of many families are converted by the real tools; the reference is transformers
in fp32 of the folder that they were made as, at 12, 300 and 3,000 tokens. What is not equal is
refused by name.
"""

import json
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.project_world import ROOT
from tests.support.serving import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),  # the first test installs 5 GB
]

SUPPORT = ROOT / "tests" / "support"
EQUAL = 0.9999
# Model → what its GGUF file says of its tokenizer.
GGUF = {
    "llama": "smollm",
    "llama-tied": "gpt-2",
    "llama-bias": "spm",
    "llama-head-size": "refact",
    "llama3": "llama-bpe",
    "llama-linear": "spm-no-prefix",
    "llama-yarn": "tekken",
    "qwen2": "qwen2",
    "qwen3": "gpt-4o",
    "granite": "refact",
    "smollm3": "smaug-bpe",
    "gemma2": "spm-no-prefix",
    "gemma3": "spm-no-prefix",
}
ONNX = (
    *("llama", "llama-tied", "llama-bias", "llama-head-size", "llama3", "llama-linear"),
    *("llama-yarn", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen3", "phi3"),
    *("granite", "stablelm", "stablelm-norms", "smollm3", "falcon", "gpt_oss-full", "gemma"),
    *("gemma2", "gemma3", "olmo2", "cohere"),
)
# fp16 and fp32 choose other experts at a few positions: near ties of a random router.
ROUTED = ("gpt_oss",)
REFUSED_ONNX = {
    "llama-dynamic": "rope_type = 'dynamic'",
    "phi3-longrope": "rope_type = 'longrope'",
    "falcon-new": "new_decoder_architecture = True",
    "mixtral": "'mixtral' models",
    "qwen3_moe": "'qwen3_moe' models",
    "phi": "'phi' models",
    "starcoder2": "'starcoder2' models",
}


def python(name: str, script: Path | str, *words: object, code: str = "") -> str:
    """Run a script in a tool environment; return what it printed."""
    argv = [environment(name) / "bin" / "python", "-P", *(["-c", code] if code else [script])]
    done = subprocess.run(
        [str(word) for word in (*argv, *words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        env={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def convert(kind: str, pairs: Sequence[tuple[Path, Path]], folder: Path) -> dict[str, Any]:
    """Run tests/support/conversions.py; results by the source's name."""
    path = folder / f"{kind}.json"
    path.write_text(json.dumps([[str(source), str(target)] for source, target in pairs]))
    name = "optimum" if kind.startswith("onnx") else "transformers"
    found = json.loads(python(name, SUPPORT / "conversions.py", kind, path))
    return {Path(source).name: result for source, result in found.items()}


@pytest.fixture(scope="module")
def folder(module_folder: Path) -> Path:
    return module_folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Path:
    """The models as Hugging Face folders, each with a tokenizer, and their logits."""
    made = folder / "models"
    made.mkdir()
    names = sorted({*GGUF, *ONNX, *ROUTED, *REFUSED_ONNX})
    python("transformers", SUPPORT / "tiny_models.py", made, *names)
    python("transformers", SUPPORT / "tiny_tokenizers.py", folder / "tokenizers")
    for name in names:
        for path in (folder / "tokenizers" / GGUF.get(name, "smollm")).iterdir():
            shutil.copyfile(path, made / name / path.name)
    return made


@pytest.fixture(scope="module")
def from_gguf(folder: Path, models: Path) -> Path:
    """What the tool made of GGUF files, by model."""
    pairs = []
    for name, kind in GGUF.items():
        source = folder / "gguf" / name
        source.mkdir(parents=True)
        write_gguf(models / name, folder / "tokenizers" / kind, kind, source / "model.gguf")
        pairs.append((source, folder / "from-gguf" / name))
    results = convert("huggingface", pairs, folder)
    assert {name: code for name, (code, _) in results.items()} == dict.fromkeys(GGUF, 0), results
    return folder / "from-gguf"


@pytest.fixture(scope="module")
def passed_on(folder: Path, models: Path) -> Path:
    """What the tool made of Hugging Face folders, by model."""
    pairs = [(path, folder / "passed-on" / path.name) for path in sorted(models.iterdir())
             if path.is_dir()]  # fmt: skip
    results = convert("huggingface", pairs, folder)
    assert {code for code, _ in results.values()} == {0}, results
    return folder / "passed-on"


@pytest.fixture(scope="module")
def exported(folder: Path, passed_on: Path) -> dict[str, tuple[int, str]]:
    """Exit code and words of the ONNX export, by model."""
    pairs = [(path, folder / "onnx" / path.name) for path in sorted(passed_on.iterdir())]
    return convert("onnx", pairs, folder)


def write_gguf(model: Path, tokenizer: Path, kind: str, output: Path, *more: object) -> None:
    python("transformers", SUPPORT / "tiny_gguf.py", model, tokenizer, kind, output, *more)


def worst(found: dict[str, Any]) -> dict[str, float]:
    return {name: min(min(rows) for rows in lengths.values()) for name, lengths in found.items()}


def test_gguf_file_has_the_logits_of_its_model(folder: Path, models: Path, from_gguf: Path) -> None:
    pairs = [(from_gguf / name, models / f"{name}.npz") for name in GGUF]
    found = worst(convert("logits", pairs, folder))
    assert {name: value for name, value in found.items() if value < EQUAL} == {}
    assert set(found) == set(GGUF)


def test_gguf_file_has_the_tokens_of_its_model(folder: Path, from_gguf: Path) -> None:
    found = convert("tokens", [(from_gguf / name, from_gguf) for name in GGUF], folder)
    for name, kind in GGUF.items():
        expected = json.loads((folder / "tokenizers" / f"{kind}.json").read_text())
        assert found[name] == expected, f"{name}: {kind}"


def test_onnx_graph_has_the_logits_of_its_model(
    folder: Path, models: Path, exported: dict[str, tuple[int, str]]
) -> None:
    assert {name: exported[name] for name in (*ONNX, *ROUTED) if exported[name][0]} == {}
    pairs = [(folder / "onnx" / name, models / f"{name}.npz") for name in (*ONNX, *ROUTED)]
    found = convert("onnx-logits", pairs, folder)
    plain = worst({name: found[name] for name in ONNX})
    assert {name: value for name, value in plain.items() if value < EQUAL} == {}
    for name in ROUTED:
        for rows in found[name].values():
            assert sorted(rows)[len(rows) // 2] > EQUAL


def test_model_whose_graph_would_differ_is_refused_by_name(
    exported: dict[str, tuple[int, str]],
) -> None:
    for name, words in REFUSED_ONNX.items():
        code, said = exported[name]
        assert (code, words in said) == (3, True), f"{name}: {said}"


def test_split_and_quantised_files_are_read_as_one_model(folder: Path, models: Path) -> None:
    tokenizer = folder / "tokenizers" / "llama-bpe"
    cases = {"split": ("f16", 3), "bf16": ("bf16",), "q8": ("q8_0",)}
    pairs = []
    for name, more in cases.items():
        source = folder / "kinds" / name
        source.mkdir(parents=True)
        write_gguf(models / "llama3", tokenizer, "llama-bpe", source / "m.gguf", *more)
        pairs.append((source, folder / "from-kinds" / name))
    assert len(list((folder / "kinds" / "split").iterdir())) == 3
    results = convert("huggingface", pairs, folder)
    assert {name: code for name, (code, _) in results.items()} == dict.fromkeys(cases, 0), results
    targets = [(target, models / "llama3.npz") for _, target in pairs]
    found = worst(convert("logits", targets, folder))
    assert found["split"] > 0.999999
    assert found["q8"] > 0.99
    dtypes = {name: json.loads((folder / "from-kinds" / name / "config.json").read_text())["dtype"]
              for name in cases}  # fmt: skip
    assert dtypes == {"split": "float16", "bf16": "bfloat16", "q8": "float16"}


DAMAGES = """
    import json, shutil, sys
    from pathlib import Path
    import torch
    from safetensors.torch import load_file, save_file
    models, output = Path(sys.argv[1]), Path(sys.argv[2])

    def damaged(name, model, change, config=None):
        folder = output / name
        shutil.copytree(models / model, folder)
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file({k: v.contiguous() for k, v in weights.items()},
                  folder / "model.safetensors", metadata={"format": "pt"})
        if config:
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}))

    attention, norm = "model.layers.1.self_attn.", "model.norm.weight"

    def missing(weights):
        for name in [name for name in weights if attention in name]:
            del weights[name]

    def expert(weights):
        del weights[next(name for name in weights if "experts.1.w1" in name)]

    def put(name, values):
        return lambda weights: weights.update({name: values})

    ones = torch.ones(64, dtype=torch.bfloat16)
    damaged("missing", "llama", missing)
    damaged("surplus", "llama", put(attention + "q_proj.bias", ones))
    damaged("shape", "llama", put(norm, torch.ones(65)))
    damaged("expert", "mixtral", expert)
    damaged("nan", "llama", put(norm, ones * float("nan")))
    damaged("big", "llama", put(norm, ones * 1e5))
    damaged("int8", "llama", put(norm, ones.to(torch.int8)))
    damaged("layers", "llama", dict, {"num_hidden_layers": 5})
    damaged("buffers", "llama", put("model.layers.0.self_attn.rotary_emb.inv_freq", ones[:8]))
    damaged("vocabulary", "llama", dict, {"vocab_size": "many"})
    damaged("unknown", "llama", dict, {"model_type": "no_such_model"})
"""
EXPECTED = {
    "missing": (3, "missing: model.layers.1.self_attn.k_proj.weight, model.layers.1.self_attn."),
    "surplus": (3, "surplus: model.layers.1.self_attn.q_proj.bias"),
    "shape": (3, "model.norm.weight has the shape [65], not [64]"),
    "expert": (3, "experts.1.w1.weight"),
    "nan": (3, "model.norm.weight has NaN"),
    "big": (0, ""),  # bf16 holds it; the export to fp16 does not
    "int8": (3, "model.norm.weight has the type I8"),
    "layers": (3, "missing: model.layers.4."),
    "buffers": (0, ""),
    "vocabulary": (3, "Error: "),
    "unknown": (3, "'no_such_model'"),
}


def test_damaged_folders_are_refused_by_name_and_without_a_traceback(
    folder: Path, models: Path
) -> None:
    code = textwrap.dedent(DAMAGES)
    python("transformers", "", models, folder / "damaged", code=code)
    pairs = [(folder / "damaged" / name, folder / "from-damaged" / name) for name in EXPECTED]
    results = convert("huggingface", pairs, folder)
    for name, (expected, words) in EXPECTED.items():
        found, said = results[name]
        assert (found, words in said) == (expected, True), f"{name}: {said}"
        assert "Traceback" not in said, name
    exported = convert("onnx", [(folder / "from-damaged" / "big", folder / "onnx-big")], folder)
    assert exported["big"][0] == 3
    assert "model.norm.weight has the value 99840, which fp16 has not" in exported["big"][1]
