"""Take the reference's answers to the probe from a file of the project. Standard library only.

    python text_stored.py --stored FILE --output DIR

    OUTPUT/text.json    the same answers

Exit code 3: the file does not answer the probe of today. 5: it could not be read or written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import room
import text_answers
from text_answers import CONFIGURATION_ERROR, STEP_FAILED, TextError

ROOM = room.Room(memory_mib=64)  # measured: docs/reference/builders.md


def main(argv: list[str] | None = None) -> int:
    """Check and copy the file; return the exit code."""
    parser = argparse.ArgumentParser(description="Take a reference's answers from the project.")
    parser.add_argument("--stored", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        room.require(ROOM, "taking answers from the project", arguments.output)
        answers = text_answers.read(arguments.stored)
        arguments.output.mkdir(parents=True, exist_ok=True)
        text_answers.write(answers, arguments.output / text_answers.NAME)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except TextError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the answers could not be written: {error}\n")
        return STEP_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
