"""Real clients of the API, each in an environment of its own: tests/clients/<group>.

The environments lie beside those of Forge in the checkout's cache and are made once. A client is
a program of tests/clients that runs its cases and prints their results: tests/clients/cases.py.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import uv

from tests.support import caches

__all__ = ["CLIENTS", "Answers", "environment", "node_modules", "run", "settings"]

CLIENTS: Final = caches.ROOT / "tests" / "clients"
AIPERF: Final = caches.ROOT / "benchmarks" / "aiperf"
CACHE: Final = caches.ROOT / ".forge" / "clients"
_INSTALL_S: Final = 900
_RUN_S: Final = 540
# None of these programs may wait for a service that is not the device.
_OFFLINE: Final = {
    "DO_NOT_TRACK": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_API_KEY": "none",
}


@dataclass(frozen=True)
class Answers:
    """What the cases of one client gave."""

    results: Mapping[str, Mapping[str, Any]]
    log: str

    def __call__(self, case: str) -> Any:
        """The value of a case; the test fails with the client's own error if it has none."""
        found = self.results[case]
        if "error" in found:
            pytest.fail(f"{case}: {found['error']}: {found['message']}", pytrace=False)
        return found["value"]


@functools.cache
def environment(group: str) -> Path:
    """The virtual environment of a lock; skips the test if its packages cannot be had."""
    folder = AIPERF if group == "aiperf" else CLIENTS / group
    locks = [folder / "requirements.lock", *folder.glob("build.lock")]
    key = hashlib.sha256(b"".join(one.read_bytes() for one in locks)).hexdigest()[:16]
    target = CACHE / f"{group}-{key}"
    if not target.is_dir():
        made = CACHE / f"making-{group}-{os.getpid()}"
        program = [uv.find_uv_bin()]
        python = getattr(sys, "_base_executable", sys.executable)
        _install(made, [*program, "venv", "--relocatable", "--python", python, str(made)])
        built = [part for lock in locks[1:] for part in ("--build-constraints", str(lock))]
        sync = ["pip", "sync", "--require-hashes", "--link-mode", "copy", *built]
        into = ["--python", str(made / "bin" / "python"), str(locks[0])]
        _install(made, [*program, *sync, *into])
        _keep(made, target)
    return target


@functools.cache
def node_modules() -> Path:
    """A folder with the programs and packages for Node; skips if there is no Node."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node is not installed: apt-get install nodejs npm")
    folder = CLIENTS / "node"
    key = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()[:16]
    target = CACHE / f"node-{key}"
    if not target.is_dir():
        made = CACHE / f"making-node-{os.getpid()}"
        made.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(folder / name, made)
        _install(made, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=made)
        _keep(made, target)
    for program in folder.glob("*.mjs"):
        shutil.copy(program, target)
    return target


def _install(made: Path, argv: list[str], cwd: Path | None = None) -> None:
    made.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        argv, cwd=cwd, capture_output=True, text=True, timeout=_INSTALL_S, check=False
    )
    if done.returncode:
        shutil.rmtree(made, ignore_errors=True)
        said = done.stderr or done.stdout
        pytest.skip(f"{made.name} cannot be installed: {said.strip()[-400:]}")


def _keep(made: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(made)  # somebody else was quicker
    else:
        made.rename(target)


def settings(**more: str) -> dict[str, str]:
    """The environment variables of a client's program."""
    paths = {"PYTHONPATH": str(CLIENTS)}
    return {**os.environ, **_OFFLINE, **paths, **more}


def run(program: str, url: str) -> Answers:
    """Run all cases of `GROUP/NAME.py` or `node/NAME.mjs` against a device."""
    group, _, name = program.partition("/")
    if group == "node":
        argv = ["node", str(node_modules() / name), url]
    else:
        argv = [str(environment(group) / "bin" / "python"), str(CLIENTS / program), url]
    done = subprocess.run(
        argv, env=settings(), capture_output=True, text=True, timeout=_RUN_S, check=False
    )
    _, found, results = done.stdout.rpartition("\nRESULTS ")
    assert found, f"{program} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return Answers(json.loads(results), done.stderr)
