"""A capture as one tar or as a folder; what is no capture is refused and reaches no disk."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.device.hardware import capture_files
from forge.device.hardware.capture import Capture
from forge.device.hardware.capture_files import read_capture, write_capture
from forge.device.hardware.facts import Answer
from forge.errors import ConfigurationError
from tests.support.captured import BOARDS, CAPTURES

CAPTURE = Capture(
    {"proc/device-tree/compatible": b"nvidia,a\0nvidia,b\0", "etc/os-release": b"\xff\n"},
    {"sys/class/thermal/thermal_zone0/temp": 11, "dev": 13},
    frozenset({"usr/lib/x86_64-linux-gnu/libnvinfer.so.10"}),
    {
        ("uname", "-m"): Answer("x86_64\n"),
        ("nvidia-smi",): Answer("out\r\n", "exit code 14: é", "errors", 14),
        ("nvidia-smi", "-L"): Answer(problem="no answer within 10 s"),
        ("a/b", "../../x"): Answer("1"),
        ("a/b", ".._.._x"): Answer("2"),
    },
)
INDEX = json.dumps({"schema_version": 1}).encode()


def test_it_comes_back_as_it_was_and_equal_captures_are_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tar", tmp_path / "b.tar"
    assert write_capture(CAPTURE, first) == first.stat().st_size
    write_capture(read_capture(first), second)
    assert read_capture(first) == CAPTURE
    assert first.read_bytes() == second.read_bytes()


def test_unpacked_by_tar_it_is_the_same(tmp_path: Path) -> None:
    write_capture(CAPTURE, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert all(entry.isreg() and entry.mtime == 0 for entry in archive)
    (tmp_path / "folder").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "folder"], check=True)
    assert read_capture(tmp_path / "folder") == CAPTURE
    with tarfile.open(tmp_path / "again.tar", "w") as archive:
        archive.add(tmp_path / "folder", ".")
    assert read_capture(tmp_path / "again.tar") == CAPTURE


@pytest.mark.parametrize("name", BOARDS)
def test_the_folders_of_the_tests_are_captures(tmp_path: Path, name: str) -> None:
    folder = read_capture(CAPTURES / name)
    write_capture(folder, tmp_path / "board.tar")
    assert read_capture(tmp_path / "board.tar") == folder
    assert folder.answers


Change = Callable[[tarfile.TarInfo], None]


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int | None = None) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, "/etc/passwd"
    made.size = size if size is not None else (2 if kind == tarfile.REGTYPE else 0)
    return made


def tar_of(path: Path, *entries: tarfile.TarInfo, index: bytes = INDEX) -> Path:
    with tarfile.open(path, "w") as archive:
        first = tarfile.TarInfo("capture.json")
        first.size = len(index)
        archive.addfile(first, io.BytesIO(index))
        for one in entries:
            archive.addfile(one, io.BytesIO(b"x" * one.size))
    return path


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("../x"), "'..'"),
        (entry("root/../../x"), "'..'"),
        (entry("/etc/passwd"), "absolute"),
        (entry("root//x"), "empty part"),
        (entry("root/a\nb"), "control character"),
        (entry("other/x"), "is in none of"),
        (entry("x"), "is in none of"),
        (entry("root/l", tarfile.SYMTYPE), "not a plain file"),
        (entry("root/l", tarfile.LNKTYPE), "not a plain file"),
        (entry("root/l", tarfile.FIFOTYPE), "not a plain file"),
        (entry("root/l", tarfile.CHRTYPE), "not a plain file"),
        (entry("capture.json"), "there twice"),
        (entry("root/big", size=3 * 256 * 1024), "has 786432 bytes"),
    ],
)
def test_a_tar_with_anything_but_small_plain_files_inside_is_refused(
    tmp_path: Path, bad: tarfile.TarInfo, why: str
) -> None:
    path = tar_of(tmp_path / "bad.tar", bad)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigurationError, match="is not a capture") as caught:
        read_capture(path)
    assert why in caught.value.why
    assert sorted(tmp_path.rglob("*")) == before


def test_a_size_below_zero_is_refused(tmp_path: Path) -> None:
    """A reader that goes on by that size would read the same header without end."""
    data = tar_of(tmp_path / "good.tar").read_bytes()
    bad = entry("root/x", size=-1024).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "bad.tar").write_bytes(data[:1024] + bad + b"\0" * 4096)
    with pytest.raises(ConfigurationError, match="is not a capture"):
        read_capture(tmp_path / "bad.tar")


def test_more_or_larger_than_any_capture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar_of(tmp_path / "many.tar", *(entry(f"root/{number}") for number in range(20)))
    read_capture(path)
    monkeypatch.setattr(capture_files, "MAX_FILES", 20)
    with pytest.raises(ConfigurationError, match="more than 20 entries"):
        read_capture(path)
    monkeypatch.setattr(capture_files, "MAX_FILES", 8192)
    monkeypatch.setattr(capture_files, "MAX_TAR_BYTES", 50)
    with pytest.raises(ConfigurationError, match="larger than 50 bytes"):
        read_capture(path)
    folder = tmp_path / "folder"
    (folder / "root").mkdir(parents=True)
    (folder / "capture.json").write_bytes(INDEX)
    for number in range(20):
        (folder / "root" / str(number)).write_text("xx")
    with pytest.raises(ConfigurationError, match="has 2 bytes"):
        read_capture(folder)


@pytest.mark.parametrize("target", ["/etc/passwd", "capture.json", "nowhere"])
def test_a_folder_with_a_link_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "capture.json").write_bytes(INDEX)
    assert read_capture(tmp_path) == Capture()
    (tmp_path / "root" / "link").symlink_to(target)
    with pytest.raises(ConfigurationError, match="not a plain file"):
        read_capture(tmp_path)


def test_a_linked_folder_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "capture.json").write_bytes(INDEX)
    (tmp_path / "root").symlink_to("/etc")
    with pytest.raises(ConfigurationError, match="not a plain file"):
        read_capture(tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        b"", b"[]", b"{", b"\xff", b'{"schema_version": 2}', b'{"more": 1}',
        b'{"unreadable": {"a": 0}}', b'{"unreadable": {"a": "x"}}', b'{"listed": [""]}',
        b'{"commands": [{"argv": [], "file": "a"}]}',
        b'{"commands": [{"argv": ["a"], "file": "../a"}]}',
        b'{"commands": [{"argv": ["a"], "file": "a", "code": 99999}]}',
    ],
)  # fmt: skip
def test_an_index_that_says_something_else_is_refused(tmp_path: Path, index: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a capture: capture\.json"):
        read_capture(tar_of(tmp_path / "bad.tar", index=index))


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b\x08\0" * 200, b"\0" * 10240])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigurationError, match="is not a capture"):
        read_capture(tmp_path / "x")


def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(CAPTURES / "no-gpu", ".")
    with pytest.raises(ConfigurationError) as caught:
        read_capture(tmp_path / "x.tar.gz")
    assert "must be unpacked first" in caught.value.hint


def test_a_tar_that_ends_in_the_middle_is_refused(tmp_path: Path) -> None:
    write_capture(CAPTURE, tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    end = len(data.rstrip(b"\0"))
    for size in (*range(1, end, 301), *range(0, end, 512)):
        (tmp_path / "cut.tar").write_bytes(data[:size])
        with pytest.raises(ConfigurationError, match="is not a capture"):
            read_capture(tmp_path / "cut.tar")
