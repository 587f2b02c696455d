"""The command line: help with examples, errors with exit codes, JSON."""

import hashlib
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from forge.cli import _COMMANDS, cli, main
from forge.cli import device as device_package
from tests.support import checkpoints
from tests.support.gguf import Q8_1, Row, gguf, gguf_file, metadata
from tests.support.signed_checkpoints import key_pair, sign

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
        env=dict(os.environ),  # readline sets COLUMNS behind the back of os.environ
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
    heavy = ("pydantic", "boto3", "tuf", "starlette", "rich", "jinja2", "yaml")
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
    smoke = next(line for line in done.stdout.splitlines() if "smoke@rtx-pro-4000-aot " in line)
    assert "none here" in smoke
    assert "gpu-sm120" in smoke


def test_run_of_a_step_no_runner_here_can_run_exits_4(project: Path) -> None:
    done = forge(project, "run", "release", "--profile", "jetson-agx-thor")
    assert done.returncode == 4
    assert "cannot run here" in done.stderr


@pytest.mark.parametrize(
    ("profile", "overrides", "wanted", "alternative"),
    [
        (
            "jetson-agx-thor",
            ("--set", "engine.build_on=runner"),
            "linux/arm64 (labels self-hosted, linux, arm64, jetson",
            "build_on: device",
        ),
        ("rtx-pro-4000", ("--set", "engine.mode=engine"), "gpu-sm120", "engine.mode: llmapi"),
    ],
)
def test_engine_that_wants_another_runner_exits_4_and_names_it_and_the_way_round(
    project: Path, profile: str, overrides: tuple[str, ...], wanted: str, alternative: str
) -> None:
    chosen = ("--profile", profile, "--only", f"engine@{profile}")
    done = forge(project, "run", "release", *chosen, *overrides)
    assert done.returncode == 4
    assert wanted in done.stderr
    assert alternative in done.stderr
    assert not list((project / "artifacts").glob("actions/*"))


def test_refusal_names_the_labels_what_this_runner_offers_and_another_way(project: Path) -> None:
    rows = {
        row["step"]: row for row in json.loads(forge(project, "plan", "release", "--json").stdout)
    }
    reason = rows["smoke@rtx-pro-4000-aot"]["reason"]
    assert "the label gpu-sm120; local linux/amd64 offers none" in reason
    assert rows["engine@rtx-pro-4000-aot"]["runner"] == "local linux/amd64"
    plan = ("plan", "release", "--profile", "rtx-pro-4000", "--set", "engine.mode=engine")
    rows = {row["step"]: row for row in json.loads(forge(project, *plan, "--json").stdout)}
    assert "engine.mode: llmapi, which needs no GPU" in rows["engine@rtx-pro-4000"]["reason"]


def test_run_without_the_gpu_exits_4_and_names_the_mode_that_needs_none(project: Path) -> None:
    chosen = ("--profile", "rtx-pro-4000", "--set", "engine.mode=engine")
    done = forge(project, "run", "release", *chosen)
    assert done.returncode == 4
    for way in ("--only 'convert@rtx-pro-4000'", "engine.mode: llmapi", "--skip 'convert@rtx"):
        assert way in done.stderr
    assert not (project / ".forge" / "running").exists()


def test_architecture_no_builder_knows_exits_3_with_those_it_knows_and_fetches_nothing(
    project: Path,
) -> None:
    model = f"file:/nowhere#sha256={'0' * 64}&architecture=rwkv"
    done = forge(project, "run", "release", "--profile", "development", "--model", model)
    assert done.returncode == 3
    assert "does not support 'rwkv' models: supported architectures: arcee" in done.stderr
    assert not (project / ".forge" / "running").exists()


def test_pin_prints_the_url_with_digest_and_what_the_headers_state(project: Path) -> None:
    (project / "tiny.gguf").write_bytes(gguf(architecture="qwen2"))
    done = forge(project, "checkpoint", "pin", f"file:{project}/tiny.gguf")
    digest = hashlib.sha256(gguf(architecture="qwen2")).hexdigest()
    url = f"file:{project}/tiny.gguf#sha256={digest}&architecture=qwen2"
    facts = "&form=gguf&tokenizer=gpt2/qwen2&quantisation=q4_1"
    assert done.stdout.strip() == url + facts, done.stderr
    assert "0.0 M in 1 tensors: Q4_1 100 %" in done.stderr
    assert "openvino      supports it" in done.stderr
    assert forge(project, "plan", *RELEASE, "--model", url + facts).returncode == 0


