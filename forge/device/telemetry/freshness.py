"""Whether a device serves what its channel points to; and if not, since when and why. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from forge.device.shared.release import Release
from forge.device.shared.times import lasted_s
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.contact import StoreContact
from forge.progress import duration_text

__all__ = ["Freshness", "FreshnessState", "freshness"]

FreshnessState: TypeAlias = Literal["up-to-date", "installing", "behind", "unknown"]


class Freshness(BaseModel):
    """How what serves stands to what the channel points to.

    Attributes:
        state: `unknown`: the channel was never read, or has nothing for this machine.
        offered: what the channel pointed to when it was last read.
        behind_s: seconds for which something else has served than what the channel points to.
        reason: why the offered release does not serve, or why none is known; "" if it does, or is
            being installed.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    state: FreshnessState
    offered: Release | None = None
    behind_s: float = 0.0
    reason: str = ""

    def text(self, channel: str) -> str:
        """Return the line for `forge device status`."""
        if self.offered is None:
            return f"not known: {self.reason or 'the channel was not read yet'}"
        if self.state == "up-to-date":
            return f"up to date: {channel} points to {self.offered.version}"
        lasts = f" for {duration_text(self.behind_s)}" if self.state == "behind" else ""
        text = f"{self.state}{lasts}: {channel} points to {self.offered.version}"
        return f"{text}; {self.reason}" if self.reason else text


def freshness(journal: Journal, contact: StoreContact, problem: str = "", *, now: str) -> Freshness:
    """Return how a device stands to its channel.

    Args:
        journal: of the device.
        contact: with the store.
        problem: why the last check or installation failed, or what is offered does not fit.
        now: RFC 3339.
    """
    offered = contact.offered
    if offered is None:
        return Freshness(state="unknown", reason=_first_line(contact.error))
    if offered == journal.active_release:
        return Freshness(state="up-to-date", offered=offered)
    behind_s = lasted_s(contact.behind_since, now)
    if journal.candidate == offered and journal.state != "idle":
        return Freshness(state="installing", offered=offered, behind_s=behind_s)
    reason = _verdict(journal, offered) or problem or contact.error
    return Freshness(
        state="behind",
        offered=offered,
        behind_s=behind_s,
        reason=_first_line(reason),
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0].rstrip(": ") if text else ""


def _verdict(journal: Journal, offered: Release) -> str:
    if bad := journal.is_bad(offered):
        return f"it is known to be bad: {bad.reason}"
    if held := journal.is_held(offered):
        return f"it is held back: {held.reason}"
    if late := journal.is_interrupted(offered):
        return f"it waits for {late.checks} more checks: {late.reason}"
    return ""
