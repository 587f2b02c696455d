"""The second half of the demo: an update and a faulty one, while a client sends requests."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from demo_shell import CHANNEL, NAME, PROFILE, QUESTION, ROOT, WORK, Table, forge, say, show, title

from forge.bundle import Manifest
from forge.cli.common import bytes_text
from forge.cli.terminal import headline
from forge.device import commands, maintenance
from forge.device.telemetry.status import DeviceStatus
from forge.release.catalog import Catalog
from forge.store import open_objects

CHANGE = "serving.default_max_tokens=256"
CARELESS = WORK / "careless"
TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Versions:
    """What the demo releases: a good one, one with a small change, and a bad one."""

    first: str
    second: str
    bad: str


@dataclass
class Applications:
    """One client that asks the device's API from a thread, and what became of its questions."""

    url: str
    answered: Counter[str] = field(default_factory=Counter)  # by version
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the body ends; every question has its answer or its failure then."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        with httpx.Client(trust_env=False, timeout=120) as client:
            while not stop.is_set():
                began = time.monotonic()
                self._ask(client)
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _ask(self, client: httpx.Client) -> None:
        body = {"prompt": QUESTION, "max_tokens": 16}
        try:
            response = client.post(f"{self.url}/v1/inference", json=body)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if not response.is_success:
            self.failed.append(f"{response.status_code}: {response.text}")
            return
        answer = response.json()
        self.answered[answer["release"]["version"]] += 1
        self.wrong += "Paris" not in answer["text"]


def run(
    environment: dict[str, str], table: Table, state: Path, url: str, versions: Versions
) -> bool:
    """Release, update, release badly, go back. Returns whether every question was answered."""
    _release_second(environment, table, versions.second)
    title("Update the device while a client sends requests without a pause")
    show(f'while true; do curl {url}/v1/inference --json \'{{"prompt": "{QUESTION}"}}\'; done &')
    applications = Applications(url)
    with applications.asking():
        _update(environment, table, state, versions.second)
        _release_bad(environment, table, versions.bad)
        _refuse(environment, table, state, versions)
    title("Requests during the updates")
    _tell(applications, table)
    return not applications.failed and not applications.wrong


def fetched_bytes(state: Path, version: str) -> int:
    """What the device read from the store for a version, as its history says."""
    found = maintenance.history(state)
    return next(
        one.fetched_bytes
        for one in reversed(found)
        if one.event == "fetched" and one.release and one.release.version == version
    )


def _release_second(environment: dict[str, str], table: Table, version: str) -> None:
    title("Release a second version with longer answers by default")
    pipeline = ["release", "--profile", PROFILE, "--version", version, "--set", CHANGE]
    _run_pipeline(environment, table, f"release {version}", pipeline)


def _update(environment: dict[str, str], table: Table, state: Path, version: str) -> None:
    began = time.monotonic()
    forge(environment, "promote", version, CHANNEL, "--name", NAME)
    status = _wait(state, lambda now: now.state == "idle" and _is(now, version))
    seconds = time.monotonic() - began
    sizes = _sizes(state, version)
    proofs = bytes_text(_manifest(version).proofs.size)
    say(f"{NAME} {version} serves from slot {status.slot}")
    say(f"Fetched {sizes}, and {proofs} of proofs")
    came = f"slot {status.slot}, {NAME} {version}"
    table.add("update", f"{NAME} {version} on {CHANNEL}", came, seconds, sizes)


def _release_bad(environment: dict[str, str], table: Table, version: str) -> None:
    title("Release a third version that answers wrongly")
    say(
        "The quality gate of `forge run release` rejects a model that answers wrongly. So\n"
        "this is another pipeline, scripts/careless.py: it damages the model and accepts\n"
        "any answer. Its author has the signing keys, so all signatures are valid."
    )
    _make_careless_project()
    pipeline = ["careless", "--project", str(CARELESS), "--store", str(ROOT / "artifacts")]
    pipeline += ["--profile", PROFILE, "--version", version, "--set", CHANGE]
    _run_pipeline(environment, table, f"careless {version}", pipeline)