def test_pin_prints_all_that_it_found_as_json(project: Path) -> None:
    config = {"model_type": "hunyuan_v1_dense", "architectures": ["HunYuanDenseV1ForCausalLM"]}
    made = checkpoints.model(project / "model", config)
    found = json.loads(forge(project, "checkpoint", "pin", f"file:{made}", "--json").stdout)
    assert found["url"].endswith("&form=huggingface&tokenizer=tokenizer.json&quantisation=none")
    assert (found["architecture"], found["parameters"]) == ("hunyuan_v1_dense", 8)
    assert found["dtypes"] == {"BF16": 4, "F32": 4}
    assert found["weights"] == ["model.safetensors"]
    assert found["builders"]["edge-llm"] is None
    assert "does not support 'hunyuan_v1_dense'" in found["builders"]["openvino"]


def test_pin_of_a_signed_model_tells_who_signed_it_and_refuses_another_key(project: Path) -> None:
    made = checkpoints.model(project / "model")
    key_pair(project)
    key_pair(project, "other")
    sign(made, project / "vendor.key")
    pin = ("checkpoint", "pin", f"file:{made}?path=*.json&path=*.safetensors", "--signer")
    done = forge(project, *pin, "key:vendor.pub")
    assert done.returncode == 0, done.stderr
    assert re.search(r"signed +by key sha256:[0-9a-f]{16}, 3 files", done.stderr)
    assert "#sha256=" in done.stdout
    signature = json.loads(forge(project, *pin, "key:vendor.pub", "--json").stdout)["signature"]
    assert (signature["method"], signature["files"]) == ("key", 3)
    done = forge(project, *pin, "key:other.pub")
    assert (done.returncode, done.stdout) == (3, "")
    assert "could not be verified" in done.stderr


def test_run_verifies_who_signed_the_checkpoint_again_for_each_other_key(project: Path) -> None:
    made = checkpoints.model(project / "model")
    for name in ("vendor", "other"):
        key_pair(project, name)
    sign(made, project / "vendor.key")
    url = f"file:{made}?path=*.json&path=*.safetensors"
    pinned = forge(project, "checkpoint", "pin", url).stdout.strip()

    def run(key: str) -> subprocess.CompletedProcess[str]:
        options = ("--model", pinned, "--model-signer", f"key:{key}.pub", "--only", "checkpoint")
        return forge(project, "run", *RELEASE, "--set", "engine.precision=fp16", *options)

    done = run("vendor")
    assert done.returncode == 0, done.stderr
    (record,) = project.glob(".forge/trees/*/signature.json")
    assert json.loads(record.read_text())["files"] == 3
    assert "1 cached, 0 ran" in run("vendor").stdout
    done = run("other")
    assert done.returncode == 3
    assert "The signature of checkpoint" in done.stderr
    assert "could not be verified" in done.stderr


