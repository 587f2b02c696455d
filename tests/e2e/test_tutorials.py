"""docs/tutorial: the pages, one after the other, each command and program as it is written.

Only what a test must differ in is replaced: where the passphrase is kept, the port, and that the
agent runs in the background until the page stops it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.seaweed import free_ports

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorial"
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
PROGRAM = re.compile(r"Save this as `([\w.]+)`:\n\n```python\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
WAIT = """
until {condition}; do
  kill -0 $agent || {{ cat agent.log; exit 90; }}
  sleep 0.2
done
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.exhaustive,  # two releases with their tool environments, beside those of the demo
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


def commands(page: str) -> list[str]:
    """Every command of a page in order; continued lines stay together."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    return [command for block in CONSOLE.findall(text) for command in COMMAND.findall(block)]


def run(script: list[str], cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FORGE_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_first_bundle_then_device_then_application(tmp_path: Path) -> None:
    checkout, passphrase = tmp_path / "checkout", tmp_path / "passphrase"
    checkout.mkdir()
    bundle = [
        word.replace("~/.forge-passphrase", str(passphrase)) for word in commands("first-bundle.md")
    ]
    said = run(bundle, checkout)
    assert "14 steps: 0 cached, 14 ran" in said
    assert "setting serving.default_max_tokens  128     64" in said
    assert "engine@development: hit" in said
    assert "15 steps: 7 cached, 8 ran" in said

    [port] = free_ports(1)
    script = [f"export FORGE_PASSPHRASE_FILE={passphrase}", *device_script(port)]
    said = run(
        [*script, *application_script(tmp_path / "my-release", port)], tmp_path / "my-release"
    )
    assert '"text":"The capital of France is Paris."' in said
    assert re.search(r"went-back +smollm2 1\.0\.0", said)
    for line in (
        "The capital of France is Paris.\n8 tokens\n",
        "['capital', 'city', 'country'] True\n",
        "get_weather ['city']\n",
        '"param":"messages"',
    ):
        assert line in said
    log = (tmp_path / "my-release" / "agent.log").read_text(encoding="utf-8")
    for line in (
        "slot a holds smollm2 1.0.0",
        "committed: slot b holds smollm2 1.1.0",
        "while slot a served",
    ):
        assert line in log


def application_script(folder: Path, port: int) -> list[str]:
    """The commands of the page, and its programs in the folder; the device runs meanwhile."""
    text = (FOLDER / "first-application.md").read_text(encoding="utf-8")
    for name, program in PROGRAM.findall(text):
        (folder / name).write_text(here(program, port), encoding="utf-8")
    return [here(command, port) for command in commands("first-application.md")]


def here(text: str, port: int) -> str:
    return text.replace("localhost:8080", f"localhost:{port}")


def device_script(port: int) -> list[str]:
    script = []
    for command in commands("first-device.md"):
        if command.startswith("forge device run "):
            ready = f"curl -sf -o ready.json localhost:{port}/health/ready"
            script.append(f"{command} --port {port} >agent.log 2>&1 &\nagent=$!")
            script.append("trap 'kill $agent || true; wait $agent || true' EXIT")
            script.append(WAIT.format(condition=ready))
            continue
        script.append(here(command, port))
        if command.startswith("forge promote 1.1.0"):
            script.append(WAIT.format(condition="grep -q 'committed: slot b' agent.log"))
    return script
