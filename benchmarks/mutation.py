"""Mutation testing of one module against a file of unit tests: what no test notices.

    python benchmarks/mutation.py forge.device.hardware.fit tests/unit/device/hardware/test_fit.py

Every wrong version of the module (tests.support.mutants) meets each test until one fails. For tests
that need no fixture but `machine`; property tests try 30 examples.
"""

from __future__ import annotations

import functools
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import hypothesis

sys.path.insert(0, str(Path(__file__).parent.parent))

from forge.device.hardware.facts import collect
from forge.device.hardware.inventory import Hardware, parse
from tests.support.captured import replay, unpack
from tests.support.mutants import failing_test, loaded, mutants

_MOST_CPU_S = 10.0  # of one wrong program: it may never end


@functools.cache
def machine(name: str) -> Hardware:
    """What the fixture of that name makes."""
    with tempfile.TemporaryDirectory() as folder:
        return parse(collect(unpack(name, Path(folder)), replay(name), 1.0))


def main(name: str, tests: Path) -> int:
    """Print every wrong program that survives; 0 if there are none."""
    hypothesis.settings.register_profile(
        "mutation", max_examples=30, deadline=None, database=None, derandomize=True
    )
    hypothesis.settings.load_profile("mutation")
    signal.signal(signal.SIGVTALRM, _give_up)
    source = Path(importlib.import_module(name).__file__ or "").read_text()
    if failing := _failing(name, source, tests):
        raise SystemExit(f"It fails as it is: {failing}")
    began, wrong = time.process_time(), list(mutants(source))
    survivors = [one for one in wrong if not _failing(name, one.source, tests)]
    for one in survivors:
        print(f"{one.line}: {one.name}")
    seconds = time.process_time() - began
    print(f"{name}: {len(wrong)} mutants, {len(survivors)} survive, {seconds:.0f} s of CPU")
    return int(bool(survivors))


def _failing(name: str, source: str, tests: Path) -> str:
    try:
        module = loaded(source, name)
    except Exception as error:  # noqa: BLE001 - whatever a wrong program raises
        return repr(error)
    signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_CPU_S)
    try:
        return failing_test(tests, module, {"machine": machine})
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("it does not end")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