def test_pin_of_a_model_that_no_builder_supports_exits_3_unless_it_is_asked_for(
    project: Path,
) -> None:
    made = checkpoints.model(project / "model", {"model_type": "mamba"})
    url = f"file:{made}"
    done = forge(project, "checkpoint", "pin", url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "No builder of Forge supports 'mamba' models" in done.stderr
    done = forge(project, "checkpoint", "pin", url, "--any-builder")
    assert "&architecture=mamba&form=huggingface" in done.stdout


RELEASE = ("release", "--profile", "development")
ORIN = ("release", "--profile", "jetson-agx-orin")
RTX = ("release", "--profile", "rtx-pro-4000-aot")
SENTENCEPIECE = gguf_file(metadata(tokenizer__ggml__model="llama"))
QUANTISED = b'{"model_type": "llama", "quantization_config": {"quant_method": "%s"}}'
LORA: dict[str, bytes | None] = {
    "config.json": None,
    "model.safetensors": None,
    "adapter_config.json": b'{"base_model_name_or_path": "a/b"}',
    "adapter_model.safetensors": checkpoints.safetensors({"x.lora_A.weight": "F32"}),
}
# A file: URL without &architecture= → what planning says of it, for the profile that would use it.
# Cases 1, 10 to 16 of the conversions that went wrong.
UNUSABLE: dict[str, tuple[dict[str, bytes | None], tuple[str, ...], str]] = {
    "gemma2 for Orin": (
        {"config.json": b'{"model_type": "gemma2"}'}, ORIN, "does not support 'gemma2' models"),
    "phi3 for Orin": (
        {"config.json": b'{"model_type": "phi3"}'}, ORIN, "does not support 'phi3' models"),
    "gpt2": ({"config.json": b'{"model_type": "gpt2"}'}, RTX, "does not support 'gpt2' models"),
    "gemma3": (
        {"config.json": b'{"model_type": "gemma3", "vision_config": {"hidden_size": 1}}'}, RTX,
        "'gemma3' model that takes images in addition to text"),
    "a SentencePiece GGUF": (
        {"tiny.gguf": SENTENCEPIECE}, RELEASE, "checkpoints with the tokenizer 'llama'"),
    "Q8_1": (
        {"tiny.gguf": gguf_file(metadata(), [Row("a", kind=Q8_1)])}, RELEASE,
        "does not support GGUF tensors of type Q8_1"),
    "a part of a split GGUF": (
        {"m-00001-of-00002.gguf": gguf_file(metadata(split__no=0, split__count=2))}, RELEASE,
        "m-00002-of-00002.gguf"),
    "GPTQ": (
        {"config.json": QUANTISED % b"gptq"},
        ORIN, "does not support weights that are quantised already (gptq)"),
    "FP8": (
        {"config.json": QUANTISED % b"fp8"},
        RTX, "does not support weights that are quantised already (fp8)"),
    "a missing shard": (
        {"model.safetensors": None, "model-00001-of-00002.safetensors": b"x"}, RTX,
        "model-00002-of-00002.safetensors"),
    "spiece.model only": (
        {"tokenizer.json": None, "spiece.model": b"x"}, ORIN,
        "does not support checkpoints with the tokenizer 'spiece.model'"),
    "a LoRA adapter": (LORA, RTX, "is a LoRA adapter and not a model"),
    "pickled weights": (
        {"model.safetensors": None, "pytorch_model.bin": b"PK"}, RTX, "weights are pickled"),
    "a header cut off": ({"tiny.gguf": SENTENCEPIECE[:90]}, RELEASE, "tiny.gguf is truncated"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "release", "says"), UNUSABLE.values(), ids=UNUSABLE)
def test_checkpoint_here_that_a_builder_cannot_take_exits_3_while_it_is_planned(
    project: Path, files: dict[str, bytes | None], release: tuple[str, ...], says: str
) -> None:
    if any(name.endswith(".gguf") for name in files):
        files = {"config.json": None, "model.safetensors": None, "tokenizer.json": None, **files}
    made = checkpoints.model(project / "model", files=files)
    model = ("--model", f"file:{made}#sha256={'0' * 64}")
    done = forge(project, "run", *release, *model)
    assert done.returncode == 3, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / ".forge" / "running").exists()


def test_checkpoint_of_another_machine_is_planned_by_what_its_url_states(project: Path) -> None:
    bare = f"hf:a/b@{'0' * 40}#sha256={'0' * 64}"
    assert forge(project, "plan", *RTX, "--model", bare).returncode == 0
    done = forge(project, "plan", *RTX, "--model", f"{bare}&architecture=llama&quantisation=awq")
    assert done.returncode == 3
    assert "quantised already (awq)" in done.stderr
    done = forge(project, "plan", *RELEASE, "--model", f"{bare}&form=gguf&tokenizer=llama")
    assert "checkpoints with the tokenizer 'llama'" in done.stderr


def test_checkpoint_with_tokenizer_model_only_is_planned_because_it_is_converted(
    project: Path,
) -> None:
    files = {"tokenizer.json": None, "tokenizer.model": b"x"}
    made = checkpoints.model(project / "model", files=files)
    model = f"file:{made}#sha256={'0' * 64}"
    assert forge(project, "plan", *RTX, "--model", model).returncode == 0


def test_checkpoint_that_is_not_here_is_planned(project: Path) -> None:
    model = f"file:/nowhere#sha256={'0' * 64}"
    assert forge(project, "plan", *RELEASE, "--model", model).returncode == 0


def test_mistyped_pipeline_exits_2_with_a_suggestion(project: Path) -> None:
    done = forge(project, "plan", "relaese")
    assert done.returncode == 2
    assert "did you mean 'release'?" in done.stderr


def test_mistyped_profile_exits_2_with_a_suggestion(project: Path) -> None:
    done = forge(project, "plan", "release", "--profile", "developement")
    assert done.returncode == 2
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


