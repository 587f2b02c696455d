"""Record what this machine says about itself, for a profile that is written elsewhere."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from forge.device.hardware.capture import Capture, Recorder
from forge.device.hardware.compute_target import idle_target
from forge.device.hardware.facts import OLD_GPU_QUERY, Run, collect, run_command
from forge.device.hardware.inventory import parse
from forge.device.hardware.redaction import redact
from forge.device.power.control import PowerControl
from forge.device.thermal.sensors import SensorReader
from forge.system_files import RootFiles

__all__ = ["personal_names", "record"]


def record(
    root: Path = Path("/"), run: Run | None = None, names: Collection[str] | None = None
) -> Capture:
    """Ask this machine everything that an agent would ask it, and return the answers.

    Nothing is changed on the machine. Personal data is left out: `redaction` says which.

    Args:
        root: where /proc, /sys and /etc are.
        run: runs commands with a timeout; default: as child processes.
        names: of this machine and its users, to be left out; default: `personal_names`.
    """
    recorder = Recorder(RootFiles(root), run or run_command)
    hardware = parse(collect(recorder, recorder.run))
    target = idle_target(hardware)
    SensorReader(root, recorder.run)(target)
    PowerControl(root=root, run=recorder.run).facts(target)
    if hardware.tegra:
        recorder.run(("nvpmodel", "-p", "--verbose"), 10.0)
    if hardware.nvidia != "absent":
        recorder.run(OLD_GPU_QUERY, 10.0)
    recorder.read_further()
    return redact(recorder.capture(), personal_names() if names is None else names)


def personal_names(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the names of this machine and of the user who asks."""
    host = os.uname().nodename
    found = {host, host.partition(".")[0], Path(environment.get("HOME", "")).name}
    found |= {environment.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")}
    # In a container the user may have no entry in /etc/passwd.
    with contextlib.suppress(KeyError, OSError):
        found.add(getpass.getuser())
    return frozenset(filter(None, found))
