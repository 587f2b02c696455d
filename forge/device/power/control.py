"""Read the power settings of the machine, and set what a bundle or a user requests.

nvpmodel asks for confirmation of a mode that needs a reboot. Its input is closed, so such a mode is
not applied.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from forge import nvpmodel
from forge.device.hardware.compute_target import ComputeTarget
from forge.device.hardware.facts import Answer, Run, ask_smi, run_command
from forge.device.power.plan import (
    NOTHING,
    Command,
    PowerFacts,
    PowerReport,
    is_power_row,
    parse_gpus,
    plan,
)
from forge.nvpmodel import Modes
from forge.profiles import PowerSection

__all__ = ["PowerControl"]

_ASK_S: Final = 10.0
_APPLY_S: Final = 60.0
_MAX_CONFIG_BYTES: Final = 256 * 1024
_GPU_QUERY: Final = (
    "--query-gpu=index,name,power.limit,power.min_limit,power.max_limit,clocks.max.graphics,uuid",
)


class PowerControl:
    """The power of one machine.

    Args:
        root: where /etc is.
        run: runs a command with a timeout; default: as a child process.
        is_root: whether commands that need root may run; None: whether this process is root's.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        run: Run | None = None,
        is_root: bool | None = None,
    ) -> None:
        self._root = root
        self._run = run or run_command
        self._is_root = os.geteuid() == 0 if is_root is None else is_root

    def facts(self, target: ComputeTarget) -> PowerFacts:
        """Read the settings of what serves: of a Jetson's board, of the one GPU, or of both.

        Never raises for a tool that is missing, fails or hangs.
        """
        board = self._jetson(target) if target.tegra else PowerFacts(target)
        if not target.asks_smi:
            return board
        answer = ask_smi(self._run, _GPU_QUERY, _ASK_S, is_power_row)
        notes = (f"nvidia-smi: {answer.note}",) if answer.note else ()
        gpus = tuple(gpu for gpu in parse_gpus(answer.rows) if target.is_of(gpu.uuid, gpu.index))
        return replace(board, gpus=gpus, notes=(*board.notes, *notes))

    def report(
        self, wanted: PowerSection | None, target: ComputeTarget, *, unreadable: bool = True
    ) -> PowerReport:
        """Return the current settings and how they differ from the request. Changes nothing.

        Args:
            wanted: the requested settings; None: none.
            target: what serves.
            unreadable: also list commands whose effect cannot be read back.
        """
        facts = self.facts(target)
        made = plan(wanted or NOTHING, facts)
        commands = tuple(one for one in made.commands if one.readable or unreadable)
        return PowerReport.of(facts, wanted, commands, made.refusals)

    def apply(self, wanted: PowerSection | None, target: ComputeTarget) -> PowerReport:
        """Apply the requested settings as far as possible; the report has what is missing.

        Stops at the first command that fails: clocks must not be locked in the wrong mode.
        """
        facts = self.facts(target)
        made = plan(wanted or NOTHING, facts)
        if not made.commands:
            return PowerReport.of(facts, wanted, (), made.refusals)
        if not self._is_root:
            note = "setting power needs root: sudo forge device power --apply"
            return PowerReport.of(facts, wanted, made.commands, (*made.refusals, note))
        problems = self._do(made.commands)
        after = self.facts(target)
        left = tuple(one for one in plan(wanted or NOTHING, after).commands if one.readable)
        if left and not problems:
            problems = tuple(f"'{one}' ran without effect: {one.what} is not set" for one in left)
        return PowerReport.of(after, wanted, left, (*made.refusals, *problems))

    def _do(self, commands: tuple[Command, ...]) -> tuple[str, ...]:
        for command in commands:
            answer = self._run(command.argv, _APPLY_S)
            if problem := _problem(command, answer):
                return (problem,)
        return ()

    def _jetson(self, target: ComputeTarget) -> PowerFacts:
        notes: list[str] = []
        modes = nvpmodel.parse_config(self._config(notes))
        if not modes.modes:  # a container may have the tool without its file
            listed = self._run(("nvpmodel", "-p", "--verbose"), _ASK_S)
            modes = nvpmodel.parse_listing(listed.output) if not listed.problem else Modes()
        answer = self._run(("nvpmodel", "-q"), _ASK_S)
        in_force = nvpmodel.parse_query(answer.output)
        if in_force is None:
            why = answer.problem or "no mode in its output"
            notes.append(f"nvpmodel -q: {why}; the current power mode is not known")
        return PowerFacts(target, modes, in_force, notes=tuple(notes))

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
    """Return why a command failed; empty if it did not."""
    if command.argv[0] == "nvpmodel" and nvpmodel.asks_for_reboot(answer.text):
        return f"{command.what} needs a reboot and was not applied; run 'sudo {command}'"
    if answer.problem:
        return f"'{command}' failed: {answer.problem}"
    if nvpmodel.failed(answer.text):
        lines = [line.strip() for line in answer.text.splitlines() if nvpmodel.failed(line)]
        return f"'{command}' failed: {lines[0]}"
    return ""
