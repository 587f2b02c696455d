"""Refusals before work that the machine has no room for."""

from __future__ import annotations

from pathlib import Path

import pytest
import room

HUGE = 10**12  # MiB


def test_weights_are_counted_once_and_rounded_up(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(room.MIB))
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "model.gguf").write_bytes(b"1")
    (tmp_path / "tokenizer.json").write_bytes(bytes(room.MIB))
    assert room.weights_mib(tmp_path) == 2


def test_memory_that_is_not_there_is_refused_with_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable: 2048000 kB\n")
    monkeypatch.setattr(room, "MEMINFO", meminfo)
    monkeypatch.setattr(room, "CGROUPS", ())
    room.require_memory(2000, "the export")
    with pytest.raises(room.NoRoomError, match=r"the export takes up to 2001 MiB.* 2000 MiB are"):
        room.require_memory(2001, "the export")


def test_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{1000 * room.MIB}\n")
    (tmp_path / "memory.current").write_text(f"{900 * room.MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {300 * room.MIB}\n")
    monkeypatch.setattr(room, "CGROUPS", ((tmp_path / "memory.max", tmp_path / "memory.current"),))
    available = room.available_memory_mib()
    assert available is not None
    assert available <= 400
    (tmp_path / "memory.max").write_text("max\n")
    assert room._left(tmp_path / "memory.max", tmp_path / "memory.current") is None


def test_system_that_does_not_say_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(room, "CGROUPS", ())
    room.require_memory(HUGE, "the export")


def test_disk_that_is_not_there_is_refused_with_both_numbers(tmp_path: Path) -> None:
    room.require_disk(tmp_path / "not" / "yet", 1, "the export")
    with pytest.raises(room.NoRoomError, match=rf"up to {HUGE} MiB of disk, but \d+ MiB are free"):
        room.require_disk(tmp_path / "not" / "yet", HUGE, "the export")
