"""`make demo`: release a real language model and serve it, on this machine.

It only runs `forge` commands, as a release engineer and a device would, and prints each of them:
a first version from its checkpoint to an answer (this file), then an update and a faulty update
while a client sends requests without a pause (demo_updates.py). It writes only to `.forge/` and
`artifacts/` of this checkout. FORGE_DEMO_REPORT names a file for the summary table as JSON
(benchmarks/demo.py reads it).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import demo_updates
import httpx
from demo_shell import (
    CHANNEL,
    FORGE,
    KEYS,
    NAME,
    PROFILE,
    QUESTION,
    ROOT,
    WORK,
    Table,
    end,
    forge,
    show,
    title,
)
from demo_updates import Versions

from forge.bundle import channel_path, version_order
from forge.device import commands
from forge.files import write_durably
from forge.release.catalog import Catalog
from forge.store import open_objects

READY_TIMEOUT_S = 300.0
POLL_S = 2


def main() -> int:
    """Run the demo; returns the exit code of the first command that failed, else 0."""
    WORK.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "FORGE_PASSPHRASE_FILE": str(_passphrase()),
        "FORGE_KEYS": str(KEYS),
    }
    os.chdir(ROOT)
    table = Table()
    try:
        versions = _release(environment, table)
        answered = _device(environment, table, versions)
    except subprocess.CalledProcessError as error:
        return error.returncode
    except KeyboardInterrupt:
        click.echo("\nInterrupted. Run `make demo` again to resume.")
        return 130
    title("Summary")
    table.show()
    if report := os.environ.get("FORGE_DEMO_REPORT"):
        Path(report).write_text(json.dumps([asdict(row) for row in table.rows], indent=2))
    click.echo(_next_steps(versions.second))
    return 0 if answered else 1


def _next_steps(version: str) -> str:
    return f"""
All processes are stopped. Run `make demo` again to see cached steps. Next:
  export PATH=$PWD/.venv/bin:$PATH FORGE_KEYS={KEYS.relative_to(ROOT)}
  forge bundle show {version} --profile {PROFILE}   # what was published
  forge profile list                              # the devices it can build for
  less docs/tutorial/first-bundle.md              # a project and keys of your own"""


def _passphrase() -> Path:
    """Return the file of the demo's passphrase; elsewhere use a prompt or a secret store."""
    path = WORK / "passphrase"
    if not path.is_file():
        write_durably(path, secrets.token_urlsafe(24).encode(), mode=0o600)
    return path


def _release(environment: dict[str, str], table: Table) -> Versions:
    """Release and promote the first version; returns all three."""
    for name in ("FORGE_KEYS", "FORGE_PASSPHRASE_FILE"):
        show("export", f"{name}={environment[name]}")
    if not (KEYS / "keys.json").is_file():
        title("Create the signing keys")
        forge(environment, "keys", "init", "--disposable")
    versions = _versions(environment)
    pipeline = _pipeline(versions.first)
    title("Show the plan")
    forge(environment, "plan", *pipeline)
    title("Release: fetch, compile, render, benchmark, sign, publish")
    started = time.monotonic()
    steps = json.loads(forge(environment, "run", *pipeline, "--json", capture=True))
    for step in steps:
        _add_step(table, step, versions.first)
    promoting = time.monotonic()
    catalog = Catalog(open_objects(str(ROOT / "artifacts")))
    now = catalog.channels(NAME).get(CHANNEL, versions.first)
    back = ["--force"] if version_order(now) > version_order(versions.first) else []
    forge(environment, "promote", versions.first, CHANNEL, "--name", NAME, "--yes", *back)
    channel = Catalog(open_objects(str(ROOT / "artifacts"))).index.channels
    pointer = channel[channel_path(NAME, CHANNEL)]
    came = f"channel {CHANNEL}, document {pointer.sha256[:8]}"
    seconds = time.monotonic() - promoting
    table.add("promote", f"{NAME} {versions.first}", came, seconds, pointer.length)
    click.echo(f"Released {NAME} {versions.first} in {time.monotonic() - started:.1f} s")
    return versions


def _pipeline(version: str) -> list[str]:
    return ["release", "--profile", PROFILE, "--version", version]


