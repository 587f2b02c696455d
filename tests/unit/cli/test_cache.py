"""`forge cache df|prune`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forge.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("pipelines", "profiles", "artifacts", ".forge/keys", ".forge/failed/smoke@x-01"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("artifacts/bundle", ".forge/keys/root-1.pem", ".forge/failed/smoke@x-01/log.txt"):
        (tmp_path / name).write_bytes(b"x" * 10_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path


@pytest.mark.usefixtures("project")
def test_df_says_what_is_safe_to_delete_and_that_keys_and_store_are_not(capsys: Capture) -> None:
    assert main(["cache", "df", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["failed"]["items"] == 1
    assert found["failed"]["bytes"] > 10_000
    assert found["failed"]["prune"] == "forge cache prune"
    assert {name for name, row in found.items() if row["prune"] is None} == {"store", "keys"}
    assert found["store"]["bytes"] > 10_000


def test_prune_deletes_what_was_not_used_and_nothing_else(project: Path, capsys: Capture) -> None:
    failed = project / ".forge/failed/smoke@x-01"
    assert main(["cache", "prune"]) == 0
    assert "Everything was used in the last 30 days" in capsys.readouterr().out
    os.utime(failed, (1, 1))
    assert main(["cache", "prune", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dry_run"]
    assert [one["path"] for one in found["deleted"]] == [str(failed)]
    assert failed.exists()
    assert main(["cache", "prune"]) == 0
    assert not failed.exists()
    assert (project / ".forge/keys/root-1.pem").exists()
    assert (project / "artifacts/bundle").exists()


def test_prune_of_one_kind_leaves_the_others(project: Path) -> None:
    assert main(["cache", "prune", "--older-than", "0", "--only", "trees"]) == 0
    assert (project / ".forge/failed/smoke@x-01").exists()
