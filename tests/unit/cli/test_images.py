"""`forge images list|update` and what refuses an image, before any registry or buildah is asked."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from forge.cli import main
from forge.images.steps import build as command

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_list_says_of_each_image_what_keeps_it_from_being_built(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "list", "--project", str(project), "--json"]) == 0
    rows = {row["image"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["device"]["dockerfile"] == "device/Dockerfile"
    assert rows["openvino"]["dockerfile"] == "dockerfiles/tool.Dockerfile"
    assert "has no digest yet: forge images update" in rows["device"]["state"]
    assert rows["serving-triton-26.07-trtllm"]["platforms"] == "linux/amd64"  # rtx-pro-4000's


def test_run_is_refused_before_anything_runs_while_a_base_has_no_digest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = project / "artifacts"
    words = ["run", "images", "--project", str(project), "--store", str(store)]
    assert main([*words, "--profile", "development"]) == 4
    assert "forge images update" in capsys.readouterr().err
    assert not (store / "actions").exists()


def test_build_on_a_base_without_a_digest_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = {"reference": "registry.example/x:1", "digest": None, "platforms": ["linux/amd64"]}
    settings = {"image": "x", "platform": "linux/amd64", "base": base, "version": "1"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    words = ["--settings", str(tmp_path / "settings.json")]
    words += ["--dockerfile", "/none", "--layout", str(tmp_path), "--image", str(tmp_path)]
    assert command.main(words) == 3
    assert "forge images update" in capsys.readouterr().err


def test_update_of_an_unknown_base_names_the_known_ones(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "update", "python", "--project", str(project)]) == 2
    assert "python-3.11" in capsys.readouterr().err


def test_update_without_skopeo_says_how_to_get_it_and_leaves_the_file(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "dockerfiles" / "bases.yaml").read_text()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert main(["images", "update", "--project", str(project)]) == 4
    assert "apt-get install skopeo" in capsys.readouterr().err
    assert (project / "dockerfiles" / "bases.yaml").read_text() == before


def test_registry_that_cannot_be_reached_leaves_the_file(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not on this machine")
    path = project / "dockerfiles" / "bases.yaml"
    real = "docker.io/library/python:3.11-slim-bookworm"
    path.write_text(path.read_text().replace(real, "http://127.0.0.1:1/base:1"))
    before = path.read_text()
    assert main(["images", "update", "python-3.11", "--project", str(project)]) == 5
    assert "skopeo inspect failed" in capsys.readouterr().err
    assert path.read_text() == before
