"""The command of the checkpoint step."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from forge.checkpoint.fetch import FetchWatch, fetch_model
from forge.errors import ForgeError
from forge.progress import PROGRESS, ProgressMeter, Throttle


def main(argv: list[str] | None = None) -> int:
    """Run `python -m forge.checkpoint URL OUTPUT [HF_PROGRAM]`; return the exit code."""
    url, output, *rest = sys.argv[1:] if argv is None else argv
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        hf = Path(rest[0]) if rest else None
        found = fetch_model(url, folder, environment=os.environ, hf_tool=hf, watch=_watch())
    except ForgeError as error:
        with contextlib.suppress(BrokenPipeError):
            print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(f"sha256={found.sha256}")  # noqa: T201
    return 0


def _watch() -> FetchWatch:
    """Return callbacks that print what the view of the run shows next to the step."""
    meter, throttle = ProgressMeter(), Throttle(1.0)

    def progress(done: int, total: int) -> None:
        text = meter.text(done, total)
        if throttle.due():
            print(f"{PROGRESS}{text}", flush=True)  # noqa: T201

    return FetchWatch(progress, lambda text: print(text, flush=True))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