def _versions(environment: dict[str, str]) -> Versions:
    """The versions to publish.

    Those of the last run, which publishes nothing again, while all their steps are stored; the next
    minor ones when this checkout has changed; 1.0.0 to 1.0.2 at first.
    """
    kept, sources = WORK / "versions.json", _sources()
    listed = json.loads(forge(environment, "bundle", "list", "--json", capture=True))
    published = [row["version"] for row in listed if row["name"] == NAME]
    major, minor = 1, 0
    if published:
        last = json.loads(kept.read_bytes()) if kept.is_file() else {}
        major, minor, *_ = version_order(last.get("first", published[0]))
        if last.get("sources") != sources or _changed(environment, f"{major}.{minor}.0"):
            major, minor, *_ = version_order(published[0])
            minor += 1
    versions = Versions(*(f"{major}.{minor}.{patch}" for patch in range(3)))
    record = {"first": versions.first, "sources": sources}
    write_durably(kept, json.dumps(record).encode())
    return versions


def _sources() -> str:
    """Digest of what makes the second and the third version other than the first."""
    parts = (ROOT / "scripts" / name for name in ("careless.py", "demo_updates.py"))
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def _changed(environment: dict[str, str], version: str) -> bool:
    rows = json.loads(forge(environment, "plan", *_pipeline(version), "--json", capture=True))
    changed = [row["step"] for row in rows if row["status"] not in {"hit", "always", "waits"}]
    if changed:
        click.echo(f"Releasing new versions, because these steps changed: {', '.join(changed)}")
    return bool(changed)


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
    source = "lock with hashes" if step["step"].startswith("packages@") else "pinned URL"
    table.add(step["step"], inputs or source, outputs, seconds, size)


def _device(environment: dict[str, str], table: Table, versions: Versions) -> bool:
    """Run the device's part; return whether its API answered every request."""
    state = WORK / "device"
    root = KEYS / "root.json"
    title("Install on a device that has only the store's URL and root.json")
    _empty(state)
    forge(
        environment, "device", "provision", "--state", str(state), "--store",
        str(ROOT / "artifacts"), "--root", str(root), "--name", NAME, "--channel", CHANNEL,
        "--profile", "development",  # by name, so that it also runs where there is a GPU
    )  # fmt: skip
    started = time.monotonic()
    with _running_device(environment, state, versions.first) as url:
        seconds = time.monotonic() - started
        forge(environment, "device", "status", "--state", str(state))
        status = commands.status(state)
        manifest = status.release.manifest[:8] if status.release else "none"
        slot = f"slot {status.slot}, {status.release}, manifest {manifest}"
        fetched = demo_updates.fetched_bytes(state, versions.first)
        table.add("device", f"channel {CHANNEL}", slot, seconds, fetched)
        _ask(url, table)
        return demo_updates.run(environment, table, state, url, versions)


def _empty(state: Path) -> None:
    """Reset the device's state, but keep the Python packages that it installed."""
    for left in state.iterdir() if state.is_dir() else ():
        if left.name != "environments":
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


@contextlib.contextmanager
def _running_device(environment: dict[str, str], state: Path, version: str) -> Iterator[str]:
    """Run the device agent during the body; yield the URL of its API."""
    argv = ["device", "run", "--state", str(state), "--port", "0", "--poll-s", str(POLL_S)]
    show("forge", *argv, "&")
    device_environment = {
        name: value for name, value in environment.items() if not name.startswith("FORGE_")
    }
    process = subprocess.Popen([FORGE, *argv], env=device_environment)
    try:
        yield _wait_ready(process, state, version)
    finally:
        end(process)


def _wait_ready(process: subprocess.Popen[bytes], state: Path, version: str) -> str:
    """Wait until the API serves `version`. Raises CalledProcessError if the agent exits first."""
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
    title("Send a request to the device's API")
    show(f"curl {url}/v1/hardware")
    hardware = httpx.get(f"{url}/v1/hardware", timeout=10).raise_for_status().json()
    click.echo(json.dumps(hardware, indent=2))
    body = {"prompt": QUESTION, "max_tokens": 48, "stream": True}
    show(f"curl -N {url}/v1/inference --json '{json.dumps(body)}'")
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
