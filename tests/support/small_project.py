"""A project of one profile and one pipeline of shell steps, with keys, a store and a device.

Every command of `forge` can run in it within a second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.device import commands
from forge.device.shared.release import Release
from forge.device.state.directory import StateDirectory
from forge.device.telemetry.history import DeviceEvent, History
from forge.release.attest.predicates import Predicate
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE, PERFORMANCE, PERFORMANCE_TYPE
from tests.support.receipts import receipt
from tests.support.release_world import PASSPHRASE, World
from tests.support.smoke_results import result

ROOT: Final = Path(__file__).resolve().parents[2]
PIPELINE: Final = """\
from forge.plan import Plan
from forge.steps import Step


def release(profiles, *, version: str = "1.0.0", fail: bool = False) -> Plan:
    \"""Compile nothing, and say so.

    Args:
        version: the version of the bundle, which this pipeline does not publish
        fail: fail the last step
    \"""
    steps = []
    for profile in profiles:
        first = Step(
            id=f"engine@{profile.name}", argv=("sh", "-ceu", "echo made > ${outputs.engine}/f"),
            outputs=("engine",), settings={"version": version})
        script = "echo a line of the log that is a little longer than sixty columns are; exit 5"
        steps.append(Step(
            id=f"smoke@{profile.name}", argv=("sh", "-ceu", script if fail else "true"),
            inputs={"engine": first["engine"]}))
    return Plan.of("release", [], steps)
"""
BUNDLE: Final = "demo"


@dataclass(frozen=True)
class SmallProject:
    """The project; `state` is the folder of a device that follows its store."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "device"

    def run(
        self, *arguments: str, width: int | None = None, fails: int | None = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of `forge`; `fails`: its exit code, None: any."""
        environment = os.environ | {"FORGE_PASSPHRASE": PASSPHRASE} | variables
        environment |= {} if width is None else {"COLUMNS": str(width)}
        done = subprocess.run(
            [sys.executable, "-m", "forge", *arguments],
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert fails is None or done.returncode == fails, (arguments, done.stdout, done.stderr)
        return done


def small_project(folder: Path) -> SmallProject:
    """Make the project; two versions are published, and a device was provisioned."""
    for name in ("profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "release.py").write_text(PIPELINE)
    (folder / "stages").mkdir()
    (folder / ".forge").mkdir()
    world = World(folder / ".forge")
    (folder / ".forge" / "store").mkdir(exist_ok=True)
    for version, kl_mean in (("1.0.0", 0.001), ("1.1.0", 0.0012)):
        found = receipt(kl_mean=kl_mean).model_dump(mode="json")
        measured = result().model_dump(mode="json")
        world.release(
            version,
            Predicate(ACCURACY, ACCURACY_TYPE, found),
            Predicate(PERFORMANCE, PERFORMANCE_TYPE, measured),
        )
    world.promote("1.0.0", "stable")
    (folder / ".forge" / "store").rename(folder / "artifacts")
    project = SmallProject(folder)
    root = (folder / ".forge" / "keys" / "root.json").read_bytes()
    commands.provision(project.state, str(folder / "artifacts"), root, BUNDLE, "stable")
    _add_history(project.state)
    return project


def _add_history(state: Path) -> None:
    release = Release(name=BUNDLE, version="1.1.0", profile="development", manifest="a" * 64)
    reason = "the model server did not load the model within 60 s: libcudart.so.12 was not found"
    history = History(StateDirectory(state).path)
    for event in ("installing", "not-kept"):
        history.append(
            DeviceEvent(at="2026-11-24T04:00:00Z", event=event, release=release, slot="b",
                        reason=reason if event == "not-kept" else "")
        )  # fmt: skip
