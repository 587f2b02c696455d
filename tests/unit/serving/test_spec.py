"""Reading serving.json: whose fault it is when that does not work."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, StoreError
from forge.serving.spec import read_spec, write_spec
from tests.support.spec import a_spec


def test_a_spec_that_is_missing_or_wrong_is_the_trees_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"serving.json cannot be read"):
        read_spec(tmp_path)
    (tmp_path / "serving.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"serving.json is not valid"):
        read_spec(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_disk_that_fails_is_not_the_trees_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_spec(tmp_path, a_spec())

    def fail(_path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StoreError, match=os.strerror(number)) as caught:
        read_spec(tmp_path)
    assert caught.value.exit_code == 9
