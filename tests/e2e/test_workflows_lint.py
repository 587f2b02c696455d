"""The workflows, ours and those of a new project, pass actionlint and zizmor."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.workflow import UnknownExpressionError, evaluate

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = [*sorted((ROOT / ".github/workflows").glob("*.yml")), ROOT / "forge/template/check.yml"]
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
TFLINT = "github.com/terraform-linters/tflint@v0.64.0"
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
MAKE_RELEASES = {("package.yml", "wheel"), ("release.yml", "github-release")}
ids = [str(path.relative_to(ROOT)) for path in WORKFLOWS]


def installed_by_go(name: str, package: str, folder: Path) -> str:
    """Return the path of a program, built by Go; the test is skipped where Go is not installed."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"Go is not installed, so {name} cannot be: see https://go.dev/dl")
    programs = ROOT / ".forge" / "bin"
    environment = os.environ | {"GOBIN": str(programs), "GOFLAGS": "-mod=mod"}
    subprocess.run([go, "install", package], check=True, env=environment, cwd=folder)
    return str(programs / name)


@pytest.mark.slow
@pytest.mark.network
def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    program = installed_by_go("actionlint", ACTIONLINT, tmp_path)
    done = subprocess.run(
        [program, "-no-color", *map(str, WORKFLOWS)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.network
def test_tflint_finds_nothing_in_the_terraform_module(tmp_path: Path) -> None:
    program = installed_by_go("tflint", TFLINT, tmp_path)
    module = ROOT / "deploy" / "terraform" / "aws"
    done = subprocess.run(
        [program, "--no-color", f"--chdir={module}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_zizmor_finds_nothing_even_as_an_auditor() -> None:
    zizmor = str(Path(sys.executable).parent / "zizmor")
    argv = [zizmor, "--offline", "--no-progress", "--persona", "auditor", *map(str, WORKFLOWS)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stderr.count("completed") == len(WORKFLOWS), done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_workflow_gives_nothing_by_default_and_every_job_ends(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert {"group", "cancel-in-progress"} == set(workflow["concurrency"])
    for name, job in workflow["jobs"].items():
        more = {"packages"} if (path.name, name) == ("images.yml", "push") else set()
        assert set(job["permissions"]) == {"contents", *more} | (
            set(job["permissions"]) & {"id-token"}
        )
        contents = "write" if (path.name, name) in MAKE_RELEASES else "read"
        assert job["permissions"]["contents"] == contents
        assert 0 < job["timeout-minutes"] <= 240


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_actions_are_pinned_and_checkouts_keep_no_credentials(path: Path) -> None:
    text = path.read_text()
    uses = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    assert uses
    assert [line for line in uses if not PINNED.fullmatch(line)] == []
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_no_script_holds_an_expression(path: Path) -> None:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    scripts = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert scripts
    assert [script for script in scripts if "${{" in script] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_no_job_sees_a_secret(path: Path) -> None:
    assert "secrets." not in path.read_text()


def test_the_runner_of_our_tests_knows_few_expressions_and_says_so() -> None:
    values = {"inputs.version": "", "github.ref_name": "v1.0.0"}
    assert evaluate("${{ inputs.version || github.ref_name }}", values) == "v1.0.0"
    assert evaluate("a ${{ inputs.version || 'b' }}", values) == "a b"
    for unknown in ("${{ secrets.TOKEN }}", "${{ toJSON(github) }}"):
        with pytest.raises(UnknownExpressionError):
            evaluate(unknown, values)


def test_the_job_that_writes_releases_can_assume_no_role_that_signs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    job = workflow["jobs"]["github-release"]
    roles = [step["with"]["role-to-assume"] for step in job["steps"] if "role" in str(step)]
    assert roles == ["${{ vars.FORGE_PLAN_ROLE || vars.FORGE_BUILD_ROLE }}"]
    assert "environment" not in job


def test_images_are_built_natively_and_joined_a_round_later(tmp_path: Path) -> None:
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, tmp_path / name)
    bases = tmp_path / "dockerfiles" / "bases.yaml"
    bases.write_text(bases.read_text().replace("digest: null", f"digest: sha256:{'0' * 64}"))
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text())
    runners = workflow["env"]["RUNNERS"]
    options = ["--project", str(tmp_path), "--profile", "development", "--push", "true"]
    command = ["matrix", "images", *options, "--runners", runners, "--rounds", "2", "--json"]
    made = json.loads(subprocess.check_output([sys.executable, "-m", "forge", *command], cwd=ROOT))
    assert made["refused"] == []
    assert all(step.startswith("push@") for step in made["finish"])
    native = {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}
    for row in made["rounds"][0]["include"]:
        image = row["steps"][0]
        assert row["runs-on"] == [native[image.rpartition("-")[2]]]
        assert row["labels"] == row["runs-on"][0]
    indexes = [row["steps"] for row in made["rounds"][1]["include"]]
    assert indexes
    assert all(step.startswith("index@") for steps in indexes for step in steps)
