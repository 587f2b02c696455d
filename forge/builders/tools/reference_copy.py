"""Take a reference that the project has as a file: `reference_copy.py FILE OUTPUT`."""

import shutil
import sys
from pathlib import Path

import room

ROOM = room.Room(memory_mib=32)  # a reference has at most 1 MB


def main(argv: list[str] | None = None) -> int:
    """Copy the file to OUTPUT/reference.npz; return the exit code."""
    source, output = map(Path, sys.argv[1:] if argv is None else argv)
    try:
        room.require(ROOM, "taking the reference from the project", output)
        output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, output / "reference.npz")
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except OSError as error:
        sys.stderr.write(f"Error: the reference could not be copied: {error}\n")
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
