"""Receipts of a real model: a right engine passes, every damage is refused.

The damages are zeros, noise, flipped bits and shifted bytes in the weights, from a sixteenth to a
thousandth of them, at several places; the golden prompt sees few of them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import reference_format as form

from forge.accuracy.gate import AccuracySettings, gate
from forge.accuracy.receipt import Receipt
from forge.accuracy.weights import WeightsComparison
from forge.errors import SmokeGateError
from forge.serving.repository.render import Runtime, render
from forge.serving.triton.accuracy_probe import check_accuracy, read_probe
from tests.support import serving
from tests.support.project_world import copy_project
from tests.support.receipts import PROFILE

pytestmark = [pytest.mark.slow, pytest.mark.network]

TOOLS = serving.ROOT / "forge" / "builders" / "tools"
KNOWN = serving.ROOT / "references" / f"{serving.GGUF_SHA256}.npz"
LIMITS = AccuracySettings.model_validate({"accuracy": PROFILE})
MODEL = "openvino_model.bin"


def measure(engine: Path, folder: Path, batch: int = 2) -> Path:
    """The receipt of an engine, as the step makes it; its folder."""
    reference = folder / "reference"
    reference.mkdir(parents=True)
    shutil.copyfile(KNOWN, reference / form.NAME)
    settings = {"engine": {"max_batch_size": batch, "max_seq_len": 2048}}
    (folder / "settings.json").write_text(json.dumps(settings))
    python = serving.environment("openvino") / "bin" / "python"
    argv = [python, TOOLS / "openvino_receipt.py", "--engine", engine, "--reference", reference]
    argv += ["--settings", folder / "settings.json", "--output", folder / "receipt"]
    argv += ["--checkpoint", serving.checkpoint()]
    subprocess.run([str(word) for word in argv], check=True, timeout=300)
    return folder / "receipt"


def read(folder: Path) -> Receipt:
    return Receipt.model_validate_json((folder / "receipt.json").read_bytes())


def weights(folder: Path) -> WeightsComparison:
    return WeightsComparison.model_validate_json((folder / "weights.json").read_bytes())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(serving.engine(), tmp_path_factory.mktemp("right"))


@pytest.mark.sample
def test_the_engine_of_the_demo_computes_what_its_checkpoint_computes(measured: Path) -> None:
    receipt = read(measured)
    compared = weights(measured)
    assert gate(receipt, LIMITS, compared).passed
    assert (compared.tensors, compared.compared, compared.problems) == (272, 272, ())
    assert set(receipt.sections) == {"short", "batch", "long", "decode"}
    assert sum(receipt.sections[name].positions for name in ("short", "long", "decode")) > 2048
    for section in receipt.sections.values():
        assert section.kl_mean is not None
        assert section.kl_mean <= 0.01


def zeros(data: bytearray, start: int, count: int) -> None:
    data[start : start + count] = bytes(count)


def noise(data: bytearray, start: int, count: int) -> None:
    data[start : start + count] = random.Random(1).randbytes(count)  # noqa: S311 - no key


def flips(data: bytearray, start: int, count: int) -> None:
    """One bit in each two hundredth byte."""
    chosen = random.Random(2)  # noqa: S311 - no key
    for place in range(start, start + count, 200):
        data[place] ^= 1 << chosen.randrange(8)


def shift(data: bytearray, start: int, count: int) -> None:
    """Every weight in the place of its neighbour."""
    data[start : start + count] = data[start + 1 : start + count] + data[start : start + 1]


DAMAGES: list[tuple[Callable[[bytearray, int, int], None], float, int]] = [
    *((zeros, place, part) for place, part in
      ((0.5, 16), (0.5, 128), (0.75, 64), (0.98, 64), (0.3, 256), (0.6, 1024))),
    (noise, 0.4, 256), (noise, 0.7, 1024), (flips, 0.2, 2), (flips, 0.5, 64),
    (shift, 0.3, 256), (shift, 0.8, 512),
]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "place", "part"), DAMAGES, ids=[f"{d.__name__}-{p}-{n}" for d, p, n in DAMAGES]
)
def test_a_damaged_engine_is_refused(
    damage: Callable[[bytearray, int, int], None], place: float, part: int, tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(serving.engine(), engine)
    data = bytearray((engine / MODEL).read_bytes())
    start = int(len(data) * place)
    damage(data, start, min(len(data) // part, len(data) - start))
    (engine / MODEL).write_bytes(data)
    folder = measure(engine, tmp_path / "work")
    report = gate(read(folder), LIMITS)
    assert not report.passed
    assert weights(folder).problem_count > 0  # also without the text
    # Each section sees it by itself, but for luck: no damage is left to one of them.
    assert len({check.section for check in report.checks if not check.passed}) > 1


def test_the_served_model_agrees_alone_and_at_full_batch_and_a_damaged_one_does_not(
    measured: Path, tmp_path: Path
) -> None:
    for name, damaged in (("right", False), ("wrong", True)):
        tree = tmp_path / name
        settings = serving.render_settings()
        lock = Runtime(serving.LOCK)
        render(serving.engine(), settings, lock, tree, measured / "probe.json")
        weights = tree / "models" / "llm" / "1" / "engine" / MODEL
        if damaged:
            data = bytearray(weights.read_bytes())
            zeros(data, len(data) // 2, len(data) // 128)
            weights.unlink()  # a link to the engine
            weights.write_bytes(data)
        probe = read_probe(tree)
        assert probe is not None
        with serving.running(tree, tmp_path / f"{name}-work") as server:
            if damaged:
                with pytest.raises(SmokeGateError, match="does not compute"):
                    check_accuracy(server.url, "llm", probe)
            else:
                (alone,) = check_accuracy(server.url, "llm", probe)
                full = check_accuracy(server.url, "llm", probe, together=4)
                assert alone.positions == 64
                assert len(full) == 4


# A step between the engine and its receipt, as a compiler that writes some weights wrong.
DAMAGED = """

