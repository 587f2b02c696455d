"""What somebody asks of a device by hand, handed to its agent through the state folder.

The agent holds the folder's lock, so nobody else may change its journal. `asked.json` is left there
and taken within a second; it is obeyed at the agent's next start where none runs.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.device.agent import Agent
from forge.device.slots import Home
from forge.files import write_durably

__all__ = ["Asked", "ask", "obey", "pending"]

_FILE: Final = "asked.json"
_MAX_BYTES: Final = 16 * 1024


class Asked(BaseModel):
    """One wish.

    Attributes:
        what: go back to what served before, or let what was gone back from be installed again.
        reason: why, kept in the history.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["rollback", "release"]
    reason: str = Field(default="rolled back by hand", max_length=1024)


def ask(home: Home, asked: Asked) -> None:
    """Leave a wish; it replaces one that was not taken yet. Raises OSError."""
    write_durably(home.path / _FILE, asked.model_dump_json().encode())


def pending(home: Home) -> bool:
    """Whether a wish waits."""
    return (home.path / _FILE).exists()


def obey(home: Home, agent: Agent) -> Asked | None:
    """Take the wish and do it; None if there is none.

    Raises:
        UsageError: there is nothing to go back to, or nothing held back.
        RolledBackError: what served before did not pass its probe now.
        OSError: the file cannot be taken.
    """
    path = home.path / _FILE
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    path.unlink()  # first: a wish that ends the agent must not end it again
    try:
        asked = Asked.model_validate_json(data)
    except ValidationError:
        return None
    if asked.what == "rollback":
        agent.go_back(asked.reason)
    else:
        agent.lift_hold()
    return asked
