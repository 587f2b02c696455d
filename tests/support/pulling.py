"""A program that unpacks a tree and prints what it cost, for tests that kill and weigh it.

python -m tests.support.pulling URL DIGEST DESTINATION [LIMIT_RATE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from forge.store import open_store


def main(url: str, digest: str, destination: str, limit_rate: str = "0") -> None:
    place = Path(destination)
    store = open_store(url, cache=place.parent / "cache", limit_rate=int(limit_rate) or None)
    moved = store.unpack(digest, place)
    # Not ru_maxrss: that counts what the process which started this one had at that moment.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    cost = {"fetched": moved.fetched_bytes, "reused": moved.reused_bytes, "peak_kib": peak_kib}
    sys.stdout.write(json.dumps(cost))


if __name__ == "__main__":
    main(*sys.argv[1:])
