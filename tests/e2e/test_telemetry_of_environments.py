"""No environment that Forge makes reports to anybody what is done with it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import environment

pytestmark = pytest.mark.network

# Looks up no name and opens no connection, also not from a thread of an imported package.
_PROGRAM = """
import json, sys, time

seen = []
watched = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, args: seen.append([event, repr(args)]) if event in watched else None)
import openvino
from openvino import opset13
import openvino_tokenizers
core = openvino.Core()
core.available_devices
time.sleep(2)
print(json.dumps(seen))
"""


@pytest.mark.parametrize("name", ["triton-openvino", "openvino"])
def test_openvino_asks_no_host_and_leaves_nothing_at_home(name: str, tmp_path: Path) -> None:
    # Its telemetry is silent where CI is set, so the variables of CI are left out.
    given = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    python = environment(name) / "bin" / "python"
    done = subprocess.run(
        [python, "-c", _PROGRAM], env={**given, "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert list(tmp_path.iterdir()) == []
