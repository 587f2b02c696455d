"""The command of the checkpoint step."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from forge.checkpoint.fetch import fetch_model
from forge.errors import ForgeError


def main(argv: list[str] | None = None) -> int:
    """Run `python -m forge.checkpoint URL OUTPUT [HF_PROGRAM]`; return the exit code."""
    url, output, *rest = sys.argv[1:] if argv is None else argv
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        hf = Path(rest[0]) if rest else None
        found = fetch_model(url, folder, environment=os.environ, hf_tool=hf)
    except ForgeError as error:
        with contextlib.suppress(BrokenPipeError):
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(f"sha256={found.sha256}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
