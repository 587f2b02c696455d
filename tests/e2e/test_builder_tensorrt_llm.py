"""Checkpoints quantised by ModelOpt on a CPU, and their receipts: what the LLM API would load.

Tiny models of random weights are as sensitive to rounding as small trained ones, but less sure, so
that shares of equal top tokens say little of them: the mean divergence is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forge.accuracy import gate
from forge.accuracy.receipt import Receipt
from forge.builders.tensorrt_llm import ARCHITECTURES
from forge.profiles import AccuracySection
from tests.support.builder_plans import ROOT, profile
from tests.support.serving import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),  # the first test installs 5 GB
]

TOOLS = ROOT / "forge" / "builders" / "tools"
SUPPORT = ROOT / "tests" / "support"
CALIBRATION = ROOT / "forge" / "builders" / "data" / "calibration.jsonl"
TEXT = ROOT / "forge" / "accuracy" / "data" / "text.json"
PRECISIONS = ("fp8", "nvfp4", "int4")
# Minutes each; those whose layers are fused and those whose layers are not stand for the others.
FAMILIES = [
    family if family in {"llama", "phi3"} else pytest.param(family, marks=pytest.mark.exhaustive)
    for family in ARCHITECTURES
]


def python(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python without our packages and a network, and with no GPU."""
    program = environment("transformers") / "bin" / "python"
    variables = {"PYTHONPATH": str(TOOLS), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(program), "-P", *map(str, argv)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )


class Families:
    """By family: a folder with its checkpoint, reference, quantised checkpoints and receipts."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.factory = factory
        self.made: dict[str, Path] = {}

    def __getitem__(self, family: str) -> Path:
        if family not in self.made:
            folder = self.factory.mktemp(family)
            work = SUPPORT / "modelopt_work.py"
            done = python(work, family, folder, CALIBRATION, TEXT, *PRECISIONS)
            assert done.returncode == 0, done.stderr[-3000:]
            self.made[family] = folder
        return self.made[family]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Families:
    return Families(tmp_path_factory)


def receipt(folder: Path) -> Receipt:
    return Receipt.model_validate_json((folder / "receipt.json").read_text())


def judged(found: Receipt) -> gate.AccuracyReport:
    """The gate's report with its own limits for divergence."""
    section = profile("rtx-pro-4000").accuracy.model_dump()
    section |= {"same_top": 0.5, "perplexity_ratio": 1.3}
    return gate.gate(found, gate.AccuracySettings(accuracy=AccuracySection(**section)))


