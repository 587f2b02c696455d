"""The programs Forge is measured beside, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".forge" / "peers"


def program(name: str) -> Path:
    """Path of `dvc` or `s5cmd`, installed from benchmarks/requirements.lock at first use.

    Not `forge.environments`: DVC needs one package that exists as source only.
    """
    path = FOLDER / "bin" / name
    if not path.exists():
        uv, lock = str(find_uv_bin()), str(ROOT / "benchmarks" / "requirements.lock")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, FOLDER], check=True)
        install = ["pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode"]
        subprocess.run([uv, *install, "--python", f"{FOLDER}/bin/python", lock], check=True)
    return path
