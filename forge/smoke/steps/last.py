"""`python -m forge.smoke.steps.last`: fetch the last bundle's tree, to be served as well."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from forge.bundle import Digest
from forge.entry_point import exit_code
from forge.serving.repository.spec import read_document
from forge.store import open_store


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    tree: Digest


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--store", required=True, help="URL of the store")
    parser.add_argument("--settings", type=Path, required=True, help="JSON: digest of the tree")
    parser.add_argument("--output", type=Path, required=True, help="folder for the tree")
    arguments = parser.parse_args(argv)
    what = "A file could not be read or written"
    return exit_code(lambda: _fetch(arguments), disk=what, disk_code=5)


def _fetch(arguments: argparse.Namespace) -> None:
    settings = read_document(arguments.settings, _Settings)
    store = open_store(arguments.store, cache=arguments.output.with_name("cache"))
    store.unpack(settings.tree, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
