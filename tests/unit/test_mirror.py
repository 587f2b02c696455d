"""Each module of store, release, device, runners and builders has its unit test file.

forge/store/upload/pack_writer.py has tests/unit/store/upload/test_pack_writer.py, and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("builders", "device", "release", "runners", "store")
# Entry modules of steps have tests of the steps; the others run in environments of their own.
LEFT_OUT: Final = ("steps", "templates", "tools", "flags")


def modules() -> set[str]:
    """Every module that is to have a test file, as a path below forge/."""
    found = (path for package in PACKAGES for path in (ROOT / "forge" / package).rglob("*.py"))
    names = {path.relative_to(ROOT / "forge") for path in found if path.name != "__init__.py"}
    return {name.as_posix() for name in names if not set(name.parts) & set(LEFT_OUT)}


def mirrored(module: str) -> Path:
    """Where the unit tests of a module are."""
    path = Path(module)
    return ROOT / "tests" / "unit" / path.parent / f"test_{path.name}"


def test_each_module_has_its_test_file() -> None:
    missing = [module for module in modules() if not mirrored(module).is_file()]
    assert sorted(missing) == [], "write the test file"


def test_each_test_file_has_tests() -> None:
    files = [mirrored(module) for module in modules()]
    empty = [path.name for path in files if path.is_file() and "def test_" not in path.read_text()]
    assert len(files) > 30
    assert empty == []
