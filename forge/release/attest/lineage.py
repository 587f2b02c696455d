"""Parse and search `${chain}`: the stored steps that a bundle was built by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter, ValidationError

from forge.errors import ConfigurationError
from forge.steps import Link
from forge.validation import validation_text

__all__ = ["ancestry", "makers", "parse_chain"]

_LINKS = TypeAdapter(tuple[Link, ...])


def parse_chain(data: bytes) -> tuple[Link, ...]:
    """Return the links in the runner's JSON.

    Raises:
        ConfigurationError: the JSON is not a list of links.
    """
    try:
        return _LINKS.validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(
            "The chain is not a list of links", why=validation_text(error)
        ) from None


def makers(links: Iterable[Link], digest: str) -> tuple[Link, ...]:
    """Return the links that produced a tree: several if several steps wrote the same bytes."""
    return tuple(link for link in links if digest in link.outputs.values())


def ancestry(links: Sequence[Link], digests: Iterable[str]) -> tuple[Link, ...]:
    """Return the links that these trees were built by, directly or indirectly, in order."""
    makers_of: dict[str, list[int]] = {}
    for number, link in enumerate(links):
        for digest in link.outputs.values():
            makers_of.setdefault(digest, []).append(number)
    found: set[int] = set()
    pending = list(digests)
    while pending:
        for number in makers_of.get(pending.pop(), ()):
            if number not in found:
                found.add(number)
                pending.extend(links[number].inputs.values())
    return tuple(links[number] for number in sorted(found))
