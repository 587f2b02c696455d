"""Model weights, fetched once for all SKUs, in the forms that builders take."""

from pathlib import Path

import forge.builders
import forge.checkpoint
from forge.builders import Weights
from forge.errors import ConfigurationError
from forge.steps import Artifact, Step, locked, source
from stages import DOCKERFILES, STORE_SECRETS

TOOLS = Path(forge.builders.__path__[0]) / "tools"


def fetch(url: str) -> Weights:
    """The checkpoint that `url` names, verified against the digest in it."""
    parsed = forge.checkpoint.parse(url)
    if parsed.sha256 is None:
        raise ConfigurationError(
            f"Checkpoint {url!r} is not pinned",
            why="without a digest nobody can say what was released",
            hint=f"forge checkpoint pin '{url}' fetches it and prints the URL with its digest",
        )
    argv = ("${python}", "-m", "forge.checkpoint", url, "${outputs.checkpoint}")
    hf = (locked(DOCKERFILES / "huggingface"),) if parsed.scheme == "hf" else ()
    step = Step(
        id="checkpoint",
        argv=(*argv, "${tools.huggingface}/bin/hf") if hf else argv,
        outputs=("checkpoint",),
        environments=hf,
        # The digest says what comes out, whatever code fetches it: no source is in the key.
        sources=(),
        secrets=(*STORE_SECRETS, "HF_TOKEN"),
    )
    original = step["checkpoint"]
    huggingface = _as_huggingface(original, parsed.architecture)
    onnx = _as_onnx(huggingface)
    return Weights(original, huggingface, parsed.architecture, onnx, parsed.gguf)


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
        sources=(source(TOOLS / "to_huggingface.py"),),
    )
    return step["checkpoint"]


def _as_onnx(huggingface: Artifact) -> Artifact:
    step = Step(
        id="onnx",
        argv=(
            "${tools.onnx}/bin/python",
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
        environments=(locked(DOCKERFILES / "onnx"),),
        sources=(source(TOOLS / "to_onnx.py"),),
    )
    return step["onnx"]
