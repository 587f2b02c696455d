"""Carry out an operator's request."""

from __future__ import annotations

from forge.device.agent.agent import Agent
from forge.device.state.directory import StateDirectory
from forge.device.state.operator_requests import OperatorRequest, taken
from forge.errors import UsageError

__all__ = ["handle_pending"]


def handle_pending(home: StateDirectory, agent: Agent) -> OperatorRequest | None:
    """Take the request and carry it out; return it, None if there is none.

    Raises:
        UsageError: there is nothing to go back to, nothing is held back, or another release serves
            by now than the one to go back from.
        RolledBackError: what served before did not pass its probe now.
        OSError: the file cannot be taken.
    """
    with taken(home) as request:
        if request is None:
            return None
        if request.what == "rollback":
            _require_same_release(request, agent)
            agent.go_back(request.reason)
        else:
            agent.lift_hold()
        return request


def _require_same_release(request: OperatorRequest, agent: Agent) -> None:
    active = agent.journal.active_release
    if request.leaves is None or (active and active.manifest == request.leaves):
        return
    message = f"The rollback request was dropped: {active or 'nothing'} serves by now"
    why = f"it was to go back from the release with manifest {request.leaves[:12]}"
    hint = "forge device rollback goes back from what serves now"
    raise UsageError(message, why=why, hint=hint)
