"""Where the engines are: forge.yaml, environment variables, and what is wrong in them."""

from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.runners.dagger.settings import DEFAULT_BASE, load

HOST = "linux/amd64"
FULL = """
runners:
  dagger:
    engines:
      linux/amd64: unix:///run/dagger/engine.sock
      linux/arm64: tcp://thor.example:8080
    base: registry.example/python:{python}
    labels: [gpu-sm120]
"""


def test_without_configuration_this_machines_platform_goes_to_daggers_own_default(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path, {}, host=HOST)
    assert settings.engines == {HOST: None}
    assert settings.base == DEFAULT_BASE


def test_daggers_own_variable_names_the_engine_of_this_platform(tmp_path: Path) -> None:
    environment = {"_EXPERIMENTAL_DAGGER_RUNNER_HOST": "unix:///run/x.sock"}
    assert load(tmp_path, environment, host=HOST).engines == {HOST: "unix:///run/x.sock"}


def test_file_names_one_engine_a_platform(tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text(FULL)
    settings = load(tmp_path, {}, host=HOST)
    assert settings.engine("linux/arm64", HOST) == ("linux/arm64", "tcp://thor.example:8080")
    assert settings.base == "registry.example/python:{python}"
    assert settings.labels == {"gpu-sm120"}


def test_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text(FULL)
    environment = {
        "FORGE_DAGGER_ENGINES": '{"linux/arm64": "unix:///a.sock"}',
        "FORGE_DAGGER_BASE": "base:1",
        "FORGE_RUNNER_LABELS": "gpu-sm110,big",
    }
    settings = load(tmp_path, environment, host=HOST)
    assert settings.engines == {"linux/arm64": "unix:///a.sock"}
    assert settings.base == "base:1"
    assert settings.labels == {"gpu-sm110", "big"}


def test_step_for_any_platform_goes_to_this_machines_engine_first(tmp_path: Path) -> None:
    (tmp_path / "forge.yaml").write_text(FULL)
    settings = load(tmp_path, {}, host="linux/arm64")
    assert settings.engine(None, "linux/arm64")[0] == "linux/arm64"
    assert settings.engine(None, "linux/riscv64")[0] == "linux/amd64"


WRONG = {
    "no YAML": "runners: [",
    "a list": "[]\n- 1",
    "unknown section": "builders: {}",
    "unknown runner": "runners: {docker: {}}",
    "unknown key": "runners: {dagger: {engine: 'unix:///x'}}",
    "engines are no mapping": "runners: {dagger: {engines: 'unix:///x'}}",
    "address without scheme": "runners: {dagger: {engines: {linux/amd64: /run/x.sock}}}",
    "no platform": "runners: {dagger: {engines: {amd64: 'unix:///x'}}}",
    "base is no text": "runners: {dagger: {base: 7}}",
    "labels are no list": "runners: {dagger: {labels: gpu-sm120}}",
    "too large": "#" * 70_000,
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_file_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "forge.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"forge\.yaml"):
        load(tmp_path, {}, host=HOST)


@pytest.mark.parametrize("text", ["{", "[1]", '{"linux/amd64": "http://x"}'])
def test_variable_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="FORGE_DAGGER_ENGINES"):
        load(tmp_path, {"FORGE_DAGGER_ENGINES": text}, host=HOST)
