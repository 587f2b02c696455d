"""What is known of a checkpoint from its URL and its headers, and whether they agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from forge.builders import load, names, takers
from forge.builders.takes import CheckpointFacts
from forge.checkpoint.files import selected
from forge.checkpoint.headers import read_headers
from forge.checkpoint.url import Checkpoint
from forge.errors import ConfigurationError
from forge.memory.shape import ModelShape

__all__ = ["check_facts", "check_supported", "known_facts"]

_NOUNS: Final = {
    "form": "form",
    "architecture": "architecture",
    "tokenizer": "tokenizer",
    "quantisation": "quantisation",
    "shape": "shape",
}


def known_facts(checkpoint: Checkpoint, url: str) -> CheckpointFacts:
    """Return what is known of a checkpoint before it is fetched.

    The headers of a `file:` checkpoint are read if its files are on this machine; they are compared
    with the pinned digest only when it is fetched.

    Raises:
        ConfigurationError: the files are damaged, incomplete, no language model, or not what the
            URL states.
    """
    stated = checkpoint.facts
    if stated.form is None and checkpoint.gguf is not None:
        stated = replace(stated, form="gguf" if checkpoint.gguf else "huggingface")
    if checkpoint.scheme != "file":
        return stated
    try:
        files = selected(Path(checkpoint.source), checkpoint.paths)
    except OSError:
        return stated
    if not files:  # another machine may have them: an error of the step
        return stated
    found = read_headers(files).facts
    check_facts(checkpoint, found, url.partition("#")[0])
    return found


def check_facts(checkpoint: Checkpoint, found: CheckpointFacts, url: str) -> None:
    """Raise ConfigurationError if a checkpoint is not what its URL states."""
    for field in fields(CheckpointFacts):
        name = field.name
        stated, value = getattr(checkpoint.facts, name), getattr(found, name)
        if stated is not None and stated != value:
            raise ConfigurationError(
                f"Checkpoint {url} has another {_NOUNS[name]} than its URL says",
                why=f"it is {_shown(value)!r}, the URL says {name}={_shown(stated)}",
                hint=f"forge checkpoint pin '{url}' prints the correct URL",
            )


def check_supported(found: CheckpointFacts, stated: CheckpointFacts, url: str) -> None:
    """Raise ConfigurationError if no builder of Forge takes a checkpoint.

    Args:
        found: what its headers state.
        stated: what its URL states, which was checked for the builders of the release.
        url: its URL, for the message.
    """
    known = {field.name for field in fields(stated) if getattr(stated, field.name) is not None}
    facts = replace(found, **dict.fromkeys(known))
    refused = [one for one in takers(facts).values() if one is not None]
    if len(refused) < len(names()):
        return
    ((what, _),) = Counter(one.what for one in refused).most_common(1)
    reason = next(one for one in refused if one.what == what)
    supported = {name for builder in names() for name in load(builder).ARCHITECTURES}
    why, hint = reason.why, reason.hint
    if facts.architecture not in {None, *supported}:
        hint = "use another model: docs/reference/builders.md"
        why = f"supported architectures: {', '.join(sorted(supported))}"
    raise ConfigurationError(
        f"No builder of Forge supports {what}",
        why=why,
        hint=f"{hint}; if the project has a builder of its own that does:"
        f" forge checkpoint pin --any-builder '{url}'",
    )


def _shown(value: str | tuple[str, ...] | ModelShape | None) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return "not known" if value is None else str(value)
