"""Model weights, fetched once for all SKUs."""

import forge.checkpoint
from forge.errors import ConfigurationError
from forge.steps import Artifact, Step, locked
from stages import DOCKERFILES, STORE_SECRETS


def fetch(url: str) -> Artifact:
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
    return step["checkpoint"]
