"""The wheel brings what `forge init` writes, and nothing of the tests."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture
def project(wheel: Path, tmp_path: Path) -> Path:
    """A project that the wheel's own `forge init` wrote."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    made = tmp_path / "project"
    run(
        [sys.executable, "-c", "import forge.__main__", "init", str(made)],
        cwd=tmp_path,
        PYTHONPATH=str(site),
    )
    return made


def run(argv: list[str], cwd: Path, **environment: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    done = subprocess.run(
        argv, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_wheel_holds_nothing_of_the_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".forge/"))]
    assert "forge/template/requirements.lock" in names  # images of Forge itself


def test_wheel_writes_the_project_that_a_checkout_writes(project: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    run([sys.executable, "-m", "forge", "init", str(ours)], cwd=ROOT)
    assert content(project) == content(ours)


def test_project_of_the_wheel_passes_its_check_with_the_wheel_alone(
    project: Path, tmp_path: Path
) -> None:
    forge = [sys.executable, "-c", "import forge.__main__", "check"]
    site = str(tmp_path / "site")
    shown = run(forge, cwd=project, PYTHONPATH=site, FORGE_CACHE=str(tmp_path / "cache"))
    assert "pipeline release for development" in shown
    # The device image installs Forge's own lock, which the wheel must bring.
    assert "pipeline images for development" in shown


def test_device_without_a_project_knows_the_profiles_of_the_wheel(
    project: Path, tmp_path: Path
) -> None:
    argv = [sys.executable, "-c", "import forge.__main__", "device", "detect", "--json"]
    shown = run(argv, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert json.loads(shown)["profile"] in {path.stem for path in project.glob("profiles/*")}


@pytest.mark.slow
@pytest.mark.network
def test_install_script_of_a_new_project_installs_forge_from_a_wheel(
    project: Path, wheel: Path, tmp_path: Path
) -> None:
    path = tmp_path / "path"
    environment = {"PYTHON": sys.executable, "GITHUB_PATH": str(path)}
    run(["scripts/install-forge"], cwd=project, FORGE_PACKAGE=str(wheel), **environment)
    assert path.read_text() == f"{project}/.venv/bin\n"
    assert "pipeline release for development" in run([".venv/bin/forge", "check"], cwd=project)


def test_install_script_says_which_variable_a_new_project_lacks(project: Path) -> None:
    environment = {"PYTHON": sys.executable, "FORGE_PACKAGE": ""}
    done = subprocess.run(
        ["scripts/install-forge"], cwd=project, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "::error::Set the repository variable FORGE_PACKAGE" in done.stdout
    assert not (project / ".venv").exists()


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
