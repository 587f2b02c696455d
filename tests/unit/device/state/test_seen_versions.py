"""A version that changes its content is refused, and all else is not in the way."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from forge.device.state.seen_versions import SeenVersions
from forge.errors import ConfigurationError, TrustError
from tests.support.release_world import manifest


def test_a_version_that_changes_its_content_is_refused_again_and_again(tmp_path: Path) -> None:
    seen = SeenVersions(tmp_path)
    seen.check(manifest("1.0.0", "development"))
    other = manifest("1.0.0", "development", tree="f" * 64)
    for one in (seen, SeenVersions(tmp_path)):  # also after a restart
        with pytest.raises(TrustError, match=r"1\.0\.0 for development is not what it was"):
            one.check(other)
        one.check(manifest("1.0.0", "development"))


def test_other_proofs_and_times_are_no_other_content(tmp_path: Path) -> None:
    seen, plain = SeenVersions(tmp_path), manifest("1.0.0", "development")
    seen.check(plain)
    proofs = plain.proofs.model_copy(update={"digest": "e" * 64})
    seen.check(plain.model_copy(update={"proofs": proofs}))
    seen.check(manifest("1.0.0", "development", created=datetime(2026, 1, 2, tzinfo=UTC)))


def test_versions_and_profiles_are_told_apart(tmp_path: Path) -> None:
    seen = SeenVersions(tmp_path)
    for tree, (version, profile) in enumerate(
        [("1.0.0", "development"), ("1.0.1", "development"), ("1.0.0", "other")]
    ):
        seen.check(manifest(version, profile, tree=f"{tree:064x}"))


def test_the_newest_are_kept(tmp_path: Path) -> None:
    seen = SeenVersions(tmp_path)
    for number in range(300):
        seen.check(manifest(f"1.0.{number}", "development"))
    kept = json.loads((tmp_path / "seen.json").read_text())["identities"]
    assert list(kept) == [f"demo/1.0.{number}/development" for number in range(44, 300)]


@pytest.mark.parametrize("data", [b"", b"{", b'{"identities": {"a": "b"}}', b"[1]"])
def test_a_damaged_file_is_begun_again(
    data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "seen.json").write_bytes(data)
    SeenVersions(tmp_path).check(manifest("1.0.0", "development"))
    assert "damaged" in caplog.text
    with pytest.raises(TrustError):
        SeenVersions(tmp_path).check(manifest("1.0.0", "development", tree="f" * 64))


def test_a_file_that_cannot_be_read_is_the_disks_fault(tmp_path: Path) -> None:
    (tmp_path / "seen.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        SeenVersions(tmp_path).check(manifest("1.0.0", "development"))
