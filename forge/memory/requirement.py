"""Check what a profile requires of memory against what its model takes; pure."""

from __future__ import annotations

from forge.errors import ConfigurationError
from forge.memory.formula import MemoryFormula, ServedMemory
from forge.memory.runtimes import formula_of
from forge.memory.shape import ModelShape
from forge.profiles import Profile

__all__ = ["check_memory"]


def check_memory(
    profile: Profile, shape: ModelShape | None, quantisation: tuple[str, ...] | None = None
) -> ServedMemory | None:
    """Return what a profile's model takes; None if its sizes or its runtime are not known.

    Args:
        profile: of the release.
        shape: the model's sizes.
        quantisation: types of a GGUF file's tensors, in lower case; None: not known.

    Raises ConfigurationError: `requires.memory_mib` is less than what is computed, or the hardware
    of the profile has less than it requires and the system needs.
    """
    formula = None if shape is None else formula_of(shape, profile, quantisation)
    if formula is None:
        return None
    _check_requires(profile, formula)
    _check_hardware(profile, formula)
    return ServedMemory(
        formula=formula,
        max_batch_size=profile.engine.max_batch_size,
        max_seq_len=profile.engine.max_seq_len,
    )


def _check_requires(profile: Profile, formula: MemoryFormula) -> None:
    required, computed = profile.requires.memory_mib, _computed(profile, formula)
    if required >= computed:
        return
    room, why = _room(profile, formula), _terms(profile, formula)
    if room is None or computed <= room:
        hint = f"set requires.memory_mib to {computed} or more in profiles/{profile.name}.yaml"
        if smaller := _smaller(profile, formula, required):
            hint = f"{hint}, or {smaller}"
    else:  # to require more would be refused, too
        why = f"{why}; {_hardware(profile, formula)}"
        hint = _fitting(profile, formula, room)
    raise ConfigurationError(
        f"Profile {profile.name!r} requires {required} MiB of memory, its model takes"
        f" {computed} MiB",
        why=why,
        hint=hint,
    )


def _check_hardware(profile: Profile, formula: MemoryFormula) -> None:
    required, room = profile.requires.memory_mib, _room(profile, formula)
    if room is None or required <= room:
        return
    computed = _computed(profile, formula)
    hint = _fitting(profile, formula, room)
    if computed <= room:
        hint = f"set requires.memory_mib to {room} or less; its model takes {computed} MiB"
    raise ConfigurationError(
        f"Profile {profile.name!r} requires more memory than its hardware has",
        why=f"requires.memory_mib is {required}; {_hardware(profile, formula)};"
        f" {_terms(profile, formula)}",
        hint=hint,
    )


def _computed(profile: Profile, formula: MemoryFormula) -> int:
    return formula.total(profile.engine.max_batch_size, profile.engine.max_seq_len)


def _servers(profile: Profile) -> int:
    return 2 if profile.serving.activation == "blue-green" else 1


def _room(profile: Profile, formula: MemoryFormula) -> int | None:
    """Return the most that requires.memory_mib can be on the profile's hardware; None: any."""
    have = profile.hardware.memory_mib
    if have is None:
        return None
    return max(0, have - formula.system_mib) // _servers(profile)


def _hardware(profile: Profile, formula: MemoryFormula) -> str:
    """Return what the hardware has for one server, as a message names it."""
    said = f"hardware.memory_mib is {profile.hardware.memory_mib}"
    if formula.system_mib:
        said = f"{said}, of which the system needs {formula.system_mib}"
    if _servers(profile) > 1:
        said = f"{said}, for two servers (serving.activation: blue-green)"
    return f"{said}: at most {_room(profile, formula)} MiB can be required"


def _fitting(profile: Profile, formula: MemoryFormula, room: int) -> str:
    """Return what to set so that a model of which more is computed fits into `room` MiB."""
    engine = profile.engine
    if smaller := _smaller(profile, formula, room):
        return f"{smaller}; and requires.memory_mib to {room}"
    need = formula.need(engine.max_batch_size, engine.max_seq_len).total
    if formula.compile_mib > room >= need:
        return f"set engine.build_on to runner and requires.memory_mib from {need} to {room}"
    return f"choose a model or precision that takes {room} MiB or less"


def _smaller(profile: Profile, formula: MemoryFormula, room: int) -> str:
    """Return which batch or length would fit into `room` MiB, as a hint says it; "" if none."""
    engine, have = profile.engine, room + formula.system_mib
    found = []
    if batch := formula.largest_batch(engine.max_seq_len, have):
        found.append(f"engine.max_batch_size to {batch}")
    if length := formula.largest_length(engine.max_batch_size, have):
        found.append(_length(length, profile))
    elif not found and (length := formula.largest_length(1, have)):
        found.append(f"engine.max_batch_size to 1 and {_length(length, profile)}")
    return f"set {', or '.join(found)}" if found else ""


def _length(length: int, profile: Profile) -> str:
    shorter = profile.engine.max_input_len >= length
    also = f" and engine.max_input_len to {length - 1} or less" if shorter else ""
    return f"engine.max_seq_len to {length}{also}"


def _terms(profile: Profile, formula: MemoryFormula) -> str:
    engine = profile.engine
    need = formula.need(engine.max_batch_size, engine.max_seq_len)
    at = f"max_batch_size {engine.max_batch_size} and max_seq_len {engine.max_seq_len}"
    said = f"with {at} it takes {need} MiB"
    if formula.compile_mib > need.total:
        said = f"compiling on the device takes {formula.compile_mib} MiB; {said}"
    return said
