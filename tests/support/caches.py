"""Folders that test runs share on purpose, because filling them takes minutes.

All else that a test writes is in folders of its session: see tests/support/isolation.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["DOWNLOADS", "ENVIRONMENTS", "remember"]

ROOT: Final = Path(__file__).resolve().parents[2]
DOWNLOADS: Final = ROOT / ".forge" / "tests"  # models, engines and programs
ENVIRONMENTS: Final = ROOT / ".forge" / "environments"  # the checkout's own, as `forge run` uses it


def remember() -> None:
    """Name the caches and settings of this user's package tools, before HOME changes."""
    home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    known = {
        "UV_CACHE_DIR": cache / "uv",
        "UV_PYTHON_INSTALL_DIR": data / "uv" / "python",
        "PIP_CACHE_DIR": cache / "pip",
        "GOMODCACHE": Path(os.environ.get("GOPATH") or home / "go") / "pkg" / "mod",
        "GOCACHE": cache / "go-build",
    }
    for name, folder in known.items():
        os.environ.setdefault(name, str(folder))
    for name, file in (("UV_CONFIG_FILE", "uv/uv.toml"), ("PIP_CONFIG_FILE", "pip/pip.conf")):
        if (config / file).is_file():  # a mirror of the package index, say
            os.environ.setdefault(name, str(config / file))
