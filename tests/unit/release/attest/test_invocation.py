"""What a release is planned from, read from git and without what is private."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from forge.release.attest.invocation import Invocation, read_source


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, "-C", str(folder), *arguments],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


def test_commit_of_a_clean_checkout(checkout: Path) -> None:
    found = read_source(checkout, {})
    assert found is not None
    assert found.commit == git(checkout, "rev-parse", "HEAD")
    assert (found.repository, found.modified) == ("", False)


@pytest.mark.parametrize("name", ["file", "another"])
def test_changed_and_new_files_are_a_modification(checkout: Path, name: str) -> None:
    (checkout / name).write_text("two")
    found = read_source(checkout, {})
    assert found is not None
    assert found.modified


def test_change_outside_the_project_is_none_of_it(checkout: Path) -> None:
    (checkout / "sub").mkdir()
    (checkout / "sub" / "file").write_text("x")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "two")
    (checkout / "file").write_text("two")
    found = read_source(checkout / "sub", {})
    assert found is not None
    assert not found.modified


def test_checkout_whose_state_is_not_known_is_not_presented_as_its_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "git"
    program.write_text(
        f'#!/bin/sh\nfor one; do [ "$one" = status ] && exit 128; done\nexec {real} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    found = read_source(checkout, {})
    assert found is not None
    assert found.modified


def test_folder_without_a_commit_has_no_source(tmp_path: Path) -> None:
    assert read_source(tmp_path / "missing", {}) is None
    git(tmp_path, "init", "--quiet")
    assert read_source(tmp_path, {}) is None


REMOTES = {
    "https://host/owner/name.git": "https://host/owner/name.git",
    "https://user:token@host/owner/name": "https://host/owner/name",
    "https://token@host:8443/owner/name": "https://host:8443/owner/name",
    "git@host:owner/name.git": "https://host/owner/name.git",
    "ssh://git@host:22/owner/name": "https://host/owner/name",
    "https://host/o/n?access_token=x#y": "https://host/o/n",
    "/srv/git/name": "",
    "../name": "",
    "file:///srv/git/name": "",
    "https://[bad": "",
    "C:/name": "",
}


@pytest.mark.parametrize(("remote", "uri"), REMOTES.items())
def test_repository_has_no_credentials_and_is_no_path(
    checkout: Path, remote: str, uri: str
) -> None:
    git(checkout, "config", "remote.origin.url", remote)
    found = read_source(checkout, {})
    assert found is not None
    assert found.repository == uri


def test_github_names_the_repository_of_a_job(checkout: Path) -> None:
    job = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/name"}
    found = read_source(checkout, job)
    assert found is not None
    assert found.repository == "https://github.com/owner/name"


def test_parameters_have_no_paths_of_this_machine() -> None:
    options = {
        "model": f"file:/home/me/model.gguf#sha256={'a' * 64}",
        "keys": "/home/me/keys",
        "version": "1.0.0",
        "fast": True,
        "none": None,
    }
    found = Invocation.of("release", options, ("engine.max_batch_size=4",), None)
    assert found.parameters == {
        "model": f"file:model.gguf#sha256={'a' * 64}",
        "keys": "keys",
        "version": "1.0.0",
        "fast": True,
        "set": ["engine.max_batch_size=4"],
    }
    assert Invocation.model_validate_json(found.model_dump_json()) == found
