"""The files that a checkpoint's URL selects."""

from pathlib import Path

import pytest

from forge.checkpoint.files import selected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.gguf", "b.json", "sub/c.gguf"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        ((), ["a.gguf", "b.json", "sub/c.gguf"]),
        (("*.gguf",), ["a.gguf", "sub/c.gguf"]),
        (("*.json",), ["b.json"]),
        (("sub/*",), ["c.gguf"]),  # a single file loses its folder
        (("*.bin",), []),
        (("*.json", "a*"), ["a.gguf", "b.json"]),
    ],
)
def test_globs_select_files_of_a_folder(
    folder: Path, globs: tuple[str, ...], names: list[str]
) -> None:
    assert list(selected(folder, globs)) == names


def test_single_file_is_itself_and_a_missing_one_nothing(folder: Path) -> None:
    assert selected(folder / "sub/c.gguf", ()) == {"c.gguf": folder / "sub/c.gguf"}
    assert selected(folder / "nowhere", ()) == {}
