"""Write docs/explanation/*.svg: the chain, and the packages of forge in their layers.

    .venv/bin/python scripts/diagrams.py          write them
    .venv/bin/python scripts/diagrams.py --check  exit code 1 if one is not up to date

The layers come from the import rules in pyproject.toml, so a picture cannot show a package that is
not there.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from svg import Box, Drawing

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "docs" / "explanation"
BLUE, GREY, GREEN = "#e8f1fb", "#f0f1f3", "#e9f6ec"
CROWDED: Final = 4  # packages of one row; with more their notes need two lines

# What each package does, by its name in the import rules.
FORGE: Final = {
    "cli": "commands, options, exit codes",
    "check": "forge check",
    "report": "a release as HTML, Markdown",
    "project": "finds and loads pipelines",
    "runners": "execute steps: local, dagger",
    "release": "keys, attest, publish",
    "device": "agent and gateway",
    "matrix": "jobs for CI",
    "scaffold": "forge init",
    "deploy": "Kubernetes overlays",
    "plan": "graph of steps, look-ups",
    "checkpoint": "fetch, pin",
    "images": "container images",
    "smoke": "benchmark, gate",
    "builders": "plan engines; tools compile",
    "serving": "Triton: render, start, ask",
    "environments": "locked tool environments",
    "trust": "TUF client, proofs",
    "store": "packs, trees, results, leases",
    "bundle": "manifest, channel",
    "steps": "step, artifact, key",
    "profiles": "one device SKU, cascade",
    "container": "the image it runs in",
    "canonical": "canonical JSON",
    "closure": "sources of a step, by imports",
    "dead_settings": "settings nothing reads",
    "entry_point": "exit codes of commands",
    "sealed": "read-only folders and their listing",
    "syntax": "digest of what runs",
    "extras": "optional dependencies",
    "files": "durable writes, path checks",
    "markdown": "tables, escaping",
    "nvpmodel": "power mode names",
    "errors": "exit codes",
}
DEVICE: Final = {
    "maintenance": "rollback, history, verify",
    "daemon": "builds all parts, runs the loop",
    "commands": "detect, provision, status",
    "gateway": "HTTP API in front of Triton",
    "agent": "update, activate, supervise",
    "telemetry": "history, status, metrics",
    "update": "check, download, backoff",
    "state": "directory, slots, settings",
    "power": "power modes and limits",
    "thermal": "sensors, governor",
    "state_machine": "transitions (pure), journal",
    "hardware": "facts, inventory, fit",
    "shared": "upstream, concurrency limit",
}


def main(arguments: Sequence[str]) -> int:
    """Write or check every diagram; returns the exit code."""
    stale = []
    for name, text in render().items():
        path = FOLDER / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"{', '.join(stale)}: not up to date; run: make docs-reference", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def render() -> dict[str, str]:
    """Every diagram by its file name."""
    forge, device = layers("forge"), layers("forge.device")
    return {
        "chain.svg": chain(),
        "packages.svg": stack("forge: a package imports from rows below it", forge, FORGE, BLUE),
        "device.svg": stack("forge.device, by the same rule", device, DEVICE, GREEN),
    }


def layers(package: str) -> list[str]:
    """Layers of a package, highest first, without its name."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for contract in document["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        if contract.get("containers", ["forge"]) == [package]:
            return [str(row).replace("forge.", "") for row in contract["layers"]]
    message = f"no import rule names the layers of {package}"
    raise LookupError(message)


def stack(title: str, rows: Sequence[str], notes: dict[str, str], fill: str) -> str:
    """Rows of packages, the highest layer on top."""
    gap, width, y = 12, 1000, 42
    boxes = []
    for row in rows:
        names = [name.strip() for name in row.split("|")]
        room = (width - 40 - gap * (len(names) - 1)) / len(names)
        crowded = len(names) > CROWDED
        height = 66 if crowded else 46
        for place, name in enumerate(names):
            note = notes.get(name, "")
            lines = _wrapped(note, 17) if crowded else (note,)
            boxes.append(
                Box(20 + place * (room + gap), y, room, height, name, lines[:2], fill=fill)
            )
        y += height + gap
    drawing = Drawing(width, y + 8, title)
    drawing.note((20, 28), f"{title}.")
    for box in boxes:
        drawing.box(box)
    return drawing.render()


def _wrapped(text: str, length: int) -> tuple[str, ...]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return tuple(lines)