_compile = compile


def compile(profile, weights):
    from pathlib import Path

    from forge.steps import Step, tool

    step = Step(
        id=f"damage@{profile.name}",
        argv=("${python}", "${source.damage}", "${inputs.engine}", "${outputs.engine}"),
        inputs={"engine": _compile(profile, weights)},
        outputs=("engine",),
        sources=tool(Path(__file__).with_name("damage.py")),
    )
    return step["engine"]
"""
NOISE = """
import random, shutil, sys

shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True, copy_function=shutil.copyfile)
with open(sys.argv[2] + "/openvino_model.bin", "r+b") as file:
    size = file.seek(0, 2)
    file.seek(size * 9 // 10)
    file.write(random.Random(1).randbytes(size // SHARE))
"""


@pytest.mark.builders
def test_noise_that_the_text_does_not_show_stops_a_first_release(tmp_path: Path) -> None:
    """The whole pipeline: the step of the gate fails, and nothing is published."""
    world = copy_project(tmp_path / "project")
    world.forge("keys", "init")
    stages = world.project / "stages"
    with (stages / "engine.py").open("a") as file:
        file.write(DAMAGED)
    for share in (2048, 65536):
        (stages / "damage.py").write_text(NOISE.replace("SHARE", str(share)))
        said = world.release("1.0.0", fails=6)
        assert "accuracy-gate@development" in said
        lines = [line for line in said.splitlines() if ", limit " in line]
        failed = [line.partition(":")[0].strip("| ") for line in lines]
        assert "weights" in failed
        if share == 65536:  # two thousand bytes of 143 million: no figure of the text is outside
            assert set(failed) == {"weights"}
        assert world.json("channels") == []


@pytest.mark.builders
def test_the_shipped_reference_is_what_torch_computes_of_the_checkpoint(tmp_path: Path) -> None:
    python = str(serving.environment("transformers") / "bin" / "python")
    quiet = os.environ | {"HF_HUB_OFFLINE": "1"}
    for script, arguments in (
        ("to_huggingface", ("--checkpoint", serving.checkpoint(), "--output", tmp_path / "hf")),
        ("reference", ("--checkpoint", tmp_path / "hf", "--text",
                       serving.ROOT / "forge/accuracy/data/text.json",
                       "--output", tmp_path / "made")),
    ):  # fmt: skip
        argv = [python, str(TOOLS / f"{script}.py"), *map(str, arguments)]
        subprocess.run(argv, check=True, env=quiet, timeout=900)
    made, known = form.read(tmp_path / "made" / form.NAME), form.read(KNOWN)
    assert made.facts["text"] == known.facts["text"]
    assert KNOWN.stat().st_size <= 1_000_000
    for one, other in zip(made.passages, known.passages, strict=True):
        assert (one.kind, one.tokens, one.start) == (other.kind, other.tokens, other.start)
        assert one.expected.actual == pytest.approx(other.expected.actual, abs=0.01)
        assert (one.expected.ids[:, 0] == other.expected.ids[:, 0]).mean() > 0.995
