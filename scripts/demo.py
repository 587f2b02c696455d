"""`make demo`: a real language model through every link of the chain, on this machine.

It only runs `forge` commands, as a release engineer and a device would, and prints each of them.
Everything it writes lies in `.forge/` and `artifacts/` of this checkout. FORGE_DEMO_REPORT names a
file that gets the last table as JSON (benchmarks/demo.py reads it).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx

from forge.bundle import channel_path, version_order
from forge.cli.common import bytes_text, print_table
from forge.device import commands
from forge.files import write_durably
from forge.release.catalog import Catalog
from forge.store import open_objects

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".forge" / "demo"
FORGE = str(Path(sys.executable).parent / "forge")
NAME, PROFILE, CHANNEL = "smollm2", "development", "stable"
QUESTION = "What is the capital of France?"
READY_TIMEOUT_S = 300.0


@dataclass
class Row:
    """One line of the last table."""

    link: str
    went_in: str
    came_out: str
    seconds: str
    size: str


@dataclass
class Table:
    """What each link did."""

    rows: list[Row] = field(default_factory=list)

    def add(self, link: str, went_in: str, came_out: str, seconds: float | str, size: int) -> None:
        """Append a line."""
        text = seconds if isinstance(seconds, str) else f"{seconds:.1f}"
        self.rows.append(Row(link, went_in, came_out, text, bytes_text(size) if size else "—"))

    def show(self) -> None:
        """Print the table."""
        header = ("link", "what went in", "what came out", "seconds", "size")
        rows = [(r.link, r.went_in, r.came_out, r.seconds, r.size) for r in self.rows]
        print_table(header, rows)


def main() -> int:
    """Run the demo; returns the exit code of the first command that failed, else 0."""
    WORK.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"FORGE_PASSPHRASE_FILE": str(_passphrase())}
    os.chdir(ROOT)
    table = Table()
    try:
        version = _release(environment, table)
        _device(environment, table, version)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        click.echo("\nStopped. Run `make demo` again to go on where it was.")
        return 130
    _title("What happened")
    table.show()
    if report := os.environ.get("FORGE_DEMO_REPORT"):
        Path(report).write_text(json.dumps([asdict(row) for row in table.rows], indent=2))
    click.echo("\nEvery process is stopped. Run `make demo` again: unchanged links cost nothing.")
    return 0


def _passphrase() -> Path:
    """The demo's own passphrase, made once; a real one comes from a prompt or a secret store."""
    path = WORK / "passphrase"
    if not path.is_file():
        write_durably(path, secrets.token_urlsafe(24).encode(), mode=0o600)
    return path


def _title(text: str) -> None:
    click.echo(click.style(f"\n── {text} ", bold=True) + "─" * max(0, 72 - len(text)))


def _forge(environment: dict[str, str], *arguments: str, capture: bool = False) -> str:
    """Run one command, shown as a person would type it. Raises CalledProcessError."""
    click.echo(click.style(f"$ forge {' '.join(arguments)}", fg="cyan"))
    sys.stdout.flush()
    process = subprocess.Popen(
        [FORGE, *arguments], env=environment, stdout=subprocess.PIPE if capture else None, text=True
    )
    try:
        output, _ = process.communicate()
    except KeyboardInterrupt:
        # The terminal sent it Ctrl-C too; it ends its own children first, and that takes a moment.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        _end(process)
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, f"forge {arguments[0]}")
    return output or ""


