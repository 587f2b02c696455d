"""What a builder says of itself, and what planning refuses because of it."""

from pathlib import Path

import pytest

from forge import profiles
from forge.builders import Weights, builder_of, check, names, openvino, tensorrt_rtx
from forge.builders.tools import openvino_compile
from forge.errors import ConfigurationError
from forge.profiles import Profile
from forge.steps import Artifact, Step

ROOT = Path(__file__).resolve().parents[3]
AOT = "rtx-pro-4000-aot"


def profile(name: str, *overrides: str) -> Profile:
    return profiles.load(name, ROOT / "profiles", overrides=overrides).profile


@pytest.fixture
def weights() -> Weights:
    step = Step(id="checkpoint", argv=("true",), outputs=("a", "b", "c"))
    return Weights(step["a"], step["b"], "llama", step["c"])


def plan(made: Profile, weights: Weights) -> Artifact:
    return builder_of(made).compile(made, weights, ROOT / "dockerfiles")


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_architecture_nobody_compiles_is_refused_with_the_list_of_those_known(name: str) -> None:
    builder = builder_of(profile(name))
    with pytest.raises(ConfigurationError, match="knows no 'gpt2' models") as caught:
        check(profile(name), builder, "gpt2")
    assert caught.value.why == f"it knows {', '.join(builder.ARCHITECTURES)}"


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_shipped_profile_asks_its_builder_for_what_it_makes(name: str) -> None:
    check(profile(name), builder_of(profile(name)), "llama")
    check(profile(name), builder_of(profile(name)), None)


def test_every_module_of_the_package_is_a_builder_and_nothing_else_is() -> None:
    assert names() == ["edge-llm", "openvino", "tensorrt-llm", "tensorrt-rtx"]


def test_builder_that_does_not_exist_is_refused_with_the_one_probably_meant() -> None:
    with pytest.raises(ConfigurationError, match="'openvina' that does not exist") as caught:
        builder_of(profile("development", "engine.builder=openvina"))
    assert caught.value.hint == "did you mean 'openvino'?"


def test_architectures_of_openvino_are_those_of_its_tool() -> None:
    assert openvino.ARCHITECTURES == openvino_compile.ARCHITECTURES


def test_engine_for_a_gpu_is_compiled_on_any_amd64_machine(weights: Weights) -> None:
    step = plan(profile(AOT), weights).step
    assert (step.platform, step.labels, step.planned_only) == ("linux/amd64", (), "")
    assert step.inputs == {"checkpoint": weights.onnx}


def test_engine_step_sees_what_decides_the_engine_and_no_more(weights: Weights) -> None:
    settings = plan(profile(AOT), weights).step.settings
    assert settings["hardware"] == {"compute_capability": "12.0"}
    assert isinstance(settings["engine"], dict)
    assert "build_on" not in settings["engine"]


@pytest.mark.parametrize(
    "override", ["hardware.compute_capability='11.0'", "platform=linux/arm64",
                 "hardware.compute_capability=null"]
)  # fmt: skip
def test_device_tensorrt_for_rtx_cannot_target_is_refused(override: str, weights: Weights) -> None:
    with pytest.raises(ConfigurationError, match="cannot compile for profile") as caught:
        plan(profile(AOT, override), weights)
    assert ", ".join(tensorrt_rtx.TARGETS) in caught.value.why