def test_matrix_has_a_job_for_each_profile_on_its_runner_in_the_round_it_can_run(
    project: Path,
) -> None:
    done = forge(project, "matrix", "release", "--profile", "development,tesla-p40", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    early, late = ({cell["name"]: cell for cell in one["include"]} for one in made["rounds"])
    first = early["development on ubuntu-24.04"]
    assert first["runs-on"] == ["ubuntu-24.04"]
    assert first["shared"][0] == "checkpoint"
    assert late["tesla-p40 on gpu-sm61"]["labels"] == "self-hosted,linux,x64,gpu-sm61"
    assert "smoke@tesla-p40" in late["tesla-p40 on gpu-sm61"]["steps"]
    assert sorted(made["finish"]) == ["proofs@development", "proofs@tesla-p40", "publish"]
    only = ("--profile", "development", "--only", first["id"], "--json")
    planned = json.loads(forge(project, "plan", "release", *only).stdout)
    rows = {row["step"] for row in planned if row["status"] != "skipped"}
    assert rows == {*first["steps"], *first["shared"]}


def test_matrix_with_a_step_no_runner_can_run_shows_the_others_and_exits_4(project: Path) -> None:
    stage = project / "stages" / "engine.py"
    with stage.open("a") as file:
        file.write(
            "import dataclasses\n"
            "_compile = compile\n"
            "def compile(profile, weights):\n"
            "    made = _compile(profile, weights)\n"
            "    if profile.name != 'tesla-p40':\n"
            "        return made\n"
            "    return dataclasses.replace(made.step, planned_only='nobody has one')['engine']\n"
        )
    done = forge(project, "matrix", "release", "--profile", "development,tesla-p40")
    assert done.returncode == 4
    assert "development on ubuntu-24.04" in done.stdout
    assert re.search(r"refused +engine@tesla-p40 +nobody has one", done.stdout)


def test_matrix_fails_when_more_rounds_are_left_than_the_workflow_has(project: Path) -> None:
    matrix = ("matrix", "release", "--profile", "tesla-p40")
    assert forge(project, *matrix, "--rounds", "2").returncode == 0
    done = forge(project, *matrix, "--rounds", "0")
    assert done.returncode == 4
    assert "remaining: " in done.stderr
    assert "gate@tesla-p40" in done.stderr


@pytest.mark.parametrize("option", ["--only", "--skip", "--profile"])
def test_empty_selection_is_an_error_and_not_everything(project: Path, option: str) -> None:
    assert forge(project, "plan", "release", option, "").returncode in {2, 3}


def test_tables_go_to_the_job_summary_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project / "summary"))
    for command in ("plan", "matrix"):
        forge(project, command, "release", "--profile", "development", "--json")
    text = (project / "summary").read_text()
    assert "### Plan of release" in text
    assert "| round 0 | development on ubuntu-24.04 | (checkpoint) " in text


def test_check_exits_3_and_says_everything_that_is_wrong(project: Path) -> None:
    assert forge(project, "check").returncode == 0
    profile = project / "profiles" / "development.yaml"
    profile.write_text(profile.read_text() + "\nthermal:\n  throtle_c: 80\n")
    (project / "dockerfiles" / "openvino" / "requirements.lock").unlink()
    done = forge(project, "check", "--json")
    assert done.returncode == 3
    wrong = {one["what"]: one["detail"] for one in json.loads(done.stdout) if not one["good"]}
    assert "did you mean 'thermal.throttle_c'?" in wrong["profile development"]
    assert "lock openvino" in wrong


def test_profile_show_names_the_source_of_each_value(project: Path) -> None:
    done = forge(
        project, "profile", "show", "development", "--set", "engine.max_batch_size=3", "--json"
    )
    origins = json.loads(done.stdout)["origins"]
    assert origins["engine.max_batch_size"]["where"] == "--set engine.max_batch_size=3"
    assert origins["engine.builder"]["where"] == "profiles/development.yaml"
    assert origins["power.mode"]["where"] == "profiles/defaults.yaml"


def test_init_writes_a_project_that_passes_its_own_check(tmp_path: Path) -> None:
    made = tmp_path / "mine"
    done = forge(tmp_path, "init", str(made))
    assert done.returncode == 0, done.stderr
    assert "forge keys init" in done.stdout
    checked = forge(made, "check")
    assert checked.returncode == 0, checked.stdout
    assert "pipeline release for development" in checked.stdout
    assert {"check.yml", "images.yml", "promote.yml", "refresh.yml", "release.yml"} == {
        path.name for path in (made / ".github" / "workflows").iterdir()
    }
    assert os.access(made / "scripts" / "install-forge", os.X_OK)


