"""Check what a profile requires of memory against what its model takes; pure."""

from __future__ import annotations

from forge.errors import ConfigurationError
from forge.memory.formula import MemoryFormula, ServedMemory
from forge.memory.runtimes import formula_of
from forge.memory.shape import ModelShape
from forge.profiles import Profile

__all__ = ["check_memory"]


def check_memory(profile: Profile, shape: ModelShape | None) -> ServedMemory | None:
    """Return what a profile's model takes; None if its sizes or its runtime are not known.

    Raises ConfigurationError: `requires.memory_mib` is less than what is computed, or the hardware
    of the profile has less than it requires and the system needs.
    """
    formula = None if shape is None else formula_of(shape, profile)
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
    engine, required = profile.engine, profile.requires.memory_mib
    computed = formula.total(engine.max_batch_size, engine.max_seq_len)
    if required >= computed:
        return
    # What the system needs is not in requires.memory_mib: the device adds it.
    smaller = formula.suggestion(
        engine.max_batch_size, engine.max_seq_len, required + formula.system_mib
    )
    hint = f"set requires.memory_mib to {computed} or more in profiles/{profile.name}.yaml"
    if smaller:
        hint = (
            f"{hint}; in {required} MiB fits engine.{smaller.replace(' or max', ' or engine.max')}"
        )
    raise ConfigurationError(
        f"Profile {profile.name!r} requires {required} MiB of memory, its model takes {computed}",
        why=_terms(profile, formula),
        hint=hint,
    )


def _check_hardware(profile: Profile, formula: MemoryFormula) -> None:
    have, required = profile.hardware.memory_mib, profile.requires.memory_mib
    servers = 2 if profile.serving.activation == "blue-green" else 1
    wanted = servers * required + formula.system_mib
    if have is None or have >= wanted:
        return
    parts = f"requires.memory_mib {required}"
    if servers > 1:
        parts = f"twice {parts} (serving.activation: blue-green)"
    if formula.system_mib:
        parts = f"{parts} and {formula.system_mib} that the system needs of the same memory"
    engine = profile.engine
    left = (have - formula.system_mib) // servers + formula.system_mib
    smaller = formula.suggestion(engine.max_batch_size, engine.max_seq_len, left)
    hint = "choose a smaller model or precision"
    if smaller:
        hint = f"set requires.memory_mib to less; fitting: engine.{smaller}"
    raise ConfigurationError(
        f"Profile {profile.name!r} requires more memory than its hardware has",
        why=f"{parts}: {wanted} MiB, hardware.memory_mib is {have}; {_terms(profile, formula)}",
        hint=hint,
    )


def _terms(profile: Profile, formula: MemoryFormula) -> str:
    engine = profile.engine
    need = formula.need(engine.max_batch_size, engine.max_seq_len)
    at = f"max_batch_size {engine.max_batch_size} and max_seq_len {engine.max_seq_len}"
    said = f"MiB with {at}: {need}"
    if formula.compile_mib > need.total:
        said = f"compiling on the device takes {formula.compile_mib} MiB; {said}"
    return said