def _end(process: subprocess.Popen[Any]) -> None:
    """Ask a command to end and wait until it has ended all that it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _release(environment: dict[str, str], table: Table) -> str:
    """Release and promote; returns the version."""
    if not (ROOT / ".forge" / "keys" / "keys.json").is_file():
        _title("Keys: the root of trust, made once")
        _forge(environment, "keys", "init")
    version, pipeline = _version(environment)
    _title("Plan: what there is to do, before anything runs")
    _forge(environment, "plan", *pipeline)
    _title("Release: checkpoint → engine → repository → smoke → proofs → publish")
    started = time.monotonic()
    steps = json.loads(_forge(environment, "run", *pipeline, "--json", capture=True))
    for step in steps:
        _add_step(table, step, version)
    promoting = time.monotonic()
    _forge(environment, "promote", version, CHANNEL, "--name", NAME)
    channel = Catalog(open_objects(str(ROOT / "artifacts"))).index.channels
    pointer = channel[channel_path(NAME, CHANNEL)]
    came = f"channel {CHANNEL}, document {pointer.sha256[:8]}"
    table.add("promote", f"{NAME} {version}", came, time.monotonic() - promoting, pointer.length)
    click.echo(f"released in {time.monotonic() - started:.1f} s")
    return version


def _version(environment: dict[str, str]) -> tuple[str, list[str]]:
    """The version to publish and the pipeline's arguments.

    The newest published one, which publishes nothing again, while every step of it is stored; the
    next one when this checkout has changed; 1.0.0 at first.
    """
    listed = json.loads(_forge(environment, "bundle", "list", "--json", capture=True))
    newest = next((row["version"] for row in listed if row["name"] == NAME), None)
    version = newest or "1.0.0"
    pipeline = ["release", "--profile", PROFILE, "--version", version]
    if newest is None:
        return version, pipeline
    rows = json.loads(_forge(environment, "plan", *pipeline, "--json", capture=True))
    changed = [row["step"] for row in rows if row["status"] not in {"hit", "always", "waits"}]
    if not changed:
        return version, pipeline
    version = _next(version)
    click.echo(f"{', '.join(changed)} changed, so the bundle is the next version: {version}")
    return version, [*pipeline[:-1], version]


def _next(version: str) -> str:
    """The next patch version."""
    major, minor, patch, *_ = version_order(version)
    return f"{major}.{minor}.{patch + 1}"


def _add_step(table: Table, step: dict[str, Any], version: str) -> None:
    seconds = "stored" if step["status"] == "hit" else float(step["seconds"])
    if step["step"] == "publish":
        index = Catalog(open_objects(str(ROOT / "artifacts"))).index
        manifest = index.published(NAME, version)[PROFILE]
        came = f"{NAME} {version} on canary, manifest {manifest.sha256[:8]}"
        went = f"{len(step['inputs'])} trees by digest"
        table.add("publish", went, came, seconds, manifest.length)
        return
    inputs = ", ".join(f"{name} {digest[:8]}" for name, digest in step["inputs"].items())
    outputs = ", ".join(f"{name} {out['digest'][:8]}" for name, out in step["outputs"].items())
    size = sum(out["size"] for out in step["outputs"].values())
    table.add(step["step"], inputs or "pinned URL", outputs, seconds, size)


def _device(environment: dict[str, str], table: Table, version: str) -> None:
    state = WORK / "device"
    root = ROOT / ".forge" / "keys" / "root.json"
    _title("Device: a process of its own that knows the store's URL and root.json, no more")
    _forge(
        environment, "device", "provision", "--state", str(state), "--store",
        str(ROOT / "artifacts"), "--root", str(root), "--name", NAME, "--channel", CHANNEL,
    )  # fmt: skip
    started = time.monotonic()
    with _running_device(environment, state, version) as url:
        seconds = time.monotonic() - started
        _forge(environment, "device", "status", "--state", str(state))
        status = commands.status(state)
        manifest = status.release.manifest[:8] if status.release else "none"
        slot = f"slot {status.slot}, {status.release}, manifest {manifest}"
        look = status.agent.look if status.agent else None
        fetched = look.fetched_bytes if look else 0
        table.add("device", f"channel {CHANNEL}", slot, seconds, fetched)
        _ask(url, table)


@contextlib.contextmanager
def _running_device(environment: dict[str, str], state: Path, version: str) -> Iterator[str]:
    """The device's agent, stopped at the end whatever happens; yields the URL of its API."""
    argv = ["device", "run", "--state", str(state), "--port", "0"]
    click.echo(click.style(f"$ forge {' '.join(argv)} &", fg="cyan"))
    sys.stdout.flush()
    device_environment = {
        name: value for name, value in environment.items() if not name.startswith("FORGE_")
    }
    process = subprocess.Popen([FORGE, *argv], env=device_environment)
    try:
        yield _wait_ready(process, state, version)
    finally:
        _end(process)


def _wait_ready(process: subprocess.Popen[bytes], state: Path, version: str) -> str:
    """Until the API serves `version`. Raises CalledProcessError when the agent ends before that."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            raise subprocess.CalledProcessError(code or 1, "forge device run")
        status = commands.status(state)
        agent = status.agent
        serves = status.release is not None and status.release.version == version
        if serves and agent is not None and agent.url is not None and _is_ready(agent.url):
            return agent.url
        time.sleep(0.2)
    click.echo(f"The device was not ready after {READY_TIMEOUT_S:.0f} s", err=True)
    raise subprocess.CalledProcessError(10, "forge device run")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False  # not listening yet


def _ask(url: str, table: Table) -> None:
    _title("Serve: one API in front of Triton")
    click.echo(click.style(f"$ curl {url}/v1/hardware", fg="cyan"))
    hardware = httpx.get(f"{url}/v1/hardware", timeout=10).raise_for_status().json()
    click.echo(json.dumps(hardware, indent=2))
    body = {"prompt": QUESTION, "max_tokens": 48, "stream": True}
    click.echo(click.style(f"$ curl -N {url}/v1/inference -d '{json.dumps(body)}'", fg="cyan"))
    started = time.monotonic()
    answer = ""
    with httpx.stream("POST", f"{url}/v1/inference", json=body, timeout=60) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    raise click.ClickException(str(event["error"]))
                text = event.get("text", "")
                answer += text
                click.echo(text, nl=False)
    click.echo()
    seconds = time.monotonic() - started
    table.add("answer", QUESTION, answer.strip()[:60], seconds, len(answer.encode()))


if __name__ == "__main__":
    sys.exit(main())
