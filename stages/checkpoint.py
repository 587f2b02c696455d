"""Model weights, downloaded once for all SKUs, in the formats that builders use."""

from dataclasses import replace
from pathlib import Path

import forge.accuracy
import forge.builders
from forge.builders import Weights
from forge.checkpoint import url as checkpoint_url
from forge.checkpoint.facts import known_facts
from forge.checkpoint.signer import parse_signer
from forge.closure import sources_of
from forge.errors import ConfigurationError
from forge.extras import versions
from forge.steps import Artifact, Step, locked, source, tool
from stages import DOCKERFILES, PROJECT, STORE_SECRETS

TOOLS = Path(forge.builders.__path__[0]) / "tools"
TEXT = Path(forge.accuracy.__path__[0]) / "data" / "text.json"
REFERENCES = PROJECT / "references"


def fetch(url: str, signer: str = "") -> Weights:
    """Download the checkpoint at `url` and verify it against the digest in the URL.

    What its URL or, for a `file:` checkpoint, its headers state is known while the plan is made.

    Args:
        url: a checkpoint URL, pinned by digest.
        signer: who must have signed the files (forge.checkpoint.signer); empty: no signature is
            required.
    """
    parsed, sha256 = pinned(url)
    facts = known_facts(parsed, url)
    step = download("checkpoint", parsed, url)
    if signer:
        step = _verified(step, signer)
    original = step["checkpoint"]
    huggingface = _as_huggingface(original, facts.architecture)
    onnx = _as_onnx(huggingface)
    reference = _reference(huggingface, sha256)
    gguf = None if facts.form is None else facts.form == "gguf"
    made = Weights(original, huggingface, facts.architecture, onnx, reference, gguf, facts)
    return replace(made, signature=step["signature"]) if signer else made


def pinned(url: str, *options: str) -> tuple[checkpoint_url.Checkpoint, str]:
    """Return what a checkpoint URL names, and its digest.

    Args:
        url: to read.
        options: of `forge checkpoint pin` for this kind of checkpoint.

    Raises ConfigurationError for one that is not valid, or names none.
    """
    parsed = checkpoint_url.parse(url)
    if parsed.sha256 is None:
        command = " ".join(("forge checkpoint pin", *options))
        raise ConfigurationError(
            f"Checkpoint {url!r} is not pinned",
            why="a release must be reproducible, which requires a digest",
            hint=f"to get the URL with its digest, run: {command} '{url}'",
        )
    return parsed, parsed.sha256


def download(step_id: str, parsed: checkpoint_url.Checkpoint, url: str, *options: str) -> Step:
    """Plan the download of a checkpoint, whose output is `checkpoint`."""
    hf = (locked(DOCKERFILES / "huggingface"),) if parsed.scheme == "hf" else ()
    return Step(
        id=step_id,
        argv=(
            *("${python}", "-m", "forge.checkpoint", *options, url, "${outputs.checkpoint}"),
            *(("${tools.huggingface}/bin/hf",) if hf else ()),
        ),
        outputs=("checkpoint",),
        environments=hf,
        # The digest defines the output, independent of the code: no source is part of the key.
        sources=(),
        secrets=(*STORE_SECRETS, "HF_TOKEN"),
    )


def _verified(step: Step, signer: str) -> Step:
    """Return the step that also verifies who signed the checkpoint.

    Its key contains the digests of the key or certificates, and the code that verifies: another
    key, and each change of that code, verifies again.
    """
    named = parse_signer(signer, PROJECT)
    return replace(
        step,
        argv=(*step.argv, *named.argv, "--record", "${outputs.signature}"),
        outputs=(*step.outputs, "signature"),
        sources=(*named.sources, *sources_of("forge.checkpoint.signature")),
        libraries=versions("build", "cryptography", "model-signing", "pyopenssl"),
    )


def _as_huggingface(checkpoint: Artifact, architecture: str | None) -> Artifact:
    argv = ["${tools.transformers}/bin/python", "${source.to_huggingface}"]
    argv += ["--checkpoint", "${inputs.checkpoint}", "--output", "${outputs.checkpoint}"]
    if architecture is not None:
        argv += ["--architecture", architecture]
    step = Step(
        id="huggingface",
        argv=tuple(argv),
        inputs={"checkpoint": checkpoint},
        outputs=("checkpoint",),
        env={"HF_HUB_OFFLINE": "1"},
        environments=(locked(DOCKERFILES / "transformers"),),
        sources=tool(TOOLS / "to_huggingface.py"),
    )
    return step["checkpoint"]


def _as_onnx(huggingface: Artifact) -> Artifact:
    step = Step(
        id="onnx",
        argv=(
            "${tools.optimum}/bin/python",
            "${source.to_onnx}",
            "--checkpoint",
            "${inputs.checkpoint}",
            "--settings",
            "${settings}",
            "--output",
            "${outputs.onnx}",
        ),
        inputs={"checkpoint": huggingface},
        outputs=("onnx",),
        settings={"precision": "fp16"},
        env={"HF_HUB_OFFLINE": "1"},
        environments=(locked(DOCKERFILES / "optimum"),),
        sources=tool(TOOLS / "to_onnx.py"),
    )
    return step["onnx"]


def _reference(huggingface: Artifact, sha256: str) -> Artifact:
    """Plan the reference that engines are compared with, or take the one that the project has."""
    known = REFERENCES / f"{sha256}.npz"
    if known.is_file():
        script = tool(TOOLS / "reference_copy.py")
        argv = ("${python}", "${source.reference_copy}", f"${{source.{known.stem}}}")
        step = Step(
            id="reference",
            argv=(*argv, "${outputs.reference}"),
            outputs=("reference",),
            sources=(*script, source(known)),
        )
        return step["reference"]
    step = Step(
        id="reference",
        argv=(
            *("${tools.transformers}/bin/python", "${source.reference}"),
            *("--checkpoint", "${inputs.checkpoint}"),
            *("--text", "${source.text}"),
            *("--output", "${outputs.reference}"),
        ),
        inputs={"checkpoint": huggingface},
        outputs=("reference",),
        env={"HF_HUB_OFFLINE": "1"},
        environments=(locked(DOCKERFILES / "transformers"),),
        sources=(*tool(TOOLS / "reference.py"), source(TEXT)),
    )
    return step["reference"]
