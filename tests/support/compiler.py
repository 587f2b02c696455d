"""A program that stands for an engine compiler: real process, real files, no GPU.

    compiler.py --from SOURCE --to ENGINE

Beside it lies behaviour.json: how long it takes, whether it fails; `runs` gets a line a start, with
CUDA_VISIBLE_DEVICES. It is contained, so FORGE_CONTAINMENT_WRITE must name its folder.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from forge.serving.repository.spec import CompileOnDevice

NAME = "engine-compiler"
_PROGRAM = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).resolve().parent
behaviour = json.loads((here / "behaviour.json").read_text())
with (here / "runs").open("a") as runs:
    runs.write(os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\\n")
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
source, engine = pathlib.Path(arguments["--from"]), pathlib.Path(arguments["--to"])
for layer in range(1, behaviour["layers"] + 1):
    print(f"layer {{layer}} of {{behaviour['layers']}}", flush=True)
    (engine / "half").write_text("not yet")
    time.sleep(behaviour["pause_s"])
(engine / "half").unlink(missing_ok=True)
if behaviour["fails"]:
    print("no kernel for this layer", flush=True)
    sys.exit(1)
for name in behaviour["writes"]:
    (engine / name).write_bytes((source / name).read_bytes())
"""


@dataclass(frozen=True)
class StandIn:
    """The program in a folder of its own, to be put on PATH."""

    folder: Path

    def behave(
        self,
        *,
        layers: int = 2,
        pause_s: float = 0.0,
        fails: bool = False,
        writes: tuple[str, ...] = ("answer.json",),
    ) -> None:
        """Install it, or change what it does from its next start on."""
        self.folder.mkdir(exist_ok=True)
        values = {"layers": layers, "pause_s": pause_s, "fails": fails, "writes": writes}
        (self.folder / "behaviour.json").write_text(json.dumps(values))
        program = self.folder / NAME
        program.write_text(_PROGRAM.format(python=Path(sys.executable).resolve()))
        program.chmod(0o755)

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    @property
    def gpus(self) -> list[str]:
        """CUDA_VISIBLE_DEVICES of each start."""
        return (self.folder / "runs").read_text().splitlines()

    @property
    def runs(self) -> int:
        """How often it was started."""
        log = self.folder / "runs"
        return len(log.read_text().splitlines()) if log.exists() else 0


def wanted(digest: str = "a" * 64, memory_mib: int = 1, timeout_s: float = 60) -> CompileOnDevice:
    """What a bundle says that wants its engine compiled by the stand-in."""
    return CompileOnDevice(
        tool=NAME,
        arguments=("--from", "${source}", "--to", "${engine}"),
        source="source",
        produces=("answer.json",),
        digest=digest,
        memory_mib=memory_mib,
        disk_mib=1,
        timeout_s=timeout_s,
    )
