"""A project with keys and a store, and the forge command run in it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ("release", "--profile", "development")


@dataclass(frozen=True)
class World:
    """A project with keys and a store, and the forge command run in it."""

    project: Path

    @property
    def keys(self) -> Path:
        """Its keys: where they are by default, in a configuration folder of its own."""
        return self._config / "forge/keys" / self.project.name

    @property
    def _config(self) -> Path:
        return self.project.parent / f"{self.project.name}-config"

    def forge(
        self, *arguments: str, fails: int = 0, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one command; it must end with exit code `fails`."""
        environment = os.environ | {
            "FORGE_PASSPHRASE": "words of the test",
            "XDG_CONFIG_HOME": str(self._config),
            **(env or {}),
        }
        done = subprocess.run(
            [sys.executable, "-m", "forge", *arguments],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == fails, f"{arguments}: {done.returncode}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        """Run one command with --json and parse what it printed."""
        return json.loads(self.forge(*arguments, "--json").stdout)

    def release(self, version: str, *more: str, fails: int = 0) -> str:
        """Run the release pipeline; returns what it said on standard error."""
        return self.forge("run", *RELEASE, "--version", version, *more, fails=fails).stderr

    def channels(self) -> dict[str, str]:
        """Version by channel."""
        return {row["channel"]: row["version"] for row in self.json("channels")}


def copy_project(folder: Path) -> World:
    """This repository's own project, copied, with an empty store.

    Tool environments are this checkout's own, so they are installed once.
    """
    for name in ("pipelines", "stages", "profiles", "dockerfiles", "references"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    environments = ROOT / ".forge" / "environments"
    environments.mkdir(parents=True, exist_ok=True)
    (folder / ".forge").mkdir()
    (folder / ".forge" / "environments").symlink_to(environments)
    return World(folder)
