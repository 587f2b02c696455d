"""Each family of the OpenVINO builder, exported by the step's own program and executed.

Tiny models of random weights, made by transformers; the reference is transformers in fp32, alone
at 12, 300 and 3,000 tokens, in a padded batch, and token by token. Six families stand for the ways
in which families differ; the others are in `make test-all`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import openvino_weights
import pytest

from forge.accuracy.gate import AccuracySettings, gate
from forge.accuracy.weights import WeightsComparison
from forge.builders.tools.openvino_support import ARCHITECTURES, WRONG
from tests.support import checkpoints as made
from tests.support import receipts
from tests.support.ir_damage import DAMAGES, Engine
from tests.support.project_world import ROOT
from tests.support.serving import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),  # the first test installs 5 GB
]

SUPPORT = ROOT / "tests" / "support"
TOOLS = ROOT / "forge" / "builders" / "tools"
LIMITS = AccuracySettings.model_validate({"accuracy": receipts.PROFILE})
PRECISIONS = ("fp16", "int8", "int4", "bf16")
# Least correlation of the logits of a position. Weights of 8 bits are other weights: they are held
# against the checkpoint's one by one, and those of 4 bits and bf16 by that alone.
EQUAL = {"fp16": 0.9999, "int8": 0.99}
# Other weights choose other experts at some positions, and so may another order of adding.
ROUTED = ("gpt_oss", "mixtral", "phimoe", "qwen3_moe")
# Model of tiny_models.py → its family; first those that stand for a kind.
KINDS = {
    "gpt2": "gpt2",  # matrices transposed, learned positions, biases, tied embedding
    "phi3": "phi3",  # one matrix for q, k and v, one for gate and up
    "gpt_neox": "gpt_neox",  # q, k and v alternate by head; LayerNorm; partial rotation
    "gemma3": "gemma3_text",  # norms of 1 + w, windows, two rotary embeddings
    "mixtral-full": "mixtral",  # a matrix for each expert
    "gpt_oss-full": "gpt_oss",  # one tensor for all experts, biases of experts, sinks
}
OTHERS = {
    **{name: name for name in sorted(set(ARCHITECTURES) - set(KINDS.values()))},
    "llama-bias": "llama",
    "llama-tied": "llama",
    "llama3": "llama",
    "llama-linear": "llama",
    "llama-yarn": "llama",
    "mistral-window": "mistral",
    "qwen2-window": "qwen2",
    "stablelm-norms": "stablelm",
    "falcon-new": "falcon",
    "starcoder2-window": "starcoder2",
}
# Models whose every tensor has to be found.
DAMAGED = [name for name in KINDS if name != "gpt_oss-full"]
MODELS = [*KINDS, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)]


def run(name: str, script: Path, *words: object) -> str:
    """Run a script in a tool environment; return what it printed."""
    argv = [environment(name) / "bin" / "python", "-P", script, *words]
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkpoints(request: pytest.FixtureRequest, module_folder: Path) -> Path:
    """What the step `huggingface` passes on, of the models of the selected tests; references."""
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    names = sorted({call.params["model"] for call in calls if call and "model" in call.params})
    models, passed = module_folder / "models", module_folder / "huggingface"
    models.mkdir()
    run("transformers", SUPPORT / "tiny_models.py", models, *names)
    run("transformers", SUPPORT / "tiny_tokenizers.py", module_folder / "tokenizers")
    for name in names:
        for path in (module_folder / "tokenizers" / "smollm").iterdir():
            shutil.copyfile(path, models / name / path.name)
    pairs = module_folder / "pairs.json"
    pairs.write_text(json.dumps([[str(models / name), str(passed / name)] for name in names]))
    found = json.loads(run("transformers", SUPPORT / "conversions.py", "huggingface", pairs))
    assert {said for code, said in found.values() if code} == set()
    for name in names:
        shutil.copyfile(models / f"{name}.npz", passed / f"{name}.npz")
    return passed


@pytest.fixture(scope="module")
def measured(checkpoints: Path, module_folder: Path) -> dict[str, dict[str, Any]]:
    """Model → precision → what tests/support/openvino_families.py found."""
    names = sorted(path.stem for path in checkpoints.glob("*.npz"))
    output = module_folder / "engines"
    script = SUPPORT / "openvino_families.py"
    run("optimum", script, checkpoints, output, ",".join(PRECISIONS), *names)
    return {name: json.loads((output / f"{name}.json").read_text()) for name in names}


@pytest.mark.parametrize("model", MODELS)
def test_family_has_the_logits_of_transformers(
    measured: dict[str, dict[str, Any]], model: str
) -> None:
    for precision, least in EQUAL.items():
        found = measured[model][precision]
        assert found["code"] == 0, found["said"][-4000:]
        for section, rows in found["correlations"].items():
            near = sorted(rows)[len(rows) // 2 if model in ROUTED else 0]
            assert near > least, f"{precision}, {section}: {near}"


@pytest.mark.parametrize("model", MODELS)
def test_engine_has_the_weights_of_its_checkpoint(
    measured: dict[str, dict[str, Any]], model: str
) -> None:
    for precision in PRECISIONS:
        found = measured[model][precision]
        assert found["code"] == 0, found["said"][-4000:]
        weights = WeightsComparison.model_validate_json(json.dumps(found["weights"]))
        assert weights.problems == (), precision
        family = {**KINDS, **OTHERS}[model]
        known = openvino_weights.MEASURED.get(family, ())
        if family in openvino_weights.COMPLETE or precision in known:
            assert weights.compared == weights.tensors > 0, precision
        assert weights.worst.of_allowed is not None
        assert weights.worst.of_allowed <= 1, precision


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("model", DAMAGED)
def test_damage_of_one_tensor_is_refused(
    measured: dict[str, dict[str, Any]], checkpoints: Path, tmp_path: Path, model: str, damage: str
) -> None:
    assert measured[model]["int8"]["code"] == 0
    engine = tmp_path / "engine"
    shutil.copytree(checkpoints.parent / "engines" / model / "int8", engine)
    changed = Engine(engine)
    if damage == "bias" and not changed.biases():
        pytest.skip("the family has no biases")
    DAMAGES[damage](changed)
    changed.save()
    document = json.dumps(openvino_weights.compare(engine, checkpoints / model))
    compared = WeightsComparison.model_validate_json(document)
    assert compared.problem_count > 0
    receipt = receipts.receipt(precision="int8")
    assert gate(receipt, LIMITS).passed  # what the text shows is good
    assert not gate(receipt, LIMITS, compared).passed


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{kind: ({"model_type": kind}, f"{kind} models: {why}") for kind, why in WRONG.items()},
    "no such family": ({"model_type": "mamba"}, "it is a 'mamba' model; supported are arcee"),
    "alibi": ({"model_type": "falcon", "alibi": True}, "alibi is True: ALiBi is computed"),
    "dynamic": (
        {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        "rope_scaling of type 'dynamic'",
    ),
    "longrope": (
        {"model_type": "phi3", "rope_scaling": {"type": "longrope"}},
        "rope_scaling of type 'longrope'",
    ),
    "quantised": (
        {"model_type": "llama", "quantization_config": {"quant_method": "awq"}},
        "its weights are quantised already (awq)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_family_that_would_be_another_model_is_refused_by_name(tmp_path: Path, name: str) -> None:
    config, why = REFUSED[name]
    checkpoint = made.model(tmp_path / "checkpoint", config)
    settings = tmp_path / "settings.json"
    settings.write_text('{"engine": {"precision": "fp16"}}')
    argv: list[str | Path] = [environment("optimum") / "bin" / "python"]
    argv += [TOOLS / "openvino_export.py", "--checkpoint", checkpoint]
    argv += ["--settings", settings, "--output", tmp_path / "out"]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 3, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_every_family_of_the_builder_is_here() -> None:
    assert {*KINDS.values(), *OTHERS.values()} == set(ARCHITECTURES)