def divergence(reference: Any, found: Any) -> float:
    """Mean Kullback-Leibler divergence of logits, nats."""
    first, second = (one.astype(np.float64) for one in (reference, found))
    first, second = (one - np.logaddexp.reduce(one, -1, keepdims=True) for one in (first, second))
    return float((np.exp(first) * (first - second)).sum(-1).mean())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_tensors_compute_what_modelopts_own_model_computes(
    folders: Families, family: str, precision: str
) -> None:
    logits = np.load(folders[family] / f"{precision}.npz")
    ours, theirs = logits["ours"], logits["modelopts"]
    least = {"fp8": 0.999, "nvfp4": 0.99, "int4": 0.99}[precision]
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > least
    assert divergence(theirs, ours) < {"fp8": 0.002, "nvfp4": 0.03, "int4": 0.015}[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_checkpoint_passes_the_gate(
    folders: Families, family: str, precision: str
) -> None:
    found = receipt(folders[family] / f"receipt-{precision}")
    assert found.precision == precision
    assert {"short", "batch", "long", "decode"} == set(found.sections)
    report = judged(found)
    assert report.passed, [check for check in report.checks if not check.passed]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_checkpoint_keeps_all_fields_and_files_of_its_original(
    folders: Families, family: str, precision: str
) -> None:
    original, made = folders[family] / "checkpoint", folders[family] / precision
    before, after = (json.loads((one / "config.json").read_text()) for one in (original, made))
    assert after.pop("quantization_config")["quant_method"] == "modelopt"
    assert after == before
    for path in original.iterdir():
        if path.suffix == ".json" and path.name != "config.json":
            assert (made / path.name).read_bytes() == path.read_bytes()
    claimed = json.loads((made / "hf_quant_config.json").read_text())["quantization"]
    assert claimed["exclude_modules"][0] == "lm_head"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_damaged_checkpoint_is_refused_by_its_receipt(
    folders: Families, tmp_path: Path, precision: str
) -> None:
    folder = folders["llama"]
    work = (SUPPORT / "modelopt_damage.py", folder / precision, folder / "reference")
    done = python(*work, folder / "settings.json", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    damages = sorted(path.name for path in tmp_path.iterdir())
    assert len(damages) >= 6
    passed = [
        name
        for name in damages
        if not (tmp_path / name / "refused").is_file() and judged(receipt(tmp_path / name)).passed
    ]
    assert passed == []


def test_value_that_fp16_cannot_hold_is_refused_by_its_tensor(
    folders: Families, tmp_path: Path
) -> None:
    script = """
import sys, shutil, torch
from safetensors.torch import load_file, save_file
shutil.copytree(sys.argv[1], sys.argv[2])
tensors = load_file(sys.argv[2] + "/model.safetensors")
tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e5
save_file(tensors, sys.argv[2] + "/model.safetensors", metadata={"format": "pt"})
"""
    large = tmp_path / "large"
    assert python("-c", script, folders["mistral"] / "checkpoint", large).returncode == 0
    tool = (TOOLS / "tensorrt_llm_cast.py", "--checkpoint", large, "--precision")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    done = python(*tool, "fp16", "--output", tmp_path / "a")
    assert done.returncode == 3
    assert "model.layers.1.mlp.up_proj.weight" in done.stderr
    assert "set engine.precision to bf16" in done.stderr
    assert python(*tool, "bf16", "--output", tmp_path / "b").returncode == 0
    linked = tmp_path / "b" / "model.safetensors"
    assert linked.stat().st_ino == (large / "model.safetensors").stat().st_ino


@pytest.mark.parametrize(
    ("damage", "message"),
    [('tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")', "not finite"),
     ('del tensors["model.layers.1.mlp.up_proj.weight"]', "model.layers.1.mlp.up_proj.weight"),
     ('tensors["model.layers.1.extra.weight"] = torch.ones(2, 2)', "model.layers.1.extra")],
)  # fmt: skip
def test_checkpoint_that_is_not_whole_is_not_quantised(
    folders: Families, tmp_path: Path, damage: str, message: str
) -> None:
    script = f"""
import sys, shutil, torch
from safetensors.torch import load_file, save_file
shutil.copytree(sys.argv[1], sys.argv[2])
tensors = load_file(sys.argv[2] + "/model.safetensors")
{damage}
save_file(tensors, sys.argv[2] + "/model.safetensors", metadata={{"format": "pt"}})
"""
    broken = tmp_path / "broken"
    assert python("-c", script, folders["llama"] / "checkpoint", broken).returncode == 0
    argv = ("--checkpoint", broken, "--output", tmp_path / "out", "--precision", "fp8")
    done = python(TOOLS / "modelopt_quantise.py", *argv, "--calibration", CALIBRATION)
    assert done.returncode == 3
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("precision", PRECISIONS)
def test_checkpoint_is_the_same_bytes_when_it_is_quantised_again(
    folders: Families, tmp_path: Path, precision: str
) -> None:
    argv = ("--checkpoint", folders["llama"] / "checkpoint", "--output", tmp_path / "out")
    tool = (TOOLS / "modelopt_quantise.py", *argv, "--precision", precision)
    done = python(*tool, "--calibration", CALIBRATION)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("model.safetensors", "config.json", "hf_quant_config.json"):
        first = folders["llama"] / precision / name
        assert (tmp_path / "out" / name).read_bytes() == first.read_bytes()