def _refuse(environment: dict[str, str], table: Table, state: Path, versions: Versions) -> None:
    title("The device checks the update and rolls back automatically")
    began = time.monotonic()
    forge(environment, "promote", versions.bad, CHANNEL, "--name", NAME)
    status = _wait(
        state,
        lambda now: (
            now.state == "idle" and any(one.release.version == versions.bad for one in now.bad)
        ),
    )
    seconds = time.monotonic() - began
    forge(environment, "device", "status", "--state", str(state))
    say(f"The device rejected {NAME} {versions.bad}: {headline(status.bad[-1].reason)}")
    came = f"rejected; slot {status.slot} still serves {versions.second}"
    sizes = _sizes(state, versions.bad)
    table.add("bad update", f"{NAME} {versions.bad} on {CHANNEL}", came, seconds, sizes)
    say("Point the channel back to the good version, for all other devices:")
    forge(environment, "promote", versions.second, CHANNEL, "--name", NAME, "--force")


def _tell(applications: Applications, table: Table) -> None:
    answered, failed = applications.answered.total(), len(applications.failed)
    by_version = ", ".join(f"{count} by {one}" for one, count in applications.answered.items())
    say(f"{answered + failed} requests: {answered} answered, {failed} failed")
    say(f"Answered by version: {by_version}; {applications.wrong} answered wrongly")
    say(f"Longest response time: {applications.longest_s:.1f} s")
    for reason in applications.failed[:3]:
        say(f"Failed: {reason}")
    came = f"{answered} answers, {failed} failed"
    table.add("requests", f"{answered + failed} requests", came, "—", 0)


def _make_careless_project() -> None:
    """The same stages and profiles, another pipeline."""
    shutil.rmtree(CARELESS, ignore_errors=True)
    (CARELESS / "pipelines").mkdir(parents=True)
    for folder in ("stages", "profiles", "dockerfiles"):
        (CARELESS / folder).symlink_to(ROOT / folder)
    shutil.copyfile(ROOT / "scripts" / "careless.py", CARELESS / "pipelines" / "careless.py")


def _run_pipeline(
    environment: dict[str, str], table: Table, link: str, pipeline: list[str]
) -> None:
    began = time.monotonic()
    steps = json.loads(forge(environment, "run", *pipeline, "--json", capture=True))
    seconds = time.monotonic() - began
    names: dict[str, list[str]] = {"hit": [], "ran": []}
    for step in steps:
        names["hit" if step["status"] == "hit" else "ran"].append(step["step"])
    cached, ran = (", ".join(names[kind]) or "none" for kind in ("hit", "ran"))
    say(f"Cached: {cached}\nRan: {ran}")  # at once: the device writes to the same terminal
    table.add(link, f"{len(names['hit'])} cached steps", f"{len(names['ran'])} run", seconds, 0)


def _sizes(state: Path, version: str) -> str:
    """`1.8 kB of 97.9 MB`: what was fetched of a bundle."""
    size = _manifest(version).tree.size
    return f"{bytes_text(fetched_bytes(state, version))} of {bytes_text(size)}"


def _manifest(version: str) -> Manifest:
    catalog = Catalog(open_objects(str(ROOT / "artifacts")))
    return catalog.manifest(NAME, version, PROFILE)


def _is(status: DeviceStatus, version: str) -> bool:
    return status.release is not None and status.release.version == version


def _wait(state: Path, condition: Callable[[DeviceStatus], bool]) -> DeviceStatus:
    """Wait for a state of the device. Raises CalledProcessError if its agent exits first."""
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until:
        status = commands.status(state)
        if condition(status):
            return status
        if status.agent is None:
            break
        time.sleep(0.2)
    say("The device did not reach the expected state; its log is above")
    raise subprocess.CalledProcessError(10, "forge device run")
