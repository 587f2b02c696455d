"""What the OpenVINO tools have in common: the files, the measured precision, no telemetry."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

MODEL = "openvino_model.xml"
EXPECTED = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)
FACTS = "engine.json"
GENERATION = "generation_config.json"
MAX_SETTINGS_BYTES = 1024 * 1024
MOST_SHOWN = 4  # items of a list in a message
# OpenVINO's element types of weights, their scales and zero points; the others are shapes and ids.
WEIGHT_TYPES = frozenset(
    {"f64", "f32", "f16", "bf16", "u8", "i8", "u4", "i4", "u2", "u1", "nf4", "f8e4m3", "f8e5m2"}
)


class CheckpointError(Exception):
    """The checkpoint or the settings cannot be compiled."""


def disable_telemetry() -> None:
    """Let every import of openvino-telemetry fail: OpenVINO and NNCF do without it then.

    Without this, `import openvino` sends an event to www.google-analytics.com and writes a client
    id to the home folder.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def requested_precision(settings: Path) -> str:
    """Return `engine.precision` of the settings file; `as-is` if not set."""
    try:
        if settings.stat().st_size > MAX_SETTINGS_BYTES:
            raise CheckpointError(f"{settings.name} is larger than {MAX_SETTINGS_BYTES} bytes")
        values: Any = json.loads(settings.read_bytes())
        precision = values.get("engine", {}).get("precision", "as-is")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{settings.name} is not a valid settings file: {error}") from None
    return str(precision)


def weight_bytes(model: Path) -> dict[str, int]:
    """Return the bytes of an IR's weight constants by OpenVINO's element type, e.g. `u4`."""
    import openvino

    found: dict[str, int] = {}
    for node in openvino.Core().read_model(model).get_ops():
        if node.get_type_name() == "Constant":
            kind = node.get_element_type().get_type_name()
            if kind in WEIGHT_TYPES:
                found[kind] = found.get(kind, 0) + int(node.get_byte_size())
    return found


def most(weights: dict[str, int]) -> str:
    """Return the element type with the most bytes; empty if there are no weights."""
    return max(weights, key=lambda kind: weights[kind]) if weights else ""


def runtime() -> dict[str, str]:
    """Return the exact versions that an engine is bound to, of those installed here."""
    packages = ("openvino", "openvino-genai", "openvino-tokenizers")
    return {name: version for name in packages if (version := _version(name)) is not None}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write_json(path: Path, content: object) -> None:
    """Write a JSON file with sorted keys."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def keep_activations(model: Path) -> None:
    """Write into an IR that the runtime must not round activations to 8 bits.

    It does so by default where weights have 8 or 4 bits: with SmolLM2 in Q8_0 the mean KL
    divergence was 0.005 instead of 0.001, and the golden answer wrong in continuous batching.
    """
    text = model.read_text(encoding="utf-8")
    option = '<DYNAMIC_QUANTIZATION_GROUP_SIZE value="0" />'
    if "<runtime_options>" in text:
        text = text.replace("<runtime_options>", f"<runtime_options>{option}", 1)
    else:
        head, found, tail = text.rpartition("</rt_info>")  # of the whole model: the last one
        if not found:
            raise RuntimeError(f"{model.name} has no rt_info to write an option to")
        text = f"{head}<runtime_options>{option}</runtime_options>{found}{tail}"
    model.write_text(text, encoding="utf-8")


def some(items: Sequence[str], separator: str) -> str:
    """Return a list for a message, not longer than a few items."""
    rest = len(items) - MOST_SHOWN
    shown = separator.join(items[:MOST_SHOWN])
    return f"{shown}{separator}and {rest} more" if rest > 0 else shown


def missing(work: Path) -> list[str]:
    """Return the files that an engine must have and that `work` has not."""
    return [name for name in EXPECTED if not (work / name).is_file()]


def publish(work: Path, names: Iterable[str], output: Path) -> None:
    """Move files to `output`, readable for everyone."""
    for name in names:
        (work / name).chmod(0o644)
        shutil.move(work / name, output / name)
