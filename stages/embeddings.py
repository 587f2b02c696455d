"""The embedding model of a bundle: a second checkpoint, compiled and compared for each SKU."""

import re
from dataclasses import dataclass
from pathlib import Path

import forge.serving.repository
from forge.builders import embedding_builder_of
from forge.errors import ConfigurationError, UsageError
from forge.profiles import Profile
from forge.serving.repository.spec import EMBEDDING_NAME
from forge.steps import Artifact, Step, locked, source, tool
from stages import DOCKERFILES, PROJECT
from stages.checkpoint import TEXT, TOOLS, download, pinned

REFERENCES = PROJECT / "references"
TEMPLATES = Path(forge.serving.repository.__path__[0]) / "templates"
WORDS = TEMPLATES / "shared" / "embedding_words.py"


@dataclass(frozen=True)
class EmbeddingWeights:
    """The checkpoint of an embedding model.

    Attributes:
        checkpoint: its files.
        reference: vectors of known texts, computed by transformers.
        name: as clients of the API call it.
    """

    checkpoint: Artifact
    reference: Artifact
    name: str


@dataclass(frozen=True)
class Embedding:
    """An embedding model that is served with the engine of one SKU.

    Attributes:
        engine: the compiled model.
        probe: the vectors that devices compare with.
        verdict: how much it differs from its checkpoint.
        name: as clients of the API call it.
    """

    engine: Artifact
    probe: Artifact
    verdict: Artifact
    name: str


def fetch(url: str, name: str, bundle: str) -> EmbeddingWeights | None:
    """Plan the download of an embedding model, and its vectors of known texts.

    Args:
        url: of the checkpoint, pinned by digest; empty: the bundle has no embedding model.
        name: as clients of the API call it.
        bundle: name of the bundle, as clients call its first model.

    Raises UsageError for a name that clients cannot use, ConfigurationError for a URL that is not
    valid or not pinned.
    """
    if not url:
        return None
    if not re.fullmatch(EMBEDDING_NAME, name):
        raise UsageError(
            f"The name of the embedding model is not valid: {name!r}",
            why="it has 1 to 64 characters of letters, digits, '.', '_' and '-', and begins with a"
            " letter or digit",
            hint="give it another: --embedding-name NAME",
        )
    if name == bundle:
        message = f"Both models of the bundle would be named {name!r}"
        raise UsageError(message, hint="give the second one another: --embedding-name NAME")
    parsed, sha256 = pinned(url, "--embedding")
    checkpoint = download("embedding-checkpoint", parsed, url, "--embedding")["checkpoint"]
    return EmbeddingWeights(checkpoint, _reference(checkpoint, sha256), name)


def _reference(checkpoint: Artifact, sha256: str) -> Artifact:
    """Plan the reference, or take the one that the project has: no torch is installed then."""
    known = REFERENCES / f"{sha256}.embeddings.json"
    if known.is_file():
        step = Step(
            id="embedding-reference",
            argv=(
                *("${python}", "${source.embedding_stored}"),
                *("--stored", f"${{source.{known.stem}}}", "--output", "${outputs.reference}"),
            ),
            outputs=("reference",),
            sources=(*tool(TOOLS / "embedding_stored.py"), source(known)),
        )
        return step["reference"]
    step = Step(
        id="embedding-reference",
        argv=(
            *("${tools.transformers}/bin/python", "${source.embedding_reference}"),
            *("--checkpoint", "${inputs.checkpoint}", "--text", "${source.text}"),
            *("--output", "${outputs.reference}"),
        ),
        inputs={"checkpoint": checkpoint},
        outputs=("reference",),
        env={"HF_HUB_OFFLINE": "1"},
        environments=(locked(DOCKERFILES / "transformers"),),
        sources=(*tool(TOOLS / "embedding_reference.py"), source(TEXT)),
    )
    return step["reference"]


def compile(profile: Profile, weights: EmbeddingWeights | None) -> Embedding | None:  # noqa: A001
    """Plan the embedding model of one SKU, and its comparison with the checkpoint.

    The comparison runs where the model is served, and fails with exit code 6 if they differ.
    Raises ConfigurationError if the builder of the profile does not compile embedding models.
    """
    if weights is None:
        return None
    builder = embedding_builder_of(profile)
    engine = builder.compile_embedding(profile, weights.checkpoint, DOCKERFILES)
    compared = _compare(profile, engine, weights.reference)
    return Embedding(engine, compared["probe"], compared["verdict"], weights.name)


def _compare(profile: Profile, engine: Artifact, reference: Artifact) -> Step:
    name = profile.serving.environment
    if name is None:
        raise ConfigurationError(
            f"Profile {profile.name!r} serves no embedding models",
            why="it has no serving.environment, in which the model is compared",
            hint="leave --embedding out, or use --profile without it",
        )
    encoder = TEMPLATES / "embeddings" / profile.engine.builder / "encoder.py"
    return Step(
        id=f"embedding-accuracy@{profile.name}",
        argv=(
            *(f"${{tools.{name}}}/bin/python", "${source.embedding_check}"),
            *("--engine", "${inputs.engine}", "--reference", "${inputs.reference}"),
            *("--encoder", "${source.encoder}", "--words", "${source.embedding_words}"),
            *("--output", "${outputs.verdict}", "--probe", "${outputs.probe}"),
        ),
        inputs={"engine": engine, "reference": reference},
        outputs=("verdict", "probe"),
        environments=(locked(DOCKERFILES / name),),
        sources=(*tool(TOOLS / "embedding_check.py"), source(encoder), source(WORDS)),
        platform=profile.platform,
    )
