"""An operator's request, handed to the running agent through the state directory.

The agent holds the directory's lock, so that no other process may change its journal. `asked.json`
is left there and taken within a second; at the agent's next start where none runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.bundle import Digest
from forge.device.state.directory import StateDirectory
from forge.files import write_durably

__all__ = ["OperatorRequest", "pending", "submit", "taken", "unfulfilled"]

_FILE: Final = "asked.json"  # the name that older versions use, too
_TAKEN: Final = ".tmp-asked"  # gone after a restart, see StateDirectory.clean
_MAX_BYTES: Final = 16 * 1024


class OperatorRequest(BaseModel):
    """One request.

    Attributes:
        what: go back to what served before (`rollback`), or allow what was rolled back to be
            installed again (`release`, as older versions named it).
        leaves: manifest of the release to go back from; the request is dropped if another one
            serves by then. None: whichever serves.
        reason: kept in the history.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["rollback", "release"]
    leaves: Digest | None = None
    reason: str = Field(default="rolled back by hand", max_length=1024)


def submit(home: StateDirectory, request: OperatorRequest) -> None:
    """Leave a request; it replaces one that was not taken yet. Raises OSError."""
    write_durably(home.path / _FILE, request.model_dump_json().encode())


def pending(home: StateDirectory) -> bool:
    """Whether a request waits."""
    return (home.path / _FILE).exists()


def unfulfilled(home: StateDirectory) -> bool:
    """Whether a request waits, or is being handled: the journal may not show that yet."""
    return pending(home) or (home.path / _TAKEN).exists()


@contextlib.contextmanager
def taken(home: StateDirectory) -> Iterator[OperatorRequest | None]:
    """Take the request for the body; None if there is none, or none that is valid. Raises OSError.

    It is taken first: a request that ends the agent must not end it again.
    """
    path = home.path / _TAKEN
    try:
        (home.path / _FILE).rename(path)
    except FileNotFoundError:
        yield None
        return
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        try:
            request = OperatorRequest.model_validate_json(data)
        except ValidationError:
            yield None
        else:
            yield request
    finally:
        path.unlink(missing_ok=True)