def chain() -> str:
    """From the checkpoint to the API of a device."""
    drawing = Drawing(1000, 700, "From the checkpoint to the API of a device")
    publish = _build(drawing)
    packs, tuf = _store(drawing, publish)
    _device(drawing, packs, tuf)
    return drawing.render()


def _build(drawing: Drawing) -> Box:
    drawing.band(10, 225, "Build: a release engineer's machine, or jobs of CI", BLUE)
    first = [
        Box(170, 45, 190, 56, "profiles + pipeline", ("YAML and Python",)),
        Box(405, 45, 190, 56, "plan", ("steps and their keys",)),
        Box(640, 45, 190, 56, "runner", ("local or Dagger",)),
    ]
    links = (
        ("checkpoint", "pinned URL"),
        ("engine", "one per SKU"),
        ("repository", "model for Triton"),
        ("smoke", "on the target"),
        ("gate", "thresholds"),
        ("proofs", "SBOM, signatures"),
        ("publish", "metadata last"),
    )
    second = [
        Box(24 + number * 137, 150, 122, 60, title, (note,))
        for number, (title, note) in enumerate(links)
    ]
    for row in (first, second):
        for box in row:
            drawing.box(box)
        for one, other in pairwise(row):
            drawing.arrow((one.right, other.left))
    drawing.arrow(
        (first[2].bottom(), (first[2].bottom()[0], 126), (85, 126), second[0].top()),
        "runs what the store lacks",
        at=(96, 120),
    )
    return second[-1]


def _store(drawing: Drawing, publish: Box) -> tuple[Box, Box]:
    drawing.band(250, 140, "Store: folder, S3, or HTTPS (read-only)", GREY, 130)
    results = drawing.box(Box(60, 276, 240, 70, "actions, leases", ("one builder per key",)))
    packs = drawing.box(
        Box(380, 276, 240, 70, "packs, files, trees", ("chunks by digest, trees by digest",))
    )
    tuf = drawing.box(Box(700, 276, 240, 70, "TUF metadata", ("manifests, channels",)))
    start = publish.bottom(0.5)
    drawing.arrow((start, (start[0], tuf.y)), "signed", at=(start[0] + 8, 246))
    drawing.arrow(((496, 210), (496, packs.y)), "trees, chunks", at=(504, 246))
    drawing.arrow(((222, 210), (222, results.y)), "results of steps, by key", at=(230, 246))
    drawing.box(Box(700, 402, 170, 34, "forge promote", dashed=True))
    drawing.arrow(((785, 402), (785, tuf.y + tuf.height)), "sets a channel", at=(793, 380))
    return packs, tuf


def _device(drawing: Drawing, packs: Box, tuf: Box) -> None:
    drawing.band(446, 244, "Device: agent and gateway in one process", GREEN)
    steps = (
        ("check", "TUF, channel"),
        ("fit", "before download"),
        ("download", "missing chunks"),
        ("slot a | b", "every byte verified"),
        ("Triton", "starts on the slot"),
        ("probe", "golden prompts"),
        ("commit", "the slot serves"),
    )
    row = [
        drawing.box(Box(24 + number * 137, 500, 122, 60, title, (note,)))
        for number, (title, note) in enumerate(steps)
    ]
    for one, other in pairwise(row):
        drawing.arrow((one.right, other.left))
    edge = tuf.right[0]
    drawing.arrow((tuf.right, (edge + 30, tuf.right[1]), (edge + 30, 484), (85, 484), row[0].top()))
    drawing.note((900, 478), "metadata")
    drawing.arrow(
        (packs.bottom(0.1), (packs.bottom(0.1)[0], row[2].y)), "missing chunks only", at=(412, 424)
    )
    drawing.arrow(
        (row[5].bottom(), (row[5].bottom()[0], 584), (row[3].bottom()[0], 584), row[3].bottom()),
        "wrong answers:",
        at=(782, 576),
    )
    drawing.note((782, 592), "back to the other slot")
    gateway = drawing.box(
        Box(398, 622, 470, 50, "gateway", ("/v1/chat/completions  /v1/inference  /metrics",))
    )
    application = drawing.box(Box(60, 622, 160, 50, "application", dashed=True))
    drawing.arrow((application.right, gateway.left))
    drawing.arrow((gateway.top(0.5), row[4].bottom(0.5)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
