"""What a step becomes in a container, decided without an engine."""

import io
import threading
from pathlib import Path

import pytest

import forge
from forge.closure import sources_of
from forge.errors import ConfigurationError, NoRunnerError
from forge.images.lock import own_lock
from forge.runners.base import Job
from forge.runners.dagger.container import ContainerPlan, container_plan, locked_lines, stays_here
from forge.runners.dagger.settings import DaggerSettings
from forge.runners.view import PlainView
from forge.steps import Environment, SourceFile, Step

HOST = "linux/amd64"
SETTINGS = DaggerSettings(
    engines={HOST: "unix:///run/a.sock", "linux/arm64": "tcp://thor:1"}, base="python:{python}-slim"
)
LOCK = Path("/project/dockerfiles/openvino/requirements.lock")
OPENVINO = Environment("openvino", LOCK, "00", "3.11")


def a_job(step: Step, tmp_path: Path) -> Job:
    names = [name for name in step.inputs if name not in step.references]
    return Job(
        step=step,
        folder=tmp_path,
        inputs={name: Path("/trees") / name for name in names},
        outputs={name: tmp_path / "outputs" / name for name in step.outputs},
        digests={},
        chain=(),
        store_url="/store",
        keys=Path("/keys"),
        view=PlainView(io.StringIO()),
        cancelled=threading.Event(),
    )


def planned(step: Step, tmp_path: Path, **environment: str) -> ContainerPlan:
    return container_plan(a_job(step, tmp_path), tmp_path / "d", SETTINGS, environment, HOST)


def test_placeholders_become_paths_in_the_container_and_folders_become_mounts(
    tmp_path: Path,
) -> None:
    before = Step(id="checkpoint", argv=("true",), outputs=("checkpoint",))
    step = Step(
        id="engine@a",
        argv=(
            *("${tools.openvino}/bin/python", "${source.compile}", "${inputs.checkpoint}"),
            *("${settings}", "${digests}", "${lock.serving}", "--out=${outputs.engine}"),
        ),
        inputs={"checkpoint": before["checkpoint"], "ref": before["checkpoint"]},
        references=frozenset({"ref"}),
        outputs=("engine",),
        environments=(OPENVINO,),
        locks=(Environment("serving", Path("/project/serving.lock"), "11", "3.11"),),
        sources=(SourceFile("compile", Path("/b/compile.py"), "22"),
                 SourceFile("reader", Path("/b/reader.py"), "23"),
                 SourceFile("other", Path("/c/other.py"), "33")),
    )  # fmt: skip
    plan = planned(step, tmp_path)
    assert plan.argv == (
        *("/opt/openvino/bin/python", "/forge/sources/compile.py", "/forge/inputs/checkpoint"),
        *("/forge/documents/settings.json", "/forge/documents/digests.json"),
        *("/forge/locks/serving/requirements.lock", "--out=/forge/outputs/engine"),
    )
    assert {mount.path: mount.host for mount in plan.folders} == {
        "/forge/inputs/checkpoint": Path("/trees/checkpoint"),
        "/forge/documents": tmp_path / "d",
    }
    assert {mount.path: mount.host for mount in plan.files} == {
        "/forge/sources/compile.py": Path("/b/compile.py"),
        "/forge/sources/reader.py": Path("/b/reader.py"),
        "/forge/locks/serving/requirements.lock": Path("/project/serving.lock"),
    }
    assert plan.outputs == {"/forge/outputs/engine": tmp_path / "outputs" / "engine"}


def test_environment_is_made_on_the_base_of_its_python(tmp_path: Path) -> None:
    environment = Environment("edge", LOCK, "00", "3.12")
    step = Step(id="export", argv=("${tools.edge}/bin/x",), environments=(environment,))
    plan = planned(step, tmp_path)
    assert plan.image == "python:3.12-slim"
    assert [(tool.name, tool.python) for tool in plan.tools] == [("edge", "3.12")]


def test_forge_command_gets_forges_own_lock_and_source(tmp_path: Path) -> None:
    plan = planned(Step(id="sbom", argv=("${python}", "-m", "forge.release.steps.sbom")), tmp_path)
    assert plan.argv[0] == "/opt/forge/bin/python"
    assert plan.image == "python:3.11-slim"
    assert [(tool.name, tool.lock) for tool in plan.tools] == [("forge", own_lock())]
    mounted = {mount.path: mount.host for mount in plan.folders}
    assert mounted["/forge/source/forge"] == Path(forge.__file__).parent


