"""A store that is only read refuses everything else before it does anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.store.backends.read_only import ReadOnly

USES: dict[str, Callable[[ReadOnly], object]] = {
    "write": lambda place: place.write("x", b""),
    "write_new": lambda place: place.write_new("x", b""),
    "write_if": lambda place: place.write_if("x", b"", "etag"),
    "write_file": lambda place: place.write_file("x", Path("none")),
    "write_file and take": lambda place: place.write_file("x", Path("none"), take=True),
    "delete": lambda place: place.delete("x"),
    "touch": lambda place: place.touch("x"),
    "entries": lambda place: place.entries(""),
    "scratch": lambda place: place.scratch(),
    "sweep": lambda place: place.sweep(0.0),
}


class Web(ReadOnly):
    """One with a URL."""

    @property
    def url(self) -> str:
        return "https://store.example.com/prod"


@pytest.mark.parametrize("use", USES)
def test_every_change_is_refused_with_what_to_use(use: str) -> None:
    with pytest.raises(ConfigurationError, match=r"https://store\.example\.com/prod") as caught:
        USES[use](Web())
    assert ("listed" if use == "entries" else "written") in caught.value.what
    assert "--store s3://" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_backend_has_to_name_its_url() -> None:
    with pytest.raises(NotImplementedError):
        _ = ReadOnly().url
