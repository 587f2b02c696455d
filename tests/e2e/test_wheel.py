"""The wheel brings what `forge init` writes, and nothing of the tests."""

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from uv import find_uv_bin

from forge.files import sha256_file

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
    # What images of Forge itself install.
    assert {f"forge/template/requirements{kind}.lock" for kind in ("", "-device-s3")} <= set(names)
    assert "forge/py.typed" in names
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_wheel_has_the_same_bytes_when_another_user_builds_it_elsewhere(
    wheel: Path, tmp_path: Path
) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in run(listed, cwd=ROOT).split("\0"):
        if (ROOT / name).is_file():
            copy = tmp_path / "copy" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
            copy.chmod(0o600 | (ROOT / name).stat().st_mode & 0o100)
            os.utime(copy, (1, 1))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    run(build, cwd=tmp_path / "copy")
    assert sha256_file(tmp_path / wheel.name) == sha256_file(wheel)


@pytest.mark.slow
@pytest.mark.network
def test_wheel_is_installed_as_a_tool_as_the_readme_shows(wheel: Path, tmp_path: Path) -> None:
    folders = {
        "UV_TOOL_DIR": str(tmp_path / "tools"),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "FORGE_CACHE": str(tmp_path / "cache"),
        "FORGE_PASSPHRASE": "words of the test",
    }
    shown = f"uv tool install --constraints dist/requirements.lock 'dist/{wheel.name}[build,s3]'"
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")
    constraints = ["--constraints", str(ROOT / "requirements.lock")]
    tool = [str(find_uv_bin()), "tool", "install", "--quiet", *constraints]
    run([*tool, f"{wheel}[build,s3]"], cwd=tmp_path, **folders)
    forge = str(tmp_path / "bin" / "forge")
    run([forge, "init", "project"], cwd=tmp_path, **folders)
    said = run([forge, "check"], cwd=tmp_path / "project", **folders)
    assert "pipeline release for development" in said
    run([forge, "keys", "init"], cwd=tmp_path / "project", **folders)
    step = ["run", "release", "--profile", "development", "--only", "checkpoint", "--json"]
    rows = json.loads(run([forge, *step], cwd=tmp_path / "project", **folders))
    assert [row["step"] for row in rows if row["outputs"]] == ["checkpoint"]


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
    package = f"{wheel} --hash=sha256:{sha256_file(wheel)}"
    run(["scripts/install-forge"], cwd=project, FORGE_PACKAGE=package, **environment)
    assert path.read_text() == f"{project}/.venv/bin\n"
    assert "pipeline release for development" in run([".venv/bin/forge", "check"], cwd=project)


@pytest.mark.parametrize(
    "package",
    ["forge-release", "forge-release==0.1.0", "{wheel}", "forge-release @ file://{wheel}",
     "{wheel} --hash=sha256:1234", "{wheel}\n--hash=sha256:{right}", "{wheel}#sha512={right}"],
)  # fmt: skip
def test_install_script_installs_nothing_without_a_hash(
    project: Path, wheel: Path, package: str
) -> None:
    named = package.format(wheel=wheel, right=sha256_file(wheel))
    done = subprocess.run(
        ["scripts/install-forge"], cwd=project, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHON": sys.executable, "FORGE_PACKAGE": named},
    )  # fmt: skip
    assert done.returncode == 3
    assert "::error::FORGE_PACKAGE must be one requirement with its SHA-256" in done.stdout
    assert not (project / ".venv").exists()


def test_install_script_says_which_variable_a_new_project_lacks(project: Path) -> None:
    environment = {"PYTHON": sys.executable, "FORGE_PACKAGE": ""}
    done = subprocess.run(
        ["scripts/install-forge"], cwd=project, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "::error::Set the repository variable FORGE_PACKAGE" in done.stdout
    assert not (project / ".venv").exists()


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds Forge from the wheel and what a device needs, nothing more."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [str(find_uv_bin()), "pip"]
    install = [*pip, "install", "--quiet", "--python", str(folder), "--no-deps"]
    lock = str(ROOT / "requirements-device.lock")
    for what in (["--require-hashes", "-r", lock], [str(wheel)]):
        subprocess.run([*install, "--link-mode", "copy", *what], check=True)
    # What the wheel asks for without an extra is what the lock holds.
    subprocess.run([*pip, "check", "--quiet", "--python", str(folder)], check=True)
    return folder


@pytest.mark.slow
@pytest.mark.network
def test_a_device_installs_at_most_40_packages_and_120_mb(device: Path) -> None:
    (site,) = device.glob("lib/python*/site-packages")
    packages = [package.name for package in distributions(path=[str(site)])]
    size = sum(path.lstat().st_size for path in device.rglob("*") if path.is_file())
    assert "forge-release" in packages
    assert len(packages) <= 40, sorted(packages)
    assert size <= 120_000_000


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(
    "arguments",
    ["--help", "device status --help", "device detect", "store verify --help", "doctor"],
)
def test_a_device_installation_runs(device: Path, tmp_path: Path, arguments: str) -> None:
    shown = run([str(device / "bin/forge"), *arguments.split()], cwd=tmp_path, PYTHONPATH="")
    assert shown


@pytest.mark.slow
@pytest.mark.network
def test_every_module_that_a_device_uses_imports_in_a_device_installation(
    device: Path, tmp_path: Path
) -> None:
    program = """
import importlib, pkgutil, forge.device, forge.serving, forge.store, forge.trust
for package in (forge.device, forge.serving, forge.store, forge.trust):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "templates" in module.name or ".backends.s3" in module.name:
            continue
        print(importlib.import_module(module.name).__name__)
"""
    shown = run([str(device / "bin/python"), "-c", program], cwd=tmp_path, PYTHONPATH="")
    assert {"forge.trust.model", "forge.store.backends.web"} <= set(shown.split())


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(
    ("argv", "extra", "code"),
    [
        ("-m forge bundle list --store s3://bucket/prefix", "s3", 3),
        ("-m forge store verify --store s3://bucket/prefix", "s3", 3),
        ("-m forge check --project {project}", "build", 3),
        ("-m forge doctor", "build", 0),
        ("-m forge doctor", "dagger", 0),
        ("-m forge doctor", "s3", 0),
    ],
)
def test_what_needs_an_extra_says_how_to_install_it(
    device: Path, project: Path, tmp_path: Path, argv: str, extra: str, code: int
) -> None:
    words = [word.format(project=project) for word in argv.split()]
    done = subprocess.run(
        [device / "bin/python", *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert f"pip install 'forge-release[{extra}]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
