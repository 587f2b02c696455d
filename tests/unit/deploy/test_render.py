"""The overlays of this repository are what the profiles say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from forge.cli import main
from forge.deploy.render import BASE, OVERLAYS, render
from forge.profiles import names
from tests.support.overlays import of

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    shutil.copytree(FOLDER, tmp_path / "k")
    return tmp_path / "k"


def test_overlays_are_as_the_profiles_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["deploy", "kubernetes", "--check"]) == 0
    made = {path.name for path in (FOLDER / OVERLAYS).iterdir()}
    assert made == set(names(ROOT / "profiles"))


@pytest.mark.parametrize("change", ["edited", "missing", "left over", "unreadable"])
def test_check_names_what_is_not_as_it_should_be(
    folder: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / OVERLAYS / "development" / "slots.yaml"
    if change == "edited":
        path.write_text("# mine\n")
    elif change == "missing":
        path.unlink()
    elif change == "unreadable":
        path.write_bytes(b"\xff")
    else:
        path = folder / OVERLAYS / "gone" / "slots.yaml"
        path.parent.mkdir()
        path.write_text("{}")
    assert main(["deploy", "kubernetes", str(folder), "--check"]) == 3
    said = capsys.readouterr().err
    assert (path.relative_to(folder).as_posix() if change != "unreadable" else "cannot be") in said


def test_write_puts_it_right_and_takes_away_what_no_profile_makes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / OVERLAYS / "development" / "slots.yaml").write_text("# mine\n")
    (folder / OVERLAYS / "development" / "more.yaml").touch()
    (folder / OVERLAYS / "gone").mkdir()
    (folder / OVERLAYS / "gone" / "slots.yaml").touch()
    assert main(["deploy", "kubernetes", str(folder), "--write", "--json"]) == 0
    rows = {row["file"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert {path: state for path, state in rows.items() if state != "same"} == {
        "overlays/development/slots.yaml": "differs",
        "overlays/development/more.yaml": "left over",
        "overlays/gone/slots.yaml": "left over",
    }
    assert not (folder / OVERLAYS / "gone").exists()
    assert main(["deploy", "kubernetes", str(folder), "--check"]) == 0


def test_nothing_is_written_beside_no_base(folder: Path) -> None:
    shutil.rmtree(folder / BASE)
    (folder / OVERLAYS / "development" / "slots.yaml").write_text("# mine\n")
    assert main(["deploy", "kubernetes", str(folder), "--write"]) == 3
    assert (folder / OVERLAYS / "development" / "slots.yaml").read_text() == "# mine\n"


def test_write_and_check_exclude_each_other(folder: Path) -> None:
    assert main(["deploy", "kubernetes", str(folder), "--write", "--check"]) == 2


def test_an_image_known_by_digest_is_set_and_another_is_left_to_the_site() -> None:
    image = f"registry.example/serving@sha256:{'a' * 64}"
    made = render([of("rtx-pro-4000", f"serving.image={image}")])
    known = yaml.safe_load(made["overlays/rtx-pro-4000/kustomization.yaml"])
    [entry] = known["images"]
    assert f"{entry['newName']}@{entry['digest']}" == image
    left = yaml.safe_load((FOLDER / OVERLAYS / "rtx-pro-4000/kustomization.yaml").read_text())
    assert "images" not in left
