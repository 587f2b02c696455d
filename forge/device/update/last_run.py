"""How the agent before this one ended: what a restart is told to be caused by.

    run.json    in the state directory: replaced at each start of the agent, and at each clean end

A restart during an activation does not count against the release, for any cause. The cause is
for the history and for the operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from forge import canonical
from forge.device.shared.signals import no_signals
from forge.device.update.resource_pressure import oom_kills
from forge.files import write_durably

__all__ = ["AgentRun", "cause_of_end", "recorded"]

_PROC: Final = Path("/proc")
_MAX_BYTES: Final = 4096


class AgentRun(BaseModel):
    """One run of the agent.

    Attributes:
        boot: the kernel's boot id; "" if it is not known.
        oom_kills: how many processes the kernel had killed for lack of memory when it began.
        ended: `stopped`: it ended when it was told to, or was done; `failed`: by an error; None: it
            runs, or nothing could note its end.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    boot: str = ""
    oom_kills: int = 0
    ended: Literal["stopped", "failed"] | None = None

    @classmethod
    def begun(cls, proc: Path = _PROC) -> AgentRun:
        """Return a run that begins now."""
        try:
            boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            boot = ""
        return cls(boot=boot, oom_kills=oom_kills(proc))


def cause_of_end(before: AgentRun | None, now: AgentRun) -> str:
    """Return how a run ended, as a clause; "" if there was none. Pure.

    Args:
        before: that run, as it was last noted.
        now: the run that begins.
    """
    if before is None:
        return ""
    if before.boot != now.boot:
        if before.ended:
            return "the machine was restarted"
        return "the machine lost power, or restarted without a shutdown"
    if before.ended:
        return {"stopped": "the agent was stopped", "failed": "the agent ended by an error"}[
            before.ended
        ]
    if now.oom_kills > before.oom_kills:
        return "the agent was killed, and the kernel has killed processes for lack of memory"
    return "the agent was killed"


@contextlib.contextmanager
def recorded(folder: Path, proc: Path = _PROC) -> Iterator[str]:
    """Note the run of this agent, which is the body; yield how the one before it ended.

    Args:
        folder: the state directory; its lock is held.
        proc: /proc.
    """
    path, run = folder / "run.json", AgentRun.begun(proc)
    before = _read(path)
    _write(path, run)
    ended: Literal["stopped", "failed"] = "stopped"
    try:
        yield cause_of_end(before, run)
    except Exception:
        ended = "failed"
        raise
    finally:
        with no_signals():
            _write(path, run.model_copy(update={"ended": ended}))


def _read(path: Path) -> AgentRun | None:
    try:
        with path.open("rb") as file:
            return AgentRun.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None


def _write(path: Path, run: AgentRun) -> None:
    """A disk that is full must not end what serves, but what the file says must not be wrong."""
    try:
        write_durably(path, canonical.dumps(run.model_dump()))
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
