"""`forge doctor` about the disk of a Dagger engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from forge.cli.doctor import DoctorCheck, _engine_disk
from forge.runners.dagger.session import CLI

UNIX = {"linux/amd64": "unix:///run/dagger/engine.sock"}
TCP = {"linux/arm64": "tcp://thor.example:8080"}


class Usage(NamedTuple):
    """What shutil.disk_usage returns."""

    total: int
    used: int
    free: int


def found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, engines: dict[str, str] | None
) -> list[DoctorCheck]:
    """Check a disk of 100 GB with this many GB free."""
    gigabyte = 10**9
    usage = Usage(100 * gigabyte, (100 - free) * gigabyte, free * gigabyte)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    environment = {CLI: "/bin/true"}
    if engines is not None:
        environment["FORGE_DAGGER_ENGINES"] = json.dumps(engines)
    return list(_engine_disk(environment, tmp_path, [tmp_path / "none", tmp_path]))


@pytest.mark.parametrize(("free", "ok"), [(0, False), (19, False), (20, True), (80, True)])
@pytest.mark.parametrize("engines", [UNIX, UNIX | TCP, None])
def test_less_than_a_fifth_free_is_a_warning_with_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    ok: object,
    engines: dict[str, str] | None,
) -> None:
    (check,) = found(tmp_path, monkeypatch, free, engines)
    assert check.ok is ok
    assert check.what == "20 % free disk for the engine"
    assert check.found.startswith(f"{free} % of 100 GB at {tmp_path}")
    assert check.fix == "dagger core engine local-cache prune"


def test_disk_of_an_engine_on_another_machine_is_not_this_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(tmp_path, monkeypatch, 5, TCP) == []


def test_without_dagger_or_a_place_that_exists_nothing_is_said(tmp_path: Path) -> None:
    assert list(_engine_disk({"PATH": str(tmp_path)}, tmp_path, [tmp_path])) == []
    assert list(_engine_disk({CLI: "/bin/true"}, tmp_path, [tmp_path / "none"])) == []


def test_settings_that_are_not_valid_are_left_to_the_check_of_dagger(tmp_path: Path) -> None:
    environment = {CLI: "/bin/true", "FORGE_DAGGER_ENGINES": "{"}
    assert list(_engine_disk(environment, tmp_path, [tmp_path])) == []
