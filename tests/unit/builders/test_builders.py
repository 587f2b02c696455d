"""What a builder says of itself, and what planning refuses because of it."""

import pytest
import yaml

from forge import profiles
from forge.builders import builder_of, check, load, names
from forge.errors import ConfigurationError
from forge.profiles import select
from tests.support.builder_plans import ROOT, profile


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_architecture_nobody_compiles_is_refused_with_the_list_of_those_known(name: str) -> None:
    builder = builder_of(profile(name))
    with pytest.raises(ConfigurationError, match="does not support 'rwkv' models") as caught:
        check(profile(name), builder, "rwkv")
    assert caught.value.why == f"supported architectures: {', '.join(builder.ARCHITECTURES)}"


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_shipped_profile_asks_its_builder_for_what_it_makes(name: str) -> None:
    check(profile(name), builder_of(profile(name)), "llama")
    check(profile(name), builder_of(profile(name)), None)


def test_every_module_of_the_package_is_a_builder_and_nothing_else_is() -> None:
    assert names() == ["edge-llm", "onnx-runtime", "openvino", "tensorrt-llm", "tensorrt-rtx"]


def test_builder_that_does_not_exist_is_refused_with_the_one_probably_meant() -> None:
    with pytest.raises(ConfigurationError, match="Unknown builder 'openvina'") as caught:
        builder_of(profile("development", "engine.builder=openvina"))
    assert caught.value.hint == "did you mean 'openvino'?"


def test_builder_that_is_like_no_other_is_refused_with_the_page_to_read() -> None:
    with pytest.raises(ConfigurationError, match="Unknown builder 'x' in profile") as caught:
        builder_of(profile("development", "engine.builder=x"))
    assert caught.value.why == f"available builders: {', '.join(names())}"
    assert caught.value.hint == "see docs/how-to/add-a-builder.md"


@pytest.mark.parametrize("name", names())
def test_builder_offers_all_that_planning_reads_of_it(name: str) -> None:
    builder = load(name)
    assert callable(builder.compile)
    for found in (builder.READS, builder.PRECISIONS, builder.ARCHITECTURES, builder.SETTINGS):
        assert found
        assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", profiles.names(ROOT / "profiles"))
def test_every_field_that_a_builder_reads_is_a_field_of_profiles(name: str) -> None:
    chosen = profile(name)
    for field in builder_of(chosen).READS:
        assert list(select(chosen, (field,))) == [field.partition(".")[0]]


def test_precision_that_the_builder_does_not_make_is_refused_with_those_it_makes() -> None:
    chosen = profile("development", "engine.precision=fp8")
    with pytest.raises(ConfigurationError, match="does not support precision fp8") as caught:
        check(chosen, builder_of(chosen), "llama")
    assert caught.value.why == "supported precision: as-is, fp16, bf16, int8, int4"
    assert caught.value.hint == "change engine.precision in profiles/development.yaml"
    assert caught.value.exit_code == 3


def test_profiles_say_what_nobody_ran() -> None:
    for name in ("jetson-agx-thor", "jetson-agx-orin", "rtx-pro-4000"):
        document = yaml.safe_load((ROOT / "profiles" / f"{name}.yaml").read_text())
        assert any("engine" in item for item in document["unverified"])
        assert any("serving" in item for item in document["unverified"])
