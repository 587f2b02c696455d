"""What a pull request must pass."""

import shutil
from pathlib import Path

import pytest

from forge.check import Finding, check
from forge.project import Project
from forge.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PROFILE = """
description: any PC
platform: linux/amd64
hardware:
  match: {}
engine:
  builder: openvino
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    for name in ("pipelines", "profiles"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / "profiles" / "defaults.yaml", root / "profiles")
    (root / "profiles" / "pc.yaml").write_text(PROFILE)
    return Project(root)


def wrong(project: Project, tmp_path: Path) -> dict[str, str]:
    found = check(project, open_store(str(tmp_path / "store"), cache=tmp_path))
    assert all(isinstance(one, Finding) for one in found)
    return {one.what: one.detail for one in found if not one.good}


def lock(project: Project, text: str | None) -> None:
    folder = project.root / "dockerfiles" / "tool"
    folder.mkdir(parents=True)
    (folder / "requirements.in").write_text("a\n")
    if text is not None:
        (folder / "requirements.lock").write_text(text)


def test_small_project_without_pipelines_is_fine(project: Project, tmp_path: Path) -> None:
    assert wrong(project, tmp_path) == {}
    assert not (tmp_path / "store").exists()


def test_no_profiles_is_wrong(project: Project, tmp_path: Path) -> None:
    (project.profiles / "pc.yaml").unlink()
    assert list(wrong(project, tmp_path)) == ["profiles"]


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (None, "requirements.in has no requirements.lock"),
        ("a==1 \\\n    --hash=sha256:00\nb==2\n", "b==2 has no hash"),
    ],
)
def test_lock_that_does_not_pin_everything_is_wrong(
    project: Project, tmp_path: Path, text: str | None, detail: str
) -> None:
    lock(project, text)
    assert wrong(project, tmp_path)["lock tool"].startswith(detail)


def test_lock_with_a_hash_for_each_package_is_fine(project: Project, tmp_path: Path) -> None:
    lock(project, "# made by uv\na==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n")
    assert wrong(project, tmp_path) == {}


def test_schema_of_another_version_is_wrong(project: Project, tmp_path: Path) -> None:
    path = project.root / "artifacts" / "schema" / "profile.schema.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    assert "forge profile schema --write" in wrong(project, tmp_path)["schema"]


def test_pipeline_that_fails_for_one_profile_is_named_with_it(
    project: Project, tmp_path: Path
) -> None:
    (project.profiles / "other.yaml").write_text(PROFILE)
    (project.root / "pipelines" / "mine.py").write_text(
        "from forge.errors import ConfigurationError\n"
        "from forge.plan import Plan\n"
        "def mine(profiles) -> Plan:\n"
        "    if [one.name for one in profiles] == ['pc']:\n"
        "        raise ConfigurationError('no engine')\n"
        "    return Plan('mine', ())\n"
    )
    assert wrong(project, tmp_path) == {"pipeline mine for pc": "no engine"}


def test_pipeline_that_cannot_be_imported_is_wrong(project: Project, tmp_path: Path) -> None:
    (project.root / "pipelines" / "mine.py").write_text("import nowhere_to_be_found\n")
    assert "nowhere_to_be_found" in wrong(project, tmp_path)["pipeline mine"]


def test_pipeline_with_a_required_option_is_loaded_but_not_planned(
    project: Project, tmp_path: Path
) -> None:
    (project.root / "pipelines" / "mine.py").write_text(
        "from forge.plan import Plan\ndef mine(*, tag: str) -> Plan:\n    raise ValueError\n"
    )
    assert wrong(project, tmp_path) == {}


RULES = 'hardware: {match: {gpu_name: "%s", compute_capability: "12.0"}}\n'


def test_two_profiles_that_one_machine_can_match_are_wrong(
    project: Project, tmp_path: Path
) -> None:
    for name, glob in (("one", "NVIDIA RTX*"), ("two", "*Blackwell"), ("three", "NVIDIA A?")):
        text = PROFILE.replace("hardware:\n  match: {}\n", RULES % glob)
        (project.profiles / f"{name}.yaml").write_text(text)
    found = wrong(project, tmp_path)
    assert list(found) == ["profiles one and two"]
    assert (
        "both match a machine with GPU 'NVIDIA RTXBlackwell', compute capability 12.0"
        in (found["profiles one and two"])
    )
    (project.profiles / "two.yaml").unlink()
    assert wrong(project, tmp_path) == {}
