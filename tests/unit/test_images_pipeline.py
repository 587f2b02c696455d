"""The shipped images pipeline: which steps, where, and what reaches their keys."""

import shutil
from pathlib import Path

import pytest

from forge import profiles
from forge.errors import ConfigurationError
from forge.plan import Plan
from forge.project import Project
from forge.steps import Artifact, Step, key_of
from stages import image, model_repository, smoke

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'a' * 64}"
ENGINE = Artifact(Step(id="engine", argv=("true",), outputs=("engine",)), "engine")
PROBE = Step(id="accuracy-gate@x", argv=("true",), outputs=("probe",))["probe"]


@pytest.fixture
def dockerfiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This project's, with every base resolved."""
    folder = tmp_path / "dockerfiles"
    shutil.copytree(ROOT / "dockerfiles", folder)
    bases = folder / "bases.yaml"
    bases.write_text(bases.read_text().replace("digest: null", f"digest: {DIGEST}"))
    monkeypatch.setattr(image, "DOCKERFILES", folder)
    return folder


def images(*names: str, **options: object) -> Plan:
    chosen = names or tuple(profiles.names(ROOT / "profiles"))
    loaded = [profiles.load(name, ROOT / "profiles").profile for name in chosen]
    given = {"profiles": loaded, "catalog": None, "keys": None}
    # The test's own `image` module: a project's pipelines import theirs once a process.
    return Project(ROOT).load("images").plan(given, options)


def keys(plan: Plan) -> dict[str, str]:
    return {
        step.id: key_of(step, dict.fromkeys(step.inputs, "a" * 64)).digest for step in plan.steps
    }


@pytest.mark.usefixtures("dockerfiles")
def test_each_image_is_built_for_each_platform_and_joined_by_one_index() -> None:
    steps = [step.id for step in images("development").steps]
    for name in ("device", "huggingface", "openvino", "triton-openvino"):
        made = [step for step in steps if step.startswith(f"image@{name}-a")]
        assert made == [f"image@{name}-amd64", f"image@{name}-arm64"]
        assert f"index@{name}" in steps
    assert not [step for step in steps if step.startswith(("push@", "image@serving-"))]


@pytest.mark.usefixtures("dockerfiles")
def test_serving_image_is_planned_once_a_triton_base_for_the_platforms_that_need_it() -> None:
    steps = {step.id for step in images().steps}
    assert {step for step in steps if "serving-" in step} == {
        "image@serving-triton-25.09-arm64",
        "image@serving-triton-26.07-trtllm-amd64",
        "index@serving-triton-25.09",
        "index@serving-triton-26.07-trtllm",
    }


@pytest.mark.usefixtures("dockerfiles")
def test_build_needs_buildah_and_push_needs_skopeo_and_is_an_effect() -> None:
    plan = images("development", push=True)
    assert plan.step("image@device-arm64").programs == ("buildah",)
    push = plan.step("push@device")
    assert push.programs == ("skopeo",)
    assert push.effect


def test_base_without_a_digest_is_planned_and_refused_by_every_runner() -> None:
    step = images("development").step("image@device-amd64")
    assert "forge images update" in step.planned_only


@pytest.mark.usefixtures("dockerfiles")
def test_native_runner_is_a_label_and_not_part_of_the_key() -> None:
    emulated = images("development")
    native = images("development", runners="linux/arm64=ubuntu-24.04-arm")
    assert native.step("image@device-arm64").labels == ("ubuntu-24.04-arm",)
    assert native.step("image@device-amd64").labels == ()
    assert keys(emulated) == keys(native)


@pytest.mark.usefixtures("dockerfiles")
@pytest.mark.parametrize("text", ["linux/arm64", "arm64=x", "linux/arm64="])
def test_bad_native_runner_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a valid runner"):
        images("development", runners=text)


def test_new_digest_of_a_base_changes_the_images_on_it_only(dockerfiles: Path) -> None:
    before = keys(images())
    bases = dockerfiles / "bases.yaml"
    text, tail = bases.read_text().split("triton-25.09:")
    bases.write_text(f"{text}triton-25.09:{tail.replace('a' * 64, 'b' * 64)}")
    after = keys(images())
    changed = {step for step in before if before[step] != after[step]}
    assert changed == {"image@serving-triton-25.09-arm64"}


@pytest.mark.usefixtures("dockerfiles")
def test_registry_and_tag_reach_index_and_push_but_no_build() -> None:
    before = keys(images("development"))
    after = keys(images("development", registry="registry.example/team"))
    changed = {step for step in before if before[step] != after[step]}
    assert changed == {step for step in before if step.startswith("index@")}


def test_an_image_keeps_its_tag_while_no_digest_is_known() -> None:
    assert image.by_digest("nvcr.io/nvidia/tritonserver:25.09-py3") == (
        "nvcr.io/nvidia/tritonserver:25.09-py3"
    )
    assert image.by_digest(None) is None


CONTAINED = ("serving.server=container", "serving.environment=null")


@pytest.mark.usefixtures("dockerfiles")
def test_profile_may_name_the_image_that_this_project_builds_on_a_base() -> None:
    override = (*CONTAINED, "serving.image=serving-triton-26.07-trtllm")
    named = profiles.load("development", ROOT / "profiles", overrides=override).profile
    other = named.model_copy(update={"name": "other"})
    served_in = image.served_in([named, other], "registry.example/team")
    # One image for both, so one step.
    assert served_in["other"].step is served_in["development"].step
    rendered = model_repository.render(named, ENGINE, PROBE, served_in["development"])
    assert rendered.step.inputs["image"].step.id == "index@serving-triton-26.07-trtllm"
    assert rendered.step.planned_only == ""
    plain = profiles.load("development", ROOT / "profiles").profile
    assert image.served_in([plain], "registry.example/team") == {}


@pytest.mark.usefixtures("dockerfiles")
@pytest.mark.parametrize("name", ["serving-triton-25.09", "serving-nothing"])
def test_profile_that_names_an_image_nobody_builds_for_it_is_refused(name: str) -> None:
    override = (*CONTAINED, f"serving.image={name}")
    named = profiles.load("development", ROOT / "profiles", overrides=override).profile
    with pytest.raises(ConfigurationError, match="no pipeline builds"):
        image.of_profile(named)


@pytest.mark.parametrize("name", ["rtx-pro-4000", "jetson-agx-thor"])
def test_what_is_served_in_an_image_without_a_digest_is_planned_and_says_why(name: str) -> None:
    profile = profiles.load(name, ROOT / "profiles").profile
    assert "has no digest yet" in model_repository.render(profile, ENGINE, PROBE).step.planned_only
    assert smoke.benchmark(profile, ENGINE).step.planned_only


@pytest.mark.usefixtures("dockerfiles")
def test_a_model_repository_names_its_image_by_digest() -> None:
    profile = profiles.load("rtx-pro-4000", ROOT / "profiles").profile
    step = model_repository.render(profile, ENGINE, PROBE).step
    serving = step.settings["serving"]
    assert isinstance(serving, dict)
    assert serving["image"] == f"nvcr.io/nvidia/tritonserver@{DIGEST}"
    assert step.planned_only == ""
    assert smoke.benchmark(profile, ENGINE).step.planned_only == ""
