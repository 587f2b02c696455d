"""Asks the machine about its power, and sets it when a bundle or a person wants that.

Nothing here answers a question of nvpmodel's: its input is closed, so a mode that wants a YES to
reboot is not applied.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from forge import nvpmodel
from forge.device.facts import Answer, Run, run_command
from forge.device.hardware import Kind
from forge.device.power import NOTHING, Command, PowerFacts, PowerReport, parse_gpus, plan
from forge.nvpmodel import Modes
from forge.profiles import Power

__all__ = ["PowerControl"]

_ASK_S: Final = 10.0
_APPLY_S: Final = 60.0
_MAX_CONFIG_BYTES: Final = 256 * 1024
_GPU_QUERY: Final = (
    "nvidia-smi",
    "--query-gpu=index,name,power.limit,power.min_limit,power.max_limit,clocks.max.graphics",
    "--format=csv,noheader,nounits",
)


class PowerControl:
    """The power of one machine.

    Args:
        kind: what the machine is.
        root: where /etc is.
        run: runs a command with a time limit; the machine's own by default.
        is_root: whether commands may be run that need root; by the process's user if None.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        root: Path = Path("/"),
        run: Run | None = None,
        is_root: bool | None = None,
    ) -> None:
        self._kind = kind
        self._root = root
        self._run = run or run_command
        self._is_root = os.geteuid() == 0 if is_root is None else is_root

    def facts(self) -> PowerFacts:
        """What is in force now. Never raises for a tool that is missing, fails or hangs."""
        if self._kind == "jetson":
            return self._jetson()
        if self._kind == "discrete":
            answer = self._run(_GPU_QUERY, _ASK_S)
            notes = _note("nvidia-smi", answer)
            return PowerFacts("discrete", gpus=parse_gpus(answer.output), notes=notes)
        return PowerFacts("cpu")

    def report(self, wanted: Power | None, *, unreadable: bool = True) -> PowerReport:
        """What is in force, and what is missing to what is wanted. Changes nothing.

        Args:
            wanted: None: nothing.
            unreadable: list commands whose effect cannot be read back, too.
        """
        facts = self.facts()
        made = plan(wanted or NOTHING, facts)
        commands = tuple(one for one in made.commands if one.readable or unreadable)
        return PowerReport.of(facts, wanted, commands, made.refusals)

    def apply(self, wanted: Power | None) -> PowerReport:
        """Bring about what is wanted, as far as it can be had; the report says what is missing.

        Stops at the first command that fails: clocks must not be locked in the wrong mode.
        """
        facts = self.facts()
        made = plan(wanted or NOTHING, facts)
        if not made.commands:
            return PowerReport.of(facts, wanted, (), made.refusals)
        if not self._is_root:
            note = "setting power needs root: sudo forge device power --apply"
            return PowerReport.of(facts, wanted, made.commands, (*made.refusals, note))
        problems = self._do(made.commands)
        after = self.facts()
        left = tuple(one for one in plan(wanted or NOTHING, after).commands if one.readable)
        if left and not problems:
            problems = tuple(f"{one.what} is not in force, although '{one}' ran" for one in left)
        return PowerReport.of(after, wanted, left, (*made.refusals, *problems))

    def _do(self, commands: tuple[Command, ...]) -> tuple[str, ...]:
        for command in commands:
            answer = self._run(command.argv, _APPLY_S)
            if problem := _problem(command, answer):
                return (problem,)
        return ()

    def _jetson(self) -> PowerFacts:
        notes: list[str] = []
        modes = nvpmodel.parse_config(self._config(notes))
        if not modes.modes:  # in a container there may be the tool and not its file
            listed = self._run(("nvpmodel", "-p", "--verbose"), _ASK_S)
            modes = nvpmodel.parse_listing(listed.output) if not listed.problem else Modes()
        answer = self._run(("nvpmodel", "-q"), _ASK_S)
        in_force = nvpmodel.parse_query(answer.output)
        if in_force is None:
            why = answer.problem or "its answer names no mode"
            notes.append(f"nvpmodel -q: {why}; the power mode in force is not known")
        return PowerFacts("jetson", modes, in_force, notes=tuple(notes))

    def _config(self, notes: list[str]) -> str:
        path = self._root / "etc/nvpmodel.conf"
        try:
            with path.open("rb") as file:
                return file.read(_MAX_CONFIG_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            notes.append(f"{path}: {error.strerror}")
            return ""


def _problem(command: Command, answer: Answer) -> str:
    """Why a command did not do what it should; empty if it did."""
    if command.argv[0] == "nvpmodel" and nvpmodel.asks_for_reboot(answer.output):
        return f"{command.what} needs a reboot and is not applied unasked; run 'sudo {command}'"
    if answer.problem:
        return f"'{command}' did not work: {answer.problem}"
    if nvpmodel.failed(answer.output):
        lines = [line.strip() for line in answer.output.splitlines() if nvpmodel.failed(line)]
        return f"'{command}' did not work: {lines[0]}"
    return ""


def _note(tool: str, answer: Answer) -> tuple[str, ...]:
    return (f"{tool}: {answer.problem}",) if answer.problem else ()
