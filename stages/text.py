"""The comparison of what turns text into tokens with the checkpoint's reference tokenizer."""

from pathlib import Path

import forge.serving.repository
from forge.builders import Weights
from forge.checkpoint import url as checkpoint_url
from forge.profiles import Profile
from forge.steps import Artifact, Step, locked, source, tool
from stages import DOCKERFILES, PROJECT
from stages.checkpoint import TOOLS

REFERENCES = PROJECT / "references"
TEMPLATES = Path(forge.serving.repository.__path__[0]) / "templates"
SERVED = tool(TEMPLATES / "shared" / "text.py")  # the module that every template serves with
RUNTIME = TEMPLATES / "openvino" / "runtime_tokenizer.py"
ENVIRONMENT = "triton-openvino"  # for engines that are served in an image


def expected(weights: Weights, model: str) -> Artifact:
    """Plan the reference's answers to the probe, one step for all SKUs.

    They are made by transformers, which needs torch's environment, or taken from the project:
    references/<digest of the checkpoint>.text.json.

    Args:
        weights: the model.
        model: its URL, pinned by digest.
    """
    known = REFERENCES / f"{checkpoint_url.parse(model).sha256}.text.json"
    if known.is_file():
        step = Step(
            id="text",
            argv=(
                "${python}", "${source.text_stored}",
                "--stored", f"${{source.{known.stem}}}",
                "--output", "${outputs.text}",
            ),
            outputs=("text",),
            sources=(*tool(TOOLS / "text_stored.py"), source(known)),
        )  # fmt: skip
        return step["text"]
    step = Step(
        id="text",
        argv=(
            "${tools.transformers}/bin/python", "${source.text_check}",
            "--checkpoint", "${inputs.checkpoint}",
            "--text", "${source.text}",
            "--output", "${outputs.text}",
        ),
        inputs={"checkpoint": weights.huggingface},
        outputs=("text",),
        env={"HF_HUB_OFFLINE": "1"},
        environments=(locked(DOCKERFILES / "transformers"),),
        sources=(*tool(TOOLS / "text_check.py"), *SERVED),
    )  # fmt: skip
    return step["text"]


def compare(profile: Profile, engine: Artifact, answers: Artifact) -> Artifact:
    """Plan the comparison of an engine's own tokenizer and chat template with the reference's.

    Args:
        profile: the device SKU.
        engine: the engine, or the export that the device compiles.
        answers: from `expected`.
    """
    name = profile.serving.environment or ENVIRONMENT
    step = Step(
        id=f"text@{profile.name}",
        argv=(
            f"${{tools.{name}}}/bin/python", "${source.text_engine_check}",
            "--engine", "${inputs.engine}",
            "--expected", "${inputs.expected}",
            "--text", "${source.text}",
            "--runtime", "${source.runtime_tokenizer}",
            "--output", "${outputs.verdict}",
        ),
        inputs={"engine": engine, "expected": answers},
        outputs=("verdict",),
        environments=(locked(DOCKERFILES / name),),
        sources=(*tool(TOOLS / "text_engine_check.py"), *SERVED, source(RUNTIME)),
    )  # fmt: skip
    return step["verdict"]
