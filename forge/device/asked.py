"""What somebody asks of a device by hand, handed to its agent through the state folder.

The agent holds the folder's lock, so nobody else may change its journal. `asked.json` is left there
and taken within a second; it is obeyed at the agent's next start where none runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.bundle import Digest
from forge.device.agent import Agent
from forge.device.slots import Home
from forge.errors import UsageError
from forge.files import write_durably

__all__ = ["Asked", "ask", "obey", "pending", "unfulfilled"]

_FILE: Final = "asked.json"
_TAKEN: Final = ".tmp-asked"  # gone after a restart, see Home.clean
_MAX_BYTES: Final = 16 * 1024


class Asked(BaseModel):
    """One wish.

    Attributes:
        what: go back to what served before, or let what was gone back from be installed again.
        leaves: manifest of the release to go back from; another one that serves by then is not
            meant. None: whatever serves.
        reason: why, kept in the history.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["rollback", "release"]
    leaves: Digest | None = None
    reason: str = Field(default="rolled back by hand", max_length=1024)


def ask(home: Home, asked: Asked) -> None:
    """Leave a wish; it replaces one that was not taken yet. Raises OSError."""
    write_durably(home.path / _FILE, asked.model_dump_json().encode())


def pending(home: Home) -> bool:
    """Whether a wish waits."""
    return (home.path / _FILE).exists()


def unfulfilled(home: Home) -> bool:
    """Whether a wish waits, or is being done: the journal may not show that yet."""
    return pending(home) or (home.path / _TAKEN).exists()


def obey(home: Home, agent: Agent) -> Asked | None:
    """Take the wish and do it; None if there is none.

    Raises:
        UsageError: there is nothing to go back to, nothing held back, or another release serves
            by now than the one to go back from.
        RolledBackError: what served before did not pass its probe now.
        OSError: the file cannot be taken.
    """
    taken = home.path / _TAKEN
    try:
        (home.path / _FILE).rename(taken)  # first: a wish that ends the agent must not end it again
    except FileNotFoundError:
        return None
    try:
        return _do(taken, agent)
    finally:
        taken.unlink(missing_ok=True)


def _do(path: Path, agent: Agent) -> Asked | None:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        asked = Asked.model_validate_json(data)
    except ValidationError:
        return None
    if asked.what == "rollback":
        _require_meant(asked, agent)
        agent.go_back(asked.reason)
    else:
        agent.lift_hold()
    return asked


def _require_meant(asked: Asked, agent: Agent) -> None:
    active = agent.journal.active_release
    if asked.leaves is None or (active and active.manifest == asked.leaves):
        return
    message = f"The wish to go back is dropped: {active or 'nothing'} serves by now"
    why = f"it was to leave the release with manifest {asked.leaves[:12]}"
    raise UsageError(message, why=why, hint="forge device rollback leaves what serves now")
