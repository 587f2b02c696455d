"""`${chain}`: the stored steps a bundle descends from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import TypeAdapter, ValidationError

from forge.errors import ConfigurationError
from forge.steps import Link

__all__ = ["ancestry", "makers", "parse_chain"]

_LINKS = TypeAdapter(tuple[Link, ...])


def parse_chain(data: bytes) -> tuple[Link, ...]:
    """Links from the runner's JSON. Raises ConfigurationError."""
    try:
        return _LINKS.validate_json(data)
    except ValidationError as error:
        raise ConfigurationError(
            "The chain is no list of links", why=str(error.errors()[0]["msg"])
        ) from None


def makers(links: Iterable[Link], digest: str) -> tuple[Link, ...]:
    """The links that made this tree: several, where several steps wrote the same bytes."""
    return tuple(link for link in links if digest in link.outputs.values())


def ancestry(links: Sequence[Link], digests: Iterable[str]) -> tuple[Link, ...]:
    """The links that led to these trees, in their order in `links`."""
    makers_of: dict[str, list[int]] = {}
    for number, link in enumerate(links):
        for digest in link.outputs.values():
            makers_of.setdefault(digest, []).append(number)
    found: set[int] = set()
    waiting = list(digests)
    while waiting:
        for number in makers_of.get(waiting.pop(), ()):
            if number not in found:
                found.add(number)
                waiting.extend(links[number].inputs.values())
    return tuple(links[number] for number in sorted(found))
