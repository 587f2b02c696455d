"""The record of the systems on which releases served: kept, bounded, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.device.hardware.system_versions import SystemVersions
from forge.device.shared.release import Release
from forge.device.state.served_on import ServedOn
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
SYSTEM = SystemVersions(driver="590.44.01", l4t="38.4.0")


def test_a_release_has_the_system_on_which_it_served_last(tmp_path: Path) -> None:
    record = ServedOn(tmp_path)
    assert record.read(OLD) is None
    record.note(OLD, SYSTEM)
    record.note(NEW, SystemVersions(driver="595.78"))
    assert record.read(OLD) == SYSTEM
    record.note(OLD, SystemVersions(driver="595.78"))  # the L4T is not known now
    assert ServedOn(tmp_path).read(OLD) == SystemVersions(driver="595.78", l4t="38.4.0")


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    record = ServedOn(tmp_path)
    record.note(OLD, SYSTEM)
    before = (tmp_path / "served-on.json").stat().st_ino
    record.note(OLD, SystemVersions(driver="590.44.01"))
    assert (tmp_path / "served-on.json").stat().st_ino == before


def test_the_releases_that_served_last_are_kept(tmp_path: Path) -> None:
    record = ServedOn(tmp_path)
    releases = [Release.of(manifest(f"1.{number}.0")) for number in range(12)]
    for number, release in enumerate(releases):
        record.note(release, SystemVersions(driver=str(number)))
    assert [record.read(one) is not None for one in releases] == [False] * 4 + [True] * 8


@pytest.mark.parametrize("text", ["", "[]", '{"served": {"x": {"driver": []}}}'])
def test_a_record_that_cannot_be_read_is_begun_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "served-on.json").write_text(text)
    assert ServedOn(tmp_path).read(OLD) is None
    ServedOn(tmp_path).note(OLD, SYSTEM)
    assert ServedOn(tmp_path).read(OLD) == SYSTEM


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ServedOn(tmp_path / "file").note(OLD, SYSTEM)
    assert ServedOn(tmp_path / "file").read(OLD) is None
