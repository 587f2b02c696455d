"""Which modules and data files of Forge a command really loads, as seen from inside of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import forge
from forge.closure import sources_of

PACKAGE = Path(forge.__file__).parent
# Python imports this at its start. It reports for `python -m forge…` only, not for its children.
_WATCH = """
import atexit, json, os, sys

opened = set()


def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        opened.add(os.path.abspath(os.fsdecode(arguments[0])))


def report():
    entry = getattr(sys.modules["__main__"], "__spec__", None)
    if entry is None or not entry.name.startswith("forge."):
        return
    modules = [name for name in sys.modules if name.partition(".")[0] == "forge"]
    seen = {"modules": sorted({*modules, entry.name}), "opened": sorted(opened)}
    with open(os.environ["FORGE_TEST_LOADS"], "w") as file:
        json.dump(seen, file)


sys.addaudithook(note)
atexit.register(report)
"""


def watched(folder: Path) -> dict[str, str]:
    """Environment variables under which a command leaves its report in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_WATCH)
    return {"PYTHONPATH": str(folder), "FORGE_TEST_LOADS": str(folder / "loads.json")}


def outside_of_closure(
    folder: Path, module: str, fill: Mapping[str, str] | None = None
) -> set[str]:
    """What the command loaded that is not in its key's sources: modules, and files below forge/."""
    seen = json.loads((folder / "loads.json").read_text())
    sources = sources_of(module, **(fill or {}))
    assert module in seen["modules"]
    files = {
        path
        for path in map(Path, seen["opened"])
        if path.is_relative_to(PACKAGE) and path.suffix != ".pyc" and path.is_file()
    }
    known = {source.name for source in sources}
    strange = files - {source.path for source in sources}
    return (set(seen["modules"]) - known) | {os.fspath(path) for path in strange}
