"""What the code of a hostile bundle tries, each with its outcome. Standard library only.

python attacker.py '{"state": "…", "agent": 12, …}'      prints {"attempt": "done" or the error}
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> int:
    """Try everything and print what came of it."""
    told = json.loads(sys.argv[1])
    found = {name: outcome(attempt) for name, attempt in attempts(told).items()}
    sys.stdout.write(f"OUTCOMES {json.dumps(found)}\n")
    sys.stdout.flush()
    return 0


def attempts(told: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return the attempts by name."""
    state, home, agent = Path(told["state"]), Path(told["home"]), int(told["agent"])
    return {
        "write-state": lambda: (state / "state.json").write_text("{}"),
        "make-in-state": lambda: (state / "root.json.new").write_text("{}"),
        "remove-state": (state / "device.json").unlink,
        "rename-state": lambda: (state / "device.json").rename(state / "gone.json"),
        "link-key": lambda: os.link(told["key"], "tmp/key"),
        "list-state": (state / "key.pem").stat,
        "read-device-env": lambda: Path(told["device_env"]).read_text(),
        "read-key": lambda: Path(told["key"]).read_text(),
        "read-home": (home / "secret").read_text,
        "write-home": lambda: (home / ".profile").write_text("true"),
        "write-slot": lambda: (Path(told["slot"]) / "model.py").write_text("pass"),
        "read-environ": lambda: Path(f"/proc/{agent}/environ").read_bytes(),
        "read-memory": lambda: open(f"/proc/{agent}/mem", "rb"),  # noqa: PTH123
        "signal-agent": lambda: os.kill(agent, 0),
        "signal-all": lambda: os.kill(told["bystander"], 0),
        "connect-host": lambda: connect(socket.AF_INET, ("127.0.0.1", told["port"])),
        "connect-network": lambda: connect(socket.AF_INET, ("192.0.2.1", 443), socket.SOCK_DGRAM),
        "connect-abstract": lambda: connect(socket.AF_UNIX, f"\0{told['abstract']}"),
        "connect-path": lambda: connect(socket.AF_UNIX, told["path_socket"]),
        "raise-privileges": raise_privileges,
        # What it is allowed.
        "read-slot": (Path(told["slot"]) / "model.py").read_bytes,
        "write-scratch": lambda: Path("tmp/scratch").write_text("x"),
        "write-shared-memory": write_shared_memory,
        "read-cpuinfo": lambda: Path("/proc/cpuinfo").read_text(),
        "read-own-status": lambda: Path("/proc/self/status").read_text(),
        "write-null": lambda: Path("/dev/null").write_text("x"),
    }


def outcome(attempt: Callable[[], object]) -> str:
    """Return "done", or the error."""
    try:
        attempt()
    except OSError as error:
        return f"{type(error).__name__}: {error.strerror}"
    return "done"


def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
    """Connect; raises OSError."""
    with socket.socket(family, kind) as connecting:
        connecting.settimeout(3)
        connecting.connect(address)


def raise_privileges() -> None:
    """Raise OSError if a set-user-id program would not work and no capability is left."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields["NoNewPrivs"] == "1" and int(fields["CapEff"], 16) == 0:
        raise PermissionError(1, "no new privileges, no capability")


def write_shared_memory() -> None:
    """Write and remove a file in /dev/shm."""
    path = Path(f"/dev/shm/forge-test-{os.getpid()}")  # noqa: S108
    path.write_text("x")
    path.unlink()


if __name__ == "__main__":
    sys.exit(main())
