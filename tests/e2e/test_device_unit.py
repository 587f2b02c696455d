"""What the agent, uv and Triton ask of the kernel is what their systemd unit lets through."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.device_world import World

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "forge-device.service"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.skipif(
        not (shutil.which("strace") and shutil.which("systemd-analyze")),
        reason="strace or systemd-analyze is not here",
    ),
]


def members(group: str) -> set[str]:
    """System calls of one of systemd's groups, groups in it expanded; or one call by its name."""
    if not group.startswith("@"):
        return {group}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    names = [line for line in lines if line and not line.startswith("#")]
    return {name for name in names if not name.startswith("@")}.union(
        *(members(name) for name in names if name.startswith("@"))
    )


def allowed() -> set[str]:
    """What the unit's SystemCallFilter= lines leave."""
    found: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", UNIT.read_text(), re.MULTILINE):
        for group in line.removeprefix("~").split():
            found = found - members(group) if line.startswith("~") else found | members(group)
    return found


@pytest.mark.sample
def test_one_update_makes_no_system_call_that_the_unit_refuses(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    device = world.device()
    counts = tmp_path / "counts"
    argv = ["strace", "-f", "-qq", "-c", "-o", str(counts)]
    agent = [sys.executable, "-m", "forge", "device", "run", "--once", "--state", str(device.state)]
    done = subprocess.run([*argv, *agent], capture_output=True, text=True, timeout=400, check=False)
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip(f"this machine lets nobody trace: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    assert device.home.current() == "a"
    rows = [line.split() for line in counts.read_text().splitlines()]
    used = {row[-1] for row in rows if row and row[0][0].isdigit() and row[-1] != "total"}
    assert {"execve", "fsync", "rename"} <= used
    # Tried by the sandbox of the model server, which does without where it is refused.
    assert used - allowed() <= {"mount"}