def test_init_into_an_empty_folder_lists_what_it_wrote(tmp_path: Path) -> None:
    made = json.loads(forge(tmp_path, "init", str(tmp_path), "--json").stdout)
    found = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert made["files"] == sorted(path.as_posix() for path in found if path.parts[0] != ".git")
    assert made["next"][0] == "forge check"


def test_default_of_a_new_project_is_what_this_machine_can_build(tmp_path: Path) -> None:
    made = tmp_path / "mine"
    known = json.loads(forge(tmp_path, "init", str(made), "--json").stdout)["profiles"]
    assert known.pop("development") == ""
    assert known["tesla-p40"] == "a runner with self-hosted, linux, x64, gpu-sm61"
    assert all(known.values())
    planned = json.loads(forge(made, "plan", "--json").stdout)
    assert {row["step"].partition("@")[2] for row in planned} == {"", "development"}
    every = json.loads(forge(made, "plan", "--profile", "*", "--json").stdout)
    assert {row["step"].partition("@")[2] for row in every} == {"", "development", *known}
    (made / "forge.yaml").write_text("profiles: [development, nope]")
    refused = forge(made, "plan")
    assert refused.returncode == 3
    assert "names profiles that do not exist: nope" in refused.stderr
    assert forge(made, "plan", "--profile", "x*").returncode == 2


