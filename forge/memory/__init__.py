"""How much memory a model takes to serve: computed from its sizes, not guessed. Pure.

shape = ModelShape(…)                    what the headers of a checkpoint state
formula = formula_of(shape, profile)     by the builder's runtime
formula.need(batch, length)              MiB by term
formula.largest_length(batch, have_mib)  what would fit instead
"""

from forge.memory.formula import CacheTerm, MemoryFormula, MemoryNeed, ServedMemory
from forge.memory.shape import CacheLayers, ModelShape, parse_shape

__all__ = [
    "CacheLayers",
    "CacheTerm",
    "MemoryFormula",
    "MemoryNeed",
    "ModelShape",
    "ServedMemory",
    "parse_shape",
]
