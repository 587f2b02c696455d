"""The index of components: what is put in is found, and a broken file is replaced."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from forge.release.component_index import ComponentIndex, component_index_path, use_index
from forge.release.components import BundleComponent

NUMPY = BundleComponent("library", "numpy", "2.1.0", "pkg:pypi/numpy@2.1.0", "MIT", ("ab" * 32,))
FILE = BundleComponent("file", "models/engine/model.bin", digests=("cd" * 32,))


def test_components_are_found_by_name_and_by_the_beginning_of_a_digest() -> None:
    with ComponentIndex(":memory:") as index:
        index.add("m1", [NUMPY, FILE])
        index.add("m2", [NUMPY])
        assert sorted(index.by_name("NumPy")) == [("m1", NUMPY), ("m2", NUMPY)]
        assert [*index.by_name("model.bin")] == [("m1", FILE)]
        assert [*index.by_name("models/engine/model.bin")] == [("m1", FILE)]
        assert [*index.by_name("num")] == []
        assert [*index.by_digest("cdcd")] == [("m1", FILE)]
        assert [*index.by_digest("cdce")] == []
        assert len([*index.by_digest("ab" * 32)]) == 2
        assert index.known() == {"m1", "m2"}


def test_rows_are_there_after_the_file_is_opened_again(tmp_path: Path) -> None:
    path = component_index_path(tmp_path / "new" / "cache")
    use_index(path, lambda index: index.add("m1", [NUMPY]))
    assert use_index(path, lambda index: [*index.by_name("numpy")]) == [("m1", NUMPY)]


def test_rows_of_work_that_failed_are_not_kept(tmp_path: Path) -> None:
    path = component_index_path(tmp_path)

    def work(index: ComponentIndex) -> None:
        index.add("m1", [NUMPY])
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  the test's own
        use_index(path, work)
    assert use_index(path, ComponentIndex.known) == set()


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    path = component_index_path(tmp_path)
    path.write_bytes(b"not a database" * 100)
    assert use_index(path, ComponentIndex.known) == set()
    use_index(path, lambda index: index.add("m1", [NUMPY]))
    assert use_index(path, ComponentIndex.known) == {"m1"}


def test_a_file_that_another_process_holds_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.release.component_index._TIMEOUT_S", 0.0)
    path = component_index_path(tmp_path)
    use_index(path, lambda index: index.add("m1", [NUMPY]))
    other = sqlite3.connect(path)
    other.execute("begin exclusive")

    def work(index: ComponentIndex) -> set[str]:
        index.add("m2", [FILE])
        return index.known()

    assert use_index(path, work) == {"m2"}
    other.close()
    assert use_index(path, ComponentIndex.known) == {"m1"}


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert use_index(component_index_path(tmp_path / "file"), ComponentIndex.known) == set()
