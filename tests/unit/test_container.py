"""Which image the agent runs in, by what was written into it and by who started it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.container import RunningImage, Statement, running_image
from forge.errors import ConfigurationError

BASE, OWN, OTHER = (f"sha256:{letter * 64}" for letter in "bac")
STATEMENT = Statement(
    name="serving-triton-26.07",
    platform="linux/amd64",
    base="nvcr.io/nvidia/tritonserver:26.07",
    base_digest=BASE,
    version="0.1.0",
)
STARTED = RunningImage(STATEMENT, f"registry.example/serving@{OWN}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.json"
    path.write_bytes(STATEMENT.encode())
    return path


def test_outside_of_an_image_nobody_can_claim_to_be_in_one(tmp_path: Path) -> None:
    environment = {"FORGE_IMAGE": STARTED.reference}
    assert running_image(environment, tmp_path / "image.json") is None


def test_an_image_is_what_it_says_and_what_it_was_started_as(file: Path) -> None:
    assert running_image({"FORGE_IMAGE": STARTED.reference}, file) == STARTED
    assert running_image({}, file) == RunningImage(STATEMENT)


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 2}', "\x00"])
def test_a_damaged_statement_is_refused(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="is not valid"):
        running_image({}, file)


@pytest.mark.parametrize("reference", ["a b", "a@sha256:12", "a\nb", "@"])
def test_a_reference_that_is_none_is_refused(file: Path, reference: str) -> None:
    with pytest.raises(ConfigurationError, match="not a valid image reference"):
        running_image({"FORGE_IMAGE": reference}, file)


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        (f"registry.example/serving@{OWN}", True),
        (f"mirror.example/serving@{OWN}", True),
        (f"nvcr.io/nvidia/tritonserver@{BASE}", True),
        (f"registry.example/serving@{OTHER}", False),
        (f"nvcr.io/nvidia/tritonserver:26.07@{OTHER}", False),
        ("nvcr.io/nvidia/tritonserver:26.07", True),
        ("registry.example/serving", True),
        ("registry.example/serving:2", False),
    ],
)
def test_images_are_the_same_by_digest_and_only_without_one_by_name(
    wanted: str, *, same: bool
) -> None:
    assert STARTED.is_the_image(wanted) is same


def test_an_image_nobody_gave_a_reference_is_known_by_its_base_only() -> None:
    assert RunningImage(STATEMENT).is_the_image(f"nvcr.io/nvidia/tritonserver@{BASE}")
    assert not RunningImage(STATEMENT).is_the_image(f"registry.example/serving@{OWN}")
    assert not RunningImage(STATEMENT).is_the_image("@")
