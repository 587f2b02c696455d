"""Which store's results must be signed: a shared one, if the project names builders."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.cli.results import open_results, with_signer
from forge.errors import ConfigurationError
from forge.project import Project
from forge.runners.results import SignedResults, StoredResults
from forge.store import Store
from forge.store.backends.memory import MemoryObjects
from tests.support.trusted_builders import builders, write_key, write_project_file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(MemoryObjects(), cache=tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize("url", [None, "", "s3://bucket/prefix", "/srv/store"])
def test_project_without_builders_signs_nothing(
    project: Project, store: Store, url: str | None
) -> None:
    results = open_results(project, store, url)
    assert isinstance(results, StoredResults)
    assert with_signer(results, {"FORGE_BUILDER_KEY": "/missing"}) is results


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "/srv/store", "https://host/store"])
def test_shared_store_needs_signed_results(project: Project, store: Store, url: str) -> None:
    write_project_file(project.root, builders(hosted=["*"]))
    assert isinstance(open_results(project, store, url), SignedResults)


def test_own_store_needs_none_however_it_is_named(
    project: Project, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project_file(project.root, builders(hosted=["*"]))
    own = project.root / "artifacts"
    own.mkdir()
    (project.root / "link").symlink_to(own)
    monkeypatch.chdir(project.root)
    for url in (None, "", str(own), own.as_uri(), "artifacts", f"{own}/", "link"):
        assert isinstance(open_results(project, store, url), StoredResults), url


def test_signer_is_the_builder_that_has_the_key(project: Project, store: Store) -> None:
    write_project_file(project.root, builders(hosted=["*"], gpu=["smoke@*"]))
    key = write_key(project.root / "key", "gpu")
    results = with_signer(open_results(project, store, "s3://b/p"), {"FORGE_BUILDER_KEY": str(key)})
    assert isinstance(results, SignedResults)
    assert results.signer is not None
    assert results.signer.builder == "gpu"


def test_project_file_that_is_not_valid_stops_a_run_of_any_store(
    project: Project, store: Store
) -> None:
    (project.root / "forge.yaml").write_text("builders: {}")
    with pytest.raises(ConfigurationError):
        open_results(project, store, None)
