"""What a plan says of the memory of each profile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from forge.memory.signed import MEMORY_FIELD, parse_served_memory
from forge.steps import Step

__all__ = ["memory_lines"]


def memory_lines(steps: Iterable[Step]) -> Iterator[str]:
    """Yield a sentence for each profile, from what is published of its memory."""
    for step in steps:
        parts = step.settings.get("parts")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, Mapping):
                yield from _line(part)


def _line(part: Mapping[str, object]) -> Iterator[str]:
    served, profile = parse_served_memory(part), part.get("profile")
    if not isinstance(profile, Mapping):
        return
    if MEMORY_FIELD not in part:
        name = profile.get("name")
        yield f"Memory of {name} is not computed (no &shape: forge checkpoint pin)"
    if served is None:
        return
    requires = profile.get("requires")
    required = requires.get("memory_mib") if isinstance(requires, Mapping) else None
    if not isinstance(required, int):
        return
    formula, batch, length = served.formula, served.max_batch_size, served.max_seq_len
    compiling = f", compiling on the device {formula.compile_mib}" if formula.compile_mib else ""
    most = served.suggestion(required + formula.system_mib)
    fitting = f", in which fits {most}" if most else ""
    yield (
        f"Memory of {profile.get('name')}: {served.total} MiB with max_batch_size {batch} and"
        f" max_seq_len {length} ({served.need}{compiling}); {required} MiB are required"
        f"{fitting}"
    )
