"""Native, emulated, or neither."""

from pathlib import Path

import pytest

from forge.errors import NoRunnerError
from forge.images.platforms import check_can_run


def test_native_platform_needs_no_emulator_and_no_warning(tmp_path: Path) -> None:
    assert check_can_run("linux/arm64", machine="aarch64", binfmt=tmp_path) == ""


def test_emulated_platform_is_warned_about_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").touch()
    warning = check_can_run("linux/arm64", machine="x86_64", binfmt=tmp_path)
    assert "with qemu emulation" in warning
    assert "--runners linux/arm64=LABEL" in warning


def test_platform_that_can_be_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoRunnerError, match="cannot run linux/arm64 programs") as caught:
        check_can_run("linux/arm64", machine="x86_64", binfmt=tmp_path)
    assert "qemu-user-static" in caught.value.hint
