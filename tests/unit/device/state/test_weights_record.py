"""What is known of the slots' files is kept, and belongs to one release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.device.shared.release import Release
from forge.device.state.weights_record import (
    SlotReading,
    WeightsRecord,
    read_record,
    write_record,
)
from tests.support.manifests import manifest

AT = "2026-11-30T00:00:00Z"
OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = WeightsRecord(slots={"a": SlotReading(release=OLD, after="x", damaged=("w",))})
    write_record(tmp_path, record)
    assert read_record(tmp_path) == record


def test_of_another_release_in_the_slot_nothing_is_known() -> None:
    record = WeightsRecord(slots={"a": SlotReading(release=OLD, after="x", finished=AT)})
    assert record.of("a", OLD).after == "x"
    assert record.of("a", NEW) == SlotReading(release=NEW)
    assert record.of("b", OLD) == SlotReading(release=OLD)


def test_a_complete_reading_leaves_neither_progress_nor_damage() -> None:
    reading = SlotReading(release=OLD, began=AT, after="x", read_bytes=5, damaged=("w",))
    done = reading.done("now", "boot")
    assert (done.began, done.after, done.damaged) == (None, "", ())
    assert (done.finished, done.boot, done.read_bytes) == ("now", "boot", 5)


@pytest.mark.parametrize("content", [b"", b"{", b'{"slots": {"c": {}}}', b"\xff" * 2_000_000])
def test_a_damaged_record_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.json").write_bytes(content)
    assert read_record(tmp_path) == WeightsRecord()


@pytest.mark.parametrize("changes", [{"finished": "x"}, {"began": "2026-11-30T00:00:00"}])
def test_a_record_with_a_time_that_is_none_is_an_empty_one(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    document = {"slots": {"a": SlotReading(release=OLD).model_dump(mode="json") | changes}}
    (tmp_path / "weights.json").write_text(json.dumps(document))
    assert read_record(tmp_path) == WeightsRecord()
