"""The wheel brings what `forge init` writes, and nothing of the tests."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_wheel_writes_a_project_that_plans(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".forge/"))]

    assert "forge/requirements.lock" in names  # the dagger runner makes Forge's image from it

    environment = os.environ | {"PYTHONPATH": str(site), "FORGE_CACHE": str(tmp_path / "cache")}
    made = tmp_path / "project"

    def forge(*arguments: str) -> str:
        argv = [sys.executable, "-c", "import forge.__main__", *arguments]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    forge("init", str(made))
    plan = forge("plan", "release", "--profile", "development", "--project", str(made))
    assert "engine@development" in plan
