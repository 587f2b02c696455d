"""The cascade a profile is read through, and what is refused on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge import profiles
from forge.errors import ConfigurationError, NotFoundError
from forge.profiles import Source

SHIPPED = Path(__file__).parents[3] / "profiles"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped profiles."""
    for path in SHIPPED.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refused(name: str, folder: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        profiles.load(name, folder)
    assert caught.value.exit_code == 3
    assert profiles.load("development", folder).profile.name == "development"
    return caught.value


def test_values_remember_the_file_they_came_from(folder: Path) -> None:
    origins = profiles.load("rtx-pro-4000-aot", folder).origins
    assert origins["engine.builder"].where.endswith("/rtx-pro-4000-aot.yaml")
    assert origins["requires.driver_min"].source is Source.PARENT
    assert origins["serving.model"].source is Source.DEFAULT


def test_environment_and_command_line_win_in_that_order(folder: Path) -> None:
    resolved = profiles.load(
        "development",
        folder,
        environment={"FORGE_PROFILE_SMOKE__REQUESTS": "7", "FORGE_PROFILE_SMOKE__MAX_TOKENS": "9"},
        overrides=["smoke.requests=5"],
    )
    assert (resolved.profile.smoke.requests, resolved.profile.smoke.max_tokens) == (5, 9)
    assert resolved.origins["smoke.requests"].source is Source.COMMAND_LINE
    assert resolved.origins["smoke.max_tokens"].where == "FORGE_PROFILE_SMOKE__MAX_TOKENS"


def test_an_unknown_key_names_the_file_and_the_key_meant(folder: Path) -> None:
    path = folder / "mine.yaml"
    path.write_text("extends: development\nengine: {max_batchsize: 3}\n")
    error = refused("mine", folder)
    assert "Unknown key 'engine.max_batchsize' in" in str(error)
    assert "mine.yaml" in str(error)
    assert "did you mean 'engine.max_batch_size'?" in str(error)


def test_a_profile_that_extends_itself_is_refused_with_the_circle(folder: Path) -> None:
    (folder / "one.yaml").write_text("extends: two\n")
    (folder / "two.yaml").write_text("extends: one\n")
    assert "one → two → one" in str(refused("one", folder))


def test_a_parent_that_is_not_there_is_named_with_its_child(folder: Path) -> None:
    (folder / "mine.yaml").write_text("extends: developmnt\n")
    error = refused("mine", folder)
    assert "profiles/mine.yaml extends it" in str(error)
    assert "did you mean 'development'?" in str(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine: {max_batch_size: many}", "engine.max_batch_size"),
        ("engine: {max_batch_size: '3'}", "engine.max_batch_size"),
        ("thermal: {throttle_c: 900}", "thermal.throttle_c"),
        ("platform: windows/amd64", "platform"),
        ("engine: 7\n", "engine"),
        ("engine: {precision: fp3}", "engine.precision"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_file(folder: Path, text: str, said: str) -> None:
    (folder / "mine.yaml").write_text(f"extends: development\n{text}\n")
    assert said in str(refused("mine", folder))


@pytest.mark.parametrize("text", ["a: [", "- one\n- two\n", "!!python/object:os.system {}"])
def test_a_file_that_is_no_yaml_mapping_is_refused(folder: Path, text: str) -> None:
    (folder / "mine.yaml").write_text(text)
    assert "mine.yaml" in str(refused("mine", folder))


@pytest.mark.parametrize("name", ["../development", "", "a/b", "x" * 80])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(NotFoundError, match="No profile"):
        profiles.load(name, folder)
