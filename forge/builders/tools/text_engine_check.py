"""Compare the text of an engine with the reference's answers. Runs where the engine is served.

    python text_engine_check.py --engine DIR --expected DIR --text templates/shared/text.py
        [--runtime templates/openvino/runtime_tokenizer.py] --output DIR

    EXPECTED/text.json    the reference's answers to the probe, made by text_check.py
    OUTPUT/text.json      what was compared

The engine's own tokenizer and chat template answer, as the serving templates load them; no
transformers is needed. Exit code 3: an answer differs, or the engine has no tokenizer. 5: a file
could not be read or written.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import room
import text_answers
import text_served
from text_answers import CONFIGURATION_ERROR, STEP_FAILED, TextError

ROOM = room.Room(memory_mib=400)  # measured: docs/reference/builders.md


def main(argv: list[str] | None = None) -> int:
    """Compare and return the exit code."""
    parser = argparse.ArgumentParser(description="Compare the text of an engine with a reference.")
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--expected", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="the templates' text.py")
    parser.add_argument("--runtime", type=Path, help="OpenVINO's runtime_tokenizer.py")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        room.require(ROOM, "comparing the engine's text", arguments.output)
        expected = text_answers.read(arguments.expected / text_answers.NAME)
        if arguments.runtime is not None:
            sys.path.insert(0, str(arguments.runtime.parent))
        module = text_served.load_module(arguments.text)
        served = text_served.load(module, arguments.engine)
        text_answers.compare(expected, served)
        text_answers.write(report(expected, served), arguments.output / text_answers.NAME)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except TextError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except OSError as error:
        sys.stderr.write(f"Error: the tokenizer could not be read or written: {error}\n")
        return STEP_FAILED
    return 0


def report(expected: Mapping[str, Any], served: text_served.Served) -> dict[str, Any]:
    """Return what was compared, for the bundle's chain."""
    return {
        "schema_version": text_answers.SCHEMA_VERSION,
        "probe_sha256": expected["probe_sha256"],
        "reference": expected["made_by"],
        "tokenizer": type(served.words.tokenizer).__name__,
        "texts": len(expected["pieces"]),
        "tokens": sum(len(piece["tokens"]) for piece in expected["pieces"]),
        "conversations": len(expected["talks"]),
    }


if __name__ == "__main__":
    code = main()
    # OpenVINO's threads may still run: flush the output and exit without waiting for them.
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
