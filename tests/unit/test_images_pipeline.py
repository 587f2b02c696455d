"""The shipped images pipeline: which steps, where, and what reaches their keys."""

import shutil
from pathlib import Path

import pytest

from forge import profiles
from forge.errors import ConfigurationError
from forge.plan import Plan
from forge.project import Project
from forge.steps import key_of
from stages import image, publish

ROOT = Path(__file__).resolve().parents[2]
DIGEST = f"sha256:{'a' * 64}"


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
    with pytest.raises(ConfigurationError, match="is not PLATFORM=LABEL"):
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


@pytest.mark.usefixtures("dockerfiles")
def test_manifest_names_the_image_by_digest_where_one_is_known() -> None:
    profile = profiles.load("rtx-pro-4000", ROOT / "profiles").profile
    fields = publish._fields(profile)
    assert fields["serving"] == {
        "activation": profile.serving.activation,
        "start_timeout_s": profile.serving.start_timeout_s,
        "image": f"nvcr.io/nvidia/tritonserver@{DIGEST}",
    }


def test_manifest_keeps_the_tag_while_no_digest_is_known() -> None:
    assert image.by_digest("nvcr.io/nvidia/tritonserver:25.09-py3") == (
        "nvcr.io/nvidia/tritonserver:25.09-py3"
    )
    assert image.by_digest(None) is None
