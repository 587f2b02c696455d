"""One public class name has one meaning in all of Forge."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Programs of other environments, which import nothing of Forge.
ELSEWHERE = ("forge/serving/repository/templates/", "forge/builders/tools/")


def definitions(folder: Path) -> dict[str, list[str]]:
    """Return the modules that define each public class at their top level."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder.parent).as_posix()
        if name.startswith(ELSEWHERE):
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def test_no_public_class_name_is_defined_twice() -> None:
    twice = {name: at for name, at in definitions(ROOT / "forge").items() if len(at) > 1}
    assert twice == {}


@pytest.mark.parametrize("place", ["forge/a/two.py", "forge/__init__.py"])
def test_a_class_defined_twice_is_found(tmp_path: Path, place: str) -> None:
    for name in ("forge/one.py", place, "forge/builders/tools/three.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("class Twice: ...\nclass _Private: ...\n")
    assert definitions(tmp_path / "forge") == {"Twice": sorted(["forge/one.py", place])}
