"""Steps that builders plan for shipped profiles; nothing runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from forge import profiles
from forge.builders import Weights, builder_of, check
from forge.profiles import Profile
from forge.steps import Artifact, Step, key_of, walk

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = ROOT / "dockerfiles"


def profile(name: str, *overrides: str) -> Profile:
    return profiles.load(name, ROOT / "profiles", overrides=overrides).profile


def weights(architecture: str | None = "llama", *, gguf: bool | None = None) -> Weights:
    """A model in every form: the steps `checkpoint`, `huggingface`, `onnx` and `reference`."""
    original = Step(id="checkpoint", argv=("fetch",), outputs=("checkpoint",))
    converted = Step(
        id="huggingface",
        argv=("convert",),
        inputs={"checkpoint": original["checkpoint"]},
        outputs=("checkpoint",),
    )
    checkpoint = converted["checkpoint"]
    onnx = Step(id="onnx", argv=("export",), inputs={"checkpoint": checkpoint}, outputs=("onnx",))
    reference = Step(
        id="reference", argv=("refer",), inputs={"checkpoint": checkpoint}, outputs=("reference",)
    )
    made = Weights(
        original["checkpoint"], checkpoint, architecture, onnx["onnx"], reference["reference"]
    )
    return replace(made, gguf=gguf)


def plan(
    name: str, *overrides: str, architecture: str | None = "llama", gguf: bool | None = None
) -> dict[str, Step]:
    """The steps of one profile's engine by stage, in the order in which they run."""
    chosen = profile(name, *overrides)
    builder = builder_of(chosen)
    check(chosen, builder, architecture)
    engine: Artifact = builder.compile(chosen, weights(architecture, gguf=gguf), DOCKERFILES)
    return {step.id.partition("@")[0]: step for step in walk([engine])}


def key(step: Step) -> str:
    """The step's key for inputs of any one content."""
    return key_of(step, dict.fromkeys(step.inputs, "a" * 64)).digest


def pair(step: Step, option: str) -> tuple[str, str]:
    """An option of the step's command and the word after it."""
    place = step.argv.index(option)
    return step.argv[place], step.argv[place + 1]
