"""Make the engine tree of Edge-LLM: for compilation on the device, or compiled here.

    python edge_llm_engine.py --export DIR --record DIR --settings FILE --output DIR [-- COMMAND…]

Without COMMAND the tree is the export, and engine.json has the command with which the device
compiles it (`compile_on_device`). With COMMAND, `llm_build`, the tree is its engine and the
tokenizer; this must run on the device. Standard library only, Python 3.11 or newer.

Exit code 3: the settings or the machine are not suitable. 5: the compiler failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import room

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
TIMEOUT_S = 4 * 3600
SMI_TIMEOUT_S = 30
MAX_JSON_BYTES = 16 * 1024 * 1024
MIB = 1024 * 1024
CHUNK_BYTES = 1024 * 1024

FOLDER = "llm"
PRODUCES = ("llm.engine", "config.json")
WEIGHTS = ("*.data", "*.safetensors")
# TensorRT holds the parsed weights, the copies that it times and the plan in memory. NVIDIA states
# three to four times the weights; this is the larger one. Not measured on a Jetson.
MEMORY_TIMES_WEIGHTS = 4
# For the device the export is linked, or copied to another file system; measured.
ROOM = {
    "device": room.Room(memory_mib=32, disk=1.0),
    "runner": room.Room(memory_mib=32, memory=MEMORY_TIMES_WEIGHTS, disk=1.0),
}
LIBRARIES = ("/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu")


class EngineError(Exception):
    """The engine tree cannot be made."""


def main(argv: list[str] | None = None) -> int:
    """Make the tree and return the exit code."""
    parser = argparse.ArgumentParser(description="Make the engine tree of Edge-LLM.")
    parser.add_argument("--export", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("command", nargs="*")
    arguments = parser.parse_args(argv)
    try:
        record = read_json(arguments.record / "export.json")
        settings = read_json(arguments.settings)
        check_room(arguments.export / FOLDER, arguments.output, compiled=bool(arguments.command))
        if arguments.command:
            facts = build(arguments.command, arguments.output)
            facts["found"] = check_machine(record)
        else:
            facts = pack(arguments.export, settings, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except EngineError as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"Error: the engine could not be made: {error}\n")
        return STEP_FAILED
    document = engine_facts(record, settings, facts)
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    (arguments.output / "engine.json").write_text(text, encoding="utf-8")
    return 0


def check_room(source: Path, output: Path, *, compiled: bool) -> None:
    """Raise NoRoomError if the machine has too little memory or disk."""
    weights = room.weights_mib(source)
    if compiled:
        room.require(ROOM["runner"], f"compiling {weights} MiB of weights", output, weights)
        return
    copied = 0 if room.links(source, output) else weights
    room.require(ROOM["device"], f"packing {weights} MiB of weights", output, copied)


def pack(export: Path, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Link the export into `output`; return the content of engine.json."""
    source = export / FOLDER
    files = sorted(path for path in source.rglob("*") if path.is_file())
    if not files:
        raise EngineError(f"the export has no folder {FOLDER!r}")
    weights = sum(path.stat().st_size for pattern in WEIGHTS for path in source.glob(pattern))
    for path in files:
        link(path, output / FOLDER / path.relative_to(source))
    compiler = [str(word) for word in settings["compiler"]]
    mib = -(-weights // MIB)
    sys.stderr.write(
        f"the device compiles {mib} MiB of weights with {compiler[0]}, which requires"
        f" {MEMORY_TIMES_WEIGHTS} times as much memory: {MEMORY_TIMES_WEIGHTS * mib} MiB\n"
    )
    return {
        "compile_on_device": {
            "tool": compiler[0],
            "arguments": compiler[1:],
            "source": FOLDER,
            "produces": list(PRODUCES),
            "digest": tree_digest(source, files),
            "memory_mib": MEMORY_TIMES_WEIGHTS * mib,
            "disk_mib": mib,
            "timeout_s": TIMEOUT_S,
        }
    }


def build(command: list[str], output: Path) -> dict[str, Any]:
    """Run the compiler, which writes `output`; return the content of engine.json."""
    if shutil.which(command[0]) is None:
        raise EngineError(
            f"{command[0]} is not installed\n"
            "  → build TensorRT Edge-LLM 0.11.0 on this runner: docs/how-to/add-a-sku.md"
        )
    done = subprocess.run(command, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command[0])
    if missing := [name for name in PRODUCES if not (output / name).is_file()]:
        raise EngineError(f"{command[0]} succeeded but did not write {', '.join(missing)}")
    return {}


def check_machine(record: dict[str, Any]) -> dict[str, str]:
    """Return SM and TensorRT version of this machine, which the engine's config.json lacks."""
    capability = subprocess.run(
        ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=SMI_TIMEOUT_S,
        check=True,
    ).stdout.split()
    sm = capability[0].replace(".", "") if capability else ""
    if sm != str(record["sm"]):
        raise EngineError(f"the export is for sm_{record['sm']}, but this machine is sm_{sm}")
    names = [path.name for folder in LIBRARIES for path in Path(folder).glob("libnvinfer.so.*.*.*")]
    versions = [found for name in names if (found := re.sub(r"^libnvinfer\.so\.", "", name))]
    if len(versions) != 1:
        raise EngineError(
            f"expected one TensorRT version in {' or '.join(LIBRARIES)}, found {versions}"
        )
    return {"sm": sm, "tensorrt": versions[0]}


def engine_facts(
    record: dict[str, Any], settings: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of engine.json."""
    found = facts.pop("found", {})
    runtime = {"tensorrt-edgellm": record["versions"]["tensorrt-edgellm"]}
    if "tensorrt" in found:
        runtime["tensorrt"] = found["tensorrt"]
    return {
        "schema_version": 1,
        "builder": "edge-llm",
        "runtime": runtime,
        "precision": {
            "asked": settings["engine"]["precision"],
            "found": record["quantisation"],
        },
        "model": {"architecture": record["model"]},
        "export": record,
        **facts,
    }


def tree_digest(folder: Path, files: list[Path]) -> str:
    """Return the digest of the files, by which a device reuses an engine that it compiled."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{inner}\n".encode())
    return digest.hexdigest()


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if links are not possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON document. Raises EngineError."""
    try:
        with path.open("rb") as file:
            document: dict[str, Any] = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path.name} cannot be read: {error}") from None
    return document


if __name__ == "__main__":
    sys.exit(main())
