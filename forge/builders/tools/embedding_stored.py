"""Take the reference of an embedding model from a file of the project. Standard library only.

    python embedding_stored.py --stored FILE --output DIR

    OUTPUT/reference.json    the same vectors

Exit code 3: the file is not valid. 5: it could not be read or written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import embedding_format
import room
from embedding_format import FormatError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
ROOM = room.Room(memory_mib=128)  # the most that a file of embedding_format.py takes


def main(argv: list[str] | None = None) -> int:
    """Check and copy the file; return the exit code."""
    parser = argparse.ArgumentParser(description="Take an embedding reference from the project.")
    parser.add_argument("--stored", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        room.require(ROOM, "taking a reference from the project", arguments.output)
        found = embedding_format.read(arguments.stored)
        arguments.output.mkdir(parents=True, exist_ok=True)
        embedding_format.write(arguments.output / embedding_format.REFERENCE, found)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except FormatError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the reference could not be written: {error}\n")
        return STEP_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
