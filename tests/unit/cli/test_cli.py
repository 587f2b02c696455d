"""The command line: help with examples, errors with exit codes, JSON."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from forge.cli import _COMMANDS, cli, main
from tests.support.gguf import gguf

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this repository's own project, with an empty store."""
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def forge(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: pipelines are imported once a process."""
    return subprocess.run(
        [sys.executable, "-m", "forge", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*path, name))
        if isinstance(command, click.Group) and name not in {"plan", "run", "why", "matrix"}:
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    is_leaf = "Commands:" not in shown
    assert (
        f"forge {' '.join(path)}" in shown.split("Options:")[0] if is_leaf else "Commands:" in shown
    )


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in _COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    heavy = ("pydantic", "boto3", "tuf", "fastapi", "rich", "jinja2", "yaml")
    script = (
        "import sys; from forge.cli import main; main(['--help']);"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_mistyped_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plam"]) == 2
    assert "No such command 'plam'" in capsys.readouterr().err


def test_outside_a_project_the_error_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["profile", "list"]) == 3
    assert "forge init DIR" in capsys.readouterr().err


def test_plan_shows_every_step_before_anything_was_built(project: Path) -> None:
    done = forge(project, "plan", "release", "--profile", "development", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["step"]: row["status"] for row in json.loads(done.stdout)}
    assert rows["checkpoint"] == "run"
    assert rows["engine@development"] == "waits"
    assert set(rows.values()) <= {"run", "waits"}
    assert not (project / "artifacts").exists()


def test_plan_of_all_profiles_says_which_steps_no_runner_here_can_run(project: Path) -> None:
    done = forge(project, "plan", "release")
    assert done.returncode == 0, done.stderr
    thor = next(line for line in done.stdout.splitlines() if "engine@jetson-agx-thor" in line)
    assert "none here" in thor
    assert "plans but does not run" in thor


def test_run_of_a_step_no_runner_here_can_run_exits_4(project: Path) -> None:
    done = forge(project, "run", "release", "--profile", "jetson-agx-thor")
    assert done.returncode == 4
    assert "cannot run here" in done.stderr


def test_refusal_names_the_labels_what_this_runner_offers_and_another_way(project: Path) -> None:
    rows = {
        row["step"]: row for row in json.loads(forge(project, "plan", "release", "--json").stdout)
    }
    reason = rows["smoke@rtx-pro-4000-aot"]["reason"]
    assert "labels self-hosted, linux, x64, gpu-sm120; local linux/amd64 offers none" in reason
    assert rows["engine@rtx-pro-4000-aot"]["runner"] == "local linux/amd64"
    assert "--profile rtx-pro-4000-aot" in rows["engine@rtx-pro-4000"]["reason"]


def test_run_without_the_gpu_exits_4_and_names_the_profile_that_needs_none(project: Path) -> None:
    done = forge(project, "run", "release", "--profile", "rtx-pro-4000")
    assert done.returncode == 4
    for way in ("--only 'engine@rtx-pro-4000'", "rtx-pro-4000-aot", "--skip 'engine@rtx-pro-4000'"):
        assert way in done.stderr
    assert not (project / ".forge" / "running").exists()


def test_architecture_no_builder_knows_exits_3_with_those_it_knows_and_fetches_nothing(
    project: Path,
) -> None:
    model = f"file:/nowhere#sha256={'0' * 64}&architecture=gpt2"
    done = forge(project, "run", "release", "--profile", "development", "--model", model)
    assert done.returncode == 3
    assert "knows no 'gpt2' models: it knows llama, qwen2, qwen3" in done.stderr
    assert not (project / ".forge" / "running").exists()


def test_pin_prints_the_url_with_digest_and_architecture(project: Path) -> None:
    (project / "tiny.gguf").write_bytes(gguf(architecture="qwen2"))
    done = forge(project, "checkpoint", "pin", f"file:{project}/tiny.gguf")
    digest = hashlib.sha256(gguf(architecture="qwen2")).hexdigest()
    url = f"file:{project}/tiny.gguf#sha256={digest}&architecture=qwen2"
    assert done.stdout.strip() == url, done.stderr


def test_mistyped_pipeline_exits_2_with_a_suggestion(project: Path) -> None:
    done = forge(project, "plan", "relaese")
    assert done.returncode == 2
    assert "did you mean 'release'?" in done.stderr


def test_mistyped_profile_exits_3_with_a_suggestion(project: Path) -> None:
    done = forge(project, "plan", "release", "--profile", "developement")
    assert done.returncode == 3
    assert "did you mean 'development'?" in done.stderr


def test_mistyped_profile_key_exits_3_with_a_suggestion(project: Path) -> None:
    path = project / "profiles" / "development.yaml"
    path.write_text(path.read_text() + "\nthermal:\n  throtle_c: 80\n")
    done = forge(project, "plan", "release", "--profile", "development")
    assert done.returncode == 3
    assert "did you mean 'thermal.throttle_c'?" in done.stderr


def test_pipeline_parameters_are_options_with_their_help(project: Path) -> None:
    done = forge(project, "run", "release", "--help")
    assert done.returncode == 0, done.stderr
    assert "--version TEXT" in done.stdout
    assert "checkpoint URL, pinned by digest" in done.stdout


def test_unpinned_checkpoint_exits_3_and_says_how_to_pin_it(project: Path) -> None:
    done = forge(project, "plan", "release", "--profile", "development", "--model", "pypi:a==1")
    assert done.returncode == 3
    assert "forge checkpoint pin 'pypi:a==1'" in done.stderr


def test_pipeline_that_cannot_be_imported_exits_3_with_the_reason(project: Path) -> None:
    (project / "pipelines" / "mine.py").write_text("import nowhere_to_be_found\n")
    done = forge(project, "plan", "mine")
    assert done.returncode == 3
    assert "No module named 'nowhere_to_be_found'" in done.stderr


def test_matrix_lists_a_job_for_each_step_with_its_runner_labels(project: Path) -> None:
    done = forge(project, "matrix", "release", "--json")
    assert done.returncode == 0, done.stderr
    jobs = {job["id"]: job for job in json.loads(done.stdout)["include"]}
    assert "gpu-sm120" in jobs["engine@rtx-pro-4000"]["runs-on"]
    assert jobs["engine@development"]["runs-on"] == ["ubuntu-24.04"]


def test_profile_show_names_the_source_of_each_value(project: Path) -> None:
    done = forge(
        project, "profile", "show", "development", "--set", "engine.max_batch_size=3", "--json"
    )
    origins = json.loads(done.stdout)["origins"]
    assert origins["engine.max_batch_size"]["where"] == "--set engine.max_batch_size=3"
    assert origins["engine.builder"]["where"] == "profiles/development.yaml"
    assert origins["power.mode"]["where"] == "profiles/defaults.yaml"


def test_init_writes_a_project_that_plans(tmp_path: Path) -> None:
    made = tmp_path / "mine"
    assert forge(tmp_path, "init", str(made)).returncode == 0
    done = forge(made, "plan", "release", "--profile", "development")
    assert done.returncode == 0, done.stderr
    assert "engine@development" in done.stdout


def test_init_never_overwrites(project: Path) -> None:
    done = forge(project, "init", str(project))
    assert done.returncode == 2
    assert "is not empty" in done.stderr


def test_doctor_says_what_is_missing_and_how_to_get_it(project: Path) -> None:
    done = forge(project, "doctor", "--json")
    checks = json.loads(done.stdout)
    assert all(check["fix"] for check in checks if not check["ok"])
    assert any(check["what"] == "uv" and check["ok"] for check in checks)


def test_secrets_are_never_printed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", "very-secret-words")
    done = forge(project, "doctor")
    assert "very-secret-words" not in done.stdout + done.stderr


def test_published_list_of_an_empty_store_is_empty(project: Path) -> None:
    done = forge(project, "bundle", "list", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
