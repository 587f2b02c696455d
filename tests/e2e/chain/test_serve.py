"""A device of the released bundle: pulls, proves, serves, refuses what does not fit."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.project_world import ROOT, World
from tests.support.spawn import spawning

pytestmark = [pytest.mark.slow, pytest.mark.network]
READY_S = 240


@pytest.fixture
def state(world: World, tmp_path: Path) -> Path:
    """A provisioned state folder; its environments are this checkout's, installed once."""
    folder = tmp_path / "device"
    folder.mkdir()
    (folder / "environments").symlink_to(ROOT / ".forge" / "environments")
    provision(world, folder, "stable")
    return folder


def provision(world: World, state: Path, channel: str) -> None:
    store, root = str(world.project / "artifacts"), str(world.keys / "root.json")
    world.forge(
        "device", "provision", "--state", str(state), "--store", store, "--root", root,
        "--name", "smollm2", "--channel", channel,
    )  # fmt: skip


@contextlib.contextmanager
def running(state: Path) -> Iterator[str]:
    """A running agent; yields the URL of its API once it serves."""
    argv = [sys.executable, "-m", "forge", "device", "run", "--state", str(state), "--port", "0"]
    with spawning() as spawn:
        agent = spawn([*argv, "--poll-s", "5"], cwd=state, stderr=subprocess.PIPE)
        try:
            yield _wait(agent, state)
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.communicate(timeout=60)


def _wait(agent: subprocess.Popen[bytes], state: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and agent.poll() is None:
        report = state / "agent.json"
        if report.is_file() and (url := json.loads(report.read_text())["url"]):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/health/ready", timeout=5).is_success:
                    return str(url)
        time.sleep(0.2)
    pytest.fail("the device was not ready in time")


@pytest.mark.sample
def test_device_pulls_the_bundle_and_answers_a_streamed_question(state: Path) -> None:
    with running(state) as url:
        body = {"prompt": "What is the capital of France?", "max_tokens": 32, "stream": True}
        with httpx.stream("POST", f"{url}/v1/inference", json=body, timeout=60) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in response.iter_lines() if line]
        events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        data = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert events[-1] == "done"
        assert len(events) > 3, "it came in pieces"
        assert "Paris" in "".join(one.get("text", "") for one in data)
        assert data[-1]["usage"]["output_tokens"] > 0
        hardware = httpx.get(f"{url}/v1/hardware", timeout=10).json()
    assert hardware["profile"] == "development"
    assert hardware["versions"]["bundle"] == "1.0.0"
    assert hardware["slot"] == "a"
    assert hardware["fit"]["fits"] is True
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(state) in _read(p)]


@pytest.mark.sample
def test_device_without_a_network_and_a_cache_installs_from_a_folder(
    world: World, tmp_path: Path
) -> None:
    state = tmp_path / "device"
    state.mkdir()
    provision(world, state, "stable")
    argv = [sys.executable, "-m", "forge", "device", "run", "--once", "--port", "0"]
    argv += ["--state", str(state)]
    nothing = {name: str(tmp_path / name) for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME")}
    nothing |= {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0:
        argv = [*alone, *argv]  # else only the package index cannot be reached
    done = subprocess.run(
        argv, cwd=state, env=os.environ | nothing, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "committed: slot a holds smollm2 1.0.0" in done.stderr
    wheels = (state / "slots/a/tree/runtime/wheels").iterdir()
    bundled = {tuple(path.name.lower().split("-")[:2]) for path in wheels}
    (packages,) = state.glob("environments/triton-openvino-*/lib/python*/site-packages")
    installed = {path.stem.lower() for path in packages.glob("*.dist-info")}
    assert {"-".join(one) for one in bundled} == installed
    assert [name for name, _ in bundled if name == "openvino"]


def test_bundle_that_does_not_fit_is_refused_before_any_download(world: World, state: Path) -> None:
    world.release("2.0.0", "--channel", "huge", "--yes", "--set", "requires.memory_mib=99999999")
    provision(world, state, "huge")
    done = world.forge("device", "run", "--once", "--state", str(state), fails=8)
    assert "memory" in done.stderr
    assert not any((state / "slots").rglob("*.bin"))
    assert world.json("device", "status", "--state", str(state))["release"] is None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""  # it ended while we looked