def test_what_is_mounted_holds_all_that_the_command_is_made_of(tmp_path: Path) -> None:
    module = "forge.smoke.steps.benchmark"
    plan = planned(Step(id="smoke", argv=("${python}", "-m", module)), tmp_path)
    folder = next(mount.host for mount in plan.folders if mount.path == "/forge/source/forge")
    assert all(source.path.is_relative_to(folder) for source in sources_of(module))


def test_command_without_forge_or_tools_gets_the_base_and_nothing_else(tmp_path: Path) -> None:
    plan = planned(Step(id="a", argv=("sh", "-c", "true")), tmp_path)
    assert (plan.image, plan.tools, plan.gpu) == ("python:3.11-slim", (), False)


def test_step_that_names_an_image_runs_in_it(tmp_path: Path) -> None:
    plan = planned(Step(id="a", argv=("trtllm-build",), image="nvcr.example/triton:1"), tmp_path)
    assert plan.image == "nvcr.example/triton:1"


def test_two_pythons_in_one_step_are_refused(tmp_path: Path) -> None:
    both = (OPENVINO, Environment("edge", LOCK, "00", "3.12"))
    step = Step(id="a", argv=("${tools.edge}", "${tools.openvino}"), environments=both)
    with pytest.raises(NoRunnerError, match=r"Python 3\.11 and 3\.12"):
        planned(step, tmp_path)


@pytest.mark.parametrize(
    ("platform", "engine"),
    [(None, "unix:///run/a.sock"), (HOST, "unix:///run/a.sock"), ("linux/arm64", "tcp://thor:1")],
)
def test_engine_is_that_of_the_steps_platform(
    tmp_path: Path, platform: str | None, engine: str
) -> None:
    plan = planned(Step(id="a", argv=("true",), platform=platform), tmp_path)
    assert (plan.platform, plan.engine) == (platform or HOST, engine)


@pytest.mark.parametrize(("label", "gpu"), [("gpu-sm120", True), ("x64", False)])
def test_gpu_label_asks_for_the_engines_gpus(tmp_path: Path, label: str, gpu: object) -> None:
    step = Step(id="a", argv=("true",), labels=("self-hosted", label))
    assert planned(step, tmp_path).gpu is gpu


def test_container_sees_declared_secrets_and_variables_and_its_plan_prints_no_secret(
    tmp_path: Path,
) -> None:
    step = Step(id="a", argv=("true",), secrets=("TOKEN", "ABSENT"), env={"MODE": "quick"})
    plan = planned(step, tmp_path, TOKEN="s3cr3t", OTHER="x", https_proxy="http://u:pw@proxy")
    assert plan.secrets == {"TOKEN": "s3cr3t", "https_proxy": "http://u:pw@proxy"}
    assert plan.env["MODE"] == "quick"
    assert "OTHER" not in plan.env
    assert "s3cr3t" not in repr(plan)
    assert "u:pw" not in repr(plan)


STAYS = {
    "effect": (Step(id="publish", argv=("true",), effect=True), "outside"),
    "keys": (Step(id="proofs", argv=("prove", "--keys", "${keys}")), "signing keys"),
    "store": (Step(id="a", argv=("read", "${store}")), "store"),
    "file of this machine": (Step(id="checkpoint", argv=("get", "file:/models/a")), "file"),
}


@pytest.mark.parametrize(("step", "reason"), STAYS.values(), ids=STAYS)
def test_what_needs_this_machine_stays_on_it(step: Step, reason: str) -> None:
    assert reason in stays_here(step)


def test_everything_else_goes_into_a_container() -> None:
    assert (
        stays_here(Step(id="a", argv=("${python}", "-m", "forge.smoke.steps.gate", "${settings}")))
        == ""
    )


def test_one_packages_lines_are_found_in_a_lock() -> None:
    wanted = "uv==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
    lock = f"uvicorn==1 \\\n    --hash=sha256:aa\n{wanted}wrapt==3\n"
    assert locked_lines(lock, "uv") == wanted


def test_package_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="does not list uv"):
        locked_lines("uvicorn==1\n", "uv")


def test_this_installation_has_its_own_lock_with_uv_in_it() -> None:
    assert "--hash=sha256:" in locked_lines(own_lock().read_text(), "uv")
