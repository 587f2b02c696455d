"""`forge check`: the checks that a pull request must pass."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from forge import check as checks
from forge.cli import summary
from forge.cli.common import json_option, open_project, print_json, project_option
from forge.cli.terminal import print_table, tinted
from forge.errors import ConfigurationError
from forge.store import open_store

__all__ = ["check"]


@click.command()
@project_option
@json_option
def check(project_dir: Path | None, *, as_json: bool) -> int:
    """Check profiles, lock files and the plan of every pipeline. Exits with 3 on any failure.

    \b
    forge check
    forge check --project my-release --json
    """  # noqa: D301
    project = open_project(project_dir)
    with tempfile.TemporaryDirectory(prefix="forge-check-") as folder:
        store = open_store(str(Path(folder) / "store"), cache=Path(folder))
        findings = checks.check(project, store)
    header = ("result", "check", "detail")
    rows = [("ok" if one.good else "wrong", one.what, one.detail) for one in findings]
    summary.append(os.environ, "Check", header, rows)
    if as_json:
        print_json([asdict(one) for one in findings])
    else:
        print_table(header, [(tinted(state), *rest) for state, *rest in rows])
    return 0 if all(one.good for one in findings) else ConfigurationError.exit_code
