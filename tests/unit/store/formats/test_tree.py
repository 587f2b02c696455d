"""The tree document, and which folders can become one."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.errors import ConfigurationError, CorruptedError, TrustError
from forge.store.formats.names import MAX_FILE_BYTES
from forge.store.formats.tree import Tree, TreeEntry, parse, scan

A, B = "a" * 64, "b" * 64
paths = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


def entry(path: str, size: int = 1, mode: int = 0o644, sha256: str = A) -> TreeEntry:
    return TreeEntry.model_validate({"path": path, "mode": mode, "size": size, "sha256": sha256})


def parsed(document: object) -> Tree:
    data = json.dumps(document).encode()
    return parse(data, hashlib.sha256(data).hexdigest(), "the-store")


@given(paths, st.integers(0, MAX_FILE_BYTES), st.sampled_from([0o644, 0o755]))
def test_tree_comes_back_and_is_named_by_its_bytes(found: list[str], size: int, mode: int) -> None:
    tree = Tree(entries=tuple(entry(path, size, mode) for path in sorted(found)))
    data = tree.encode()
    reference = tree.reference()
    assert reference.digest == hashlib.sha256(data).hexdigest()
    assert (reference.size, reference.files) == (size * len(found), len(found))
    assert parse(data, reference.digest, "x") == tree


def test_bytes_that_have_another_digest_are_refused() -> None:
    tree = Tree(entries=(entry("a"),))
    with pytest.raises(CorruptedError, match="the-store is damaged") as caught:
        parse(tree.encode() + b" ", tree.reference().digest, "the-store")
    assert tree.reference().digest in caught.value.what
    assert "verify --repair" in caught.value.hint


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b"[" * 200_000, b'{"schema_version": 1}'],
    ids=["empty", "cut", "list", "null", "not-utf8", "deep", "no-entries"],
)
def test_bytes_that_are_not_a_tree_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptedError, match="is damaged"):
        parse(data, hashlib.sha256(data).hexdigest(), "x")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", -1),
        ("size", MAX_FILE_BYTES + 1),
        ("size", "1"),
        ("size", True),
        ("size", 1.0),
        ("mode", 0o777),
        ("mode", 0o600),
        ("sha256", "A" * 64),
        ("sha256", "a" * 63),
        ("owner", "root"),
    ],
)
def test_an_entry_with_a_value_that_is_not_valid_is_refused(field: str, value: object) -> None:
    good = {"path": "a", "mode": 0o644, "size": 1, "sha256": A}
    assert len(parsed({"schema_version": 1, "entries": [good]}).entries) == 1
    with pytest.raises(CorruptedError, match="is damaged"):
        parsed({"schema_version": 1, "entries": [{**good, field: value}]})


@pytest.mark.parametrize("found", [("b", "a"), ("a-b", "a/b", "a.b")])
def test_paths_that_are_not_sorted_are_refused(found: tuple[str, ...]) -> None:
    with pytest.raises(CorruptedError, match="sorted"):
        parsed({"entries": [entry(path).model_dump() for path in found]})


@pytest.mark.parametrize(
    "found",
    [("../x",), ("/etc/passwd",), ("a//b",), ("a\0b",), ("a\\b",), ("A", "a"), ("a", "a"),
     ("a", "a/b"), ("A/x", "a/y")],
)  # fmt: skip
def test_paths_that_must_not_be_created_are_refused(found: tuple[str, ...]) -> None:
    with pytest.raises(TrustError, match="Unsafe path"):
        parsed({"entries": [entry(path).model_dump() for path in found]})


def test_scan_sorts_by_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/x", "a-b", "a.b", "B"):
        (tmp_path / name).write_text(name)
    found = scan(tmp_path)
    assert [one.path for one in found] == [
        "B",
        "a-b",
        "a.b",
        "a/x",
    ]  # a folder's walk has a/x first
    assert all(one.source.read_text() == one.path for one in found)
    assert [one.size for one in found] == [1, 3, 3, 3]


@pytest.mark.parametrize(
    ("mode", "kept"),
    [(0o644, 0o644), (0o600, 0o644), (0o611, 0o644), (0o700, 0o755), (0o744, 0o755)],
)
def test_scan_keeps_whether_the_owner_may_execute(tmp_path: Path, mode: int, kept: int) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(mode)
    assert [one.mode for one in scan(tmp_path)] == [kept]


def test_a_link_to_a_file_inside_is_stored_as_that_file(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("blobs/1")
    found = {one.path: one.size for one in scan(tmp_path)}
    assert found == {"blobs/1": 5, "link": 5}


@pytest.mark.parametrize(
    ("target", "message"),
    [("../outside", "symbolic link"), ("nothing", "symbolic link|cannot be read"),
     ("sub", "link to a folder"), ("round", "cannot be read|symbolic link"), (".", "to a folder")],
)  # fmt: skip
def test_any_other_link_is_refused(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "file").touch()
    (tmp_path / "in" / "round").symlink_to("round")
    (tmp_path / "in" / "a-link").symlink_to(target)
    with pytest.raises(ConfigurationError, match=message) as caught:
        scan(tmp_path / "in")
    assert "a-link" in caught.value.what
    assert caught.value.hint or caught.value.why


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe") as caught:
        scan(tmp_path)
    assert "regular files" in caught.value.hint


def test_a_folder_inside_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "sub" / "empty").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="is empty") as caught:
        scan(tmp_path)
    assert "sub/empty" in caught.value.what


def test_a_folder_without_files_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no files"):
        scan(tmp_path)
    for path in (tmp_path / "none", Path(__file__)):
        with pytest.raises(ConfigurationError, match="is not a folder"):
            scan(path)


@pytest.mark.parametrize("made", [("e\u0301",), ("a\\b",), ("Readme", "README"), ("a\nb",)])
def test_a_name_that_no_device_may_create_is_refused(tmp_path: Path, made: tuple[str, ...]) -> None:
    for name in made:
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match="cannot be stored") as caught:
        scan(tmp_path)
    assert "rename" in caught.value.hint
