"""Run two halves of the tests beside each other: most of them wait for servers, not for a core.

The halves are tests/e2e, shown while it runs, and all the rest, shown when it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HALVES = (("tests/e2e",), ("tests/faults", "tests/unit"))


def main(arguments: list[str]) -> int:
    """Exit code of the half that went worse."""
    with tempfile.TemporaryDirectory(prefix="forge-tests-") as name:
        folder = Path(name)
        log = folder / "log"
        with log.open("wb") as output:
            rest = _start(HALVES[1], folder / "rest", arguments, stdout=output)
            try:
                shown = _start(HALVES[0], folder / "e2e", arguments).wait()
                hidden = rest.wait()
            except KeyboardInterrupt:  # both have had it, and say what they did until then
                return 130
            finally:
                rest.kill()  # after Ctrl-C; nothing happens if it has ended
        sys.stdout.write(f"\n{log.read_text(encoding='utf-8', errors='replace')}")
        return max(shown, hidden)


def _start(
    half: tuple[str, ...], temporary: Path, arguments: list[str], stdout: object = None
) -> subprocess.Popen[bytes]:
    # A base of its own: pytest keeps three of its numbered ones and deletes the others. The same
    # for what Forge leaves in the system's folder: tests look for left-overs there.
    scratch = temporary.with_suffix(".tmp")
    scratch.mkdir()
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "pytest", f"--basetemp={temporary}", *arguments, *half],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=stdout,
        stderr=subprocess.STDOUT if stdout else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
