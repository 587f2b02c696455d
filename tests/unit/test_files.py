"""Paths that stay where they belong, files that are old or new but never half."""

from pathlib import Path

import pytest

from forge.errors import TrustError
from forge.files import check_paths, write_durably

GOOD = ["a", "models/llm/1/model.py", "ünïcode", "with space", "..hidden", "a..b"]
BAD = {
    "": "empty",
    "/etc/passwd": "absolute",
    "../outside": "'..'",
    "a/../../b": "'..'",
    "./a": "'.'",
    "a//b": "empty part",
    "a/": "empty part",
    "a\\b": "backslash",
    "a\0b": "control",
    "a\nb": "control",
    "u\u0308": "NFC",
    "x" * 1025: "longer",
}


@pytest.mark.parametrize("path", GOOD)
def test_path_is_accepted_when_it_stays_below_its_folder(path: str) -> None:
    check_paths([path])


@pytest.mark.parametrize(("path", "reason"), BAD.items(), ids=repr)
def test_path_is_refused_with_its_reason(path: str, reason: str) -> None:
    with pytest.raises(TrustError) as caught:
        check_paths([path])
    assert reason in caught.value.why
    assert caught.value.exit_code == 7


CLASHES = [
    ["a", "a"],
    ["Model.py", "model.py"],
    ["a/x", "A/y"],
    ["a", "a/b"],
    ["a/b", "a"],
    ["A", "a/b"],
]


@pytest.mark.parametrize("paths", CLASHES, ids=repr)
def test_paths_are_refused_when_two_would_fall_on_one_file(paths: list[str]) -> None:
    with pytest.raises(TrustError, match="Unsafe path"):
        check_paths(paths)


def test_write_durably_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_durably(target, b"old")
    write_durably(target, b"new", mode=0o600)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_write_durably_keeps_the_old_file_when_it_cannot_write(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").write_text("x")
    with pytest.raises(OSError, match="directory"):
        write_durably(target, b"new")
    assert (target / "kept").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