def test_tests_of_a_new_project_pass_and_find_a_gate_that_is_left_out(tmp_path: Path) -> None:
    forge(tmp_path, "init", str(tmp_path))
    command = [sys.executable, "-m", "unittest", "discover", "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pipeline = tmp_path / "pipelines" / "release.py"
    text = pipeline.read_text()
    assert "passed = (verdict, compared, " in text
    pipeline.write_text(text.replace("passed = (verdict, compared, ", "passed = (compared, "))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "gate@development" in done.stderr


def test_a_new_project_is_a_git_repository_unless_it_is_in_one(tmp_path: Path) -> None:
    for name, options, expected in (
        ("own", (), True), ("own/inner", (), False), ("none", ("--no-git",), False),
    ):  # fmt: skip
        made = json.loads(forge(tmp_path, "init", str(tmp_path / name), *options, "--json").stdout)
        assert (made["git"], made["git_problem"]) == (expected, "")
        assert (tmp_path / name / ".git").exists() == expected
    head = subprocess.check_output(["git", "-C", str(tmp_path / "own"), "symbolic-ref", "HEAD"])
    assert head == b"refs/heads/main\n"


def test_git_s_own_words_say_why_no_repository_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[broken")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook
    made = json.loads(forge(tmp_path, "init", str(tmp_path / "hook"), "--json").stdout)
    assert made["git"]
    assert (tmp_path / "hook" / ".git").is_dir()
    assert not (tmp_path / "another").exists()
    monkeypatch.delenv("GIT_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    config.rename(tmp_path / ".gitconfig")
    done = forge(tmp_path, "init", str(tmp_path / "bad"))
    assert done.returncode == 0
    assert "can be built on this machine" in done.stdout
    assert "No git repository was made: fatal: bad config" in done.stderr
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    done = forge(tmp_path, "init", str(tmp_path / "without"))
    assert "No git repository was made: git is not installed" in done.stderr


def test_keys_of_a_new_project_are_not_tracked_by_git(tmp_path: Path) -> None:
    forge(tmp_path, "init", str(tmp_path))
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    ignored = ("check-ignore", ".forge/keys/online.pem", "artifacts/packs", ".venv/bin")
    shown = subprocess.run(
        ["git", "-C", str(tmp_path), *ignored], check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == list(ignored[1:])


def test_init_never_overwrites(project: Path) -> None:
    done = forge(project, "init", str(project))
    assert done.returncode == 2
    assert "is not empty" in done.stderr


def test_doctor_says_what_is_missing_and_how_to_get_it(project: Path) -> None:
    done = forge(project, "doctor", "--json")
    checks = json.loads(done.stdout)
    assert all(check["fix"] for check in checks if not check["ok"])
    assert any(check["what"] == "uv" and check["ok"] for check in checks)


def test_doctor_speaks_of_every_builder_also_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for builder in ("openvino", "onnx-runtime", "tensorrt-rtx", "tensorrt-llm", "edge-llm"):
        assert f"builder {builder}" in shown


def test_secrets_are_never_printed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_PASSPHRASE", "very-secret-words")
    done = forge(project, "doctor")
    assert "very-secret-words" not in done.stdout + done.stderr


def test_why_takes_a_step_with_the_pipeline_left_out(project: Path) -> None:
    done = forge(project, "why", "--profile", "development", "checkpoint", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == "checkpoint"


def test_why_of_a_mistyped_step_suggests_the_right_one(project: Path) -> None:
    done = forge(project, "why", "chekpoint", "--profile", "development")
    assert done.returncode == 2
    assert "did you mean 'checkpoint'?" in done.stderr


def test_plan_takes_options_with_the_pipeline_left_out(project: Path) -> None:
    done = forge(project, "plan", "--profile", "development", f"--project={project}")
    assert done.returncode == 0, done.stderr
    assert "engine@development" in done.stdout


def test_key_that_stands_twice_exits_3_and_names_the_line(project: Path) -> None:
    path = project / "profiles" / "development.yaml"
    path.write_text(path.read_text() + "\nplatform: linux/arm64\n")
    done = forge(project, "plan", "release", "--profile", "development")
    assert done.returncode == 3
    assert "duplicate key 'platform'" in done.stderr


def test_profile_that_is_no_text_exits_3(project: Path) -> None:
    (project / "profiles" / "latin.yaml").write_bytes(b"description: caf\xe9\n")
    done = forge(project, "plan", "release", "--profile", "latin")
    assert done.returncode == 3
    assert "latin.yaml cannot be read" in done.stderr


def test_option_with_a_name_forge_uses_itself_exits_3(project: Path) -> None:
    text = "def mine(*, only: str = 'x'):\n    return None\n"
    (project / "pipelines" / "mine.py").write_text(text)
    done = forge(project, "plan", "mine")
    assert done.returncode == 3
    assert "Option 'only' of pipeline 'mine'" in done.stderr


def test_pipeline_with_a_mistake_exits_1_without_a_traceback(project: Path) -> None:
    (project / "pipelines" / "mine.py").write_text("def mine():\n    return 1 / 0\n")
    done = forge(project, "plan", "mine")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "forge --debug plan mine" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_that_cannot_be_written_exits_9_without_a_traceback(project: Path) -> None:
    (project / ".forge").write_text("a file where a folder must be")
    done = forge(project, "run", "release", "--profile", "development", "--only", "checkpoint")
    assert done.returncode == 9
    assert ".forge" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_that_would_create_a_mistyped_channel_is_confirmed_before_anything_is_built(
    project: Path,
) -> None:
    release = ("run", "release", "--profile", "development", "--version", "1.0.0")
    done = forge(project, *release, "--channel", "canry")
    assert done.returncode == 2
    assert "Create the channel canry of smollm2 for 1.0.0?" in done.stderr
    assert "--yes" in done.stderr
    for more in (("--channel", "canary"), ("--channel", "canry", "--yes")):
        assert "There are no keys in" in forge(project, *release, *more).stderr  # what is next


def test_run_without_keys_exits_2_before_anything_is_built(project: Path) -> None:
    done = forge(project, "run", "release", "--profile", "development")
    assert done.returncode == 2
    assert "There are no keys in" in done.stderr
    assert "forge keys init" in done.stderr
    assert not (project / "artifacts" / "packs").exists()


def test_published_list_of_an_empty_store_is_empty(project: Path) -> None:
    done = forge(project, "bundle", "list", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_device_power_shows_and_refuses_what_this_board_has_not(project: Path) -> None:
    arguments = ("device", "power", "--profile", "jetson-agx-thor", "--state", str(project / "x"))
    shown = forge(project, *arguments, "--json")
    found = json.loads(shown.stdout)
    assert shown.returncode == 0
    assert found["wanted_by"] == "profile jetson-agx-thor"
    assert found["power"]["wanted"]["mode"] == "120W"
    if Path("/etc/nvpmodel.conf").exists():
        pytest.skip("this is a Jetson: its power is left alone")
    assert "/etc/nvpmodel.conf has none" in found["power"]["problems"][0]
    applied = forge(project, *arguments, "--apply")
    assert applied.returncode == 5
    assert "Not all power settings are in effect" in applied.stderr
    assert "mode 120W" in applied.stdout


def test_device_has_the_commands_of_all_its_modules() -> None:
    """They are written down in one list; one that is left out is gone without a word."""
    made = [
        value
        for found in pkgutil.iter_modules(device_package.__path__)
        for value in vars(importlib.import_module(f"forge.cli.device.{found.name}")).values()
        if isinstance(value, click.Command)
    ]
    assert len(made) == 12
    assert set(device_package.device.commands.values()) == set(made)
