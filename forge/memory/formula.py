"""Memory that serving takes, as a formula of batch and length; pure.

A device is told the formula with a release and not one number, so that it can say which batch and
length would fit. The numbers in it come from forge.memory.runtimes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["LEAST_CACHE_SHARE", "CacheTerm", "MemoryFormula", "MemoryNeed", "ServedMemory"]

MIB: Final = 2**20
_MOST_SEQUENCES: Final = 1024  # engine.max_batch_size
_MOST_TOKENS: Final = 2**24
# No machine has more. What is signed is bounded, so that a device can compute every accepted value.
_MOST_MIB: Final = 2**40
_MOST_BYTES: Final = 2**60
_MOST_COUNT: Final = 2**40
LEAST_CACHE_SHARE: Final = 1e-6


class _Document(BaseModel):
    # Extra fields of a later version are ignored: what is known still holds.
    model_config = ConfigDict(extra="ignore", frozen=True)


class CacheTerm(_Document):
    """KV cache of some layers."""

    bytes_per_token: int = Field(ge=0, le=2**40)
    window: int | None = Field(
        default=None, ge=1, le=_MOST_COUNT, description="tokens, at most; null: the whole sequence"
    )


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Memory by term, MiB, each rounded up.

    Attributes:
        weights: of the model, as the runtime holds them.
        cache: what must be there for the KV cache of a full batch at full length.
        workspace: activations, logits, states of sequences.
        runtime: the server and its libraries, or a GPU's context.
    """

    weights: int
    cache: int
    workspace: int
    runtime: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.cache + self.workspace + self.runtime

    def __str__(self) -> str:
        """Return the terms as a message names them."""
        return (
            f"weights {self.weights}, KV cache {self.cache}, workspace {self.workspace},"
            f" runtime {self.runtime}"
        )


class MemoryFormula(_Document):
    """What serving takes, by batch and length.

    weights + runtime + workspace + batch x (sequence_bytes + cache x (1 + …)), see `need`.
    """

    weights_mib: int = Field(ge=0, le=_MOST_MIB)
    runtime_mib: int = Field(ge=0, le=_MOST_MIB)
    workspace_mib: int = Field(
        ge=0, le=_MOST_MIB, description="that neither batch nor length changes"
    )
    caches: tuple[CacheTerm, ...] = Field(default=(), max_length=64)
    block_tokens: int = Field(
        default=1, ge=1, le=_MOST_TOKENS, description="a sequence takes whole blocks of so many"
    )
    copies: int = Field(
        default=1, ge=1, le=_MOST_SEQUENCES, description="caches that each sequence has"
    )
    spare: int = Field(
        default=0, ge=0, le=_MOST_SEQUENCES, description="caches besides those of the sequences"
    )
    cache_share: float = Field(
        default=1.0,
        ge=LEAST_CACHE_SHARE,
        le=1,
        description="of the memory that is free, what the runtime gives the cache",
    )
    sequence_bytes: int = Field(
        default=0, ge=0, le=_MOST_BYTES, description="workspace and states of one sequence"
    )
    token_bytes: int = Field(
        default=0, ge=0, le=_MOST_BYTES, description="workspace for each token of max_seq_len"
    )
    system_mib: int = Field(
        default=0, ge=0, le=_MOST_MIB, description="left to the system: unified and host memory"
    )
    compile_mib: int = Field(
        default=0,
        ge=0,
        le=_MOST_MIB,
        description="that compiling on the device takes; 0: it is not",
    )

    def cache_bytes(self, length: int) -> int:
        """Return the bytes of one KV cache of `length` tokens.

        The sum over groups of layers of bytes_per_token x min(length, window), in whole blocks.
        """
        return sum(
            one.bytes_per_token * self._blocks(min(length, one.window or length))
            for one in self.caches
        )

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens) * self.block_tokens

    def need(self, batch: int, length: int) -> MemoryNeed:
        """Return what serving takes.

        Args:
            batch: sequences computed together, engine.max_batch_size.
            length: tokens of the longest sequence, engine.max_seq_len.
        """
        caches = (batch * self.copies + self.spare) * self.cache_bytes(length)
        workspace = batch * self.sequence_bytes + length * self.token_bytes
        return MemoryNeed(
            weights=self.weights_mib,
            cache=_mib(caches / self.cache_share),
            workspace=self.workspace_mib + _mib(workspace),
            runtime=self.runtime_mib,
        )

    def total(self, batch: int, length: int) -> int:
        """Return what must be free on the device for serving and, on it, compiling; MiB."""
        return max(self.need(batch, length).total, self.compile_mib)

    def fits(self, batch: int, length: int, have_mib: int) -> bool:
        """Return whether memory of this size has room for it, and for the system's part."""
        return self.total(batch, length) + self.system_mib <= have_mib

    def largest_batch(self, length: int, have_mib: int) -> int:
        """Return the largest batch that fits at a length; 0: not one sequence does."""
        return _largest(_MOST_SEQUENCES, 1, lambda batch: self.fits(batch, length, have_mib))

    def largest_length(self, batch: int, have_mib: int) -> int:
        """Return the largest length that fits with a batch; 0: none does."""
        return _largest(_MOST_TOKENS, 2, lambda length: self.fits(batch, length, have_mib))

    def suggestion(self, batch: int, length: int, have_mib: int) -> str:
        """Return which batch and which length would fit instead, as a hint says it.

        Those that are set already are left out. Empty if none fits, not even one sequence of two
        tokens.
        """
        found = []
        if (sequences := self.largest_batch(length, have_mib)) not in {0, batch}:
            found.append(f"max_batch_size {sequences} with max_seq_len {length}")
        tokens = self.largest_length(batch, have_mib)
        if tokens not in {0, length}:
            found.append(f"max_seq_len {tokens} with max_batch_size {batch}")
        elif not found and not tokens and (alone := self.largest_length(1, have_mib)):
            found.append(f"max_seq_len {alone} with max_batch_size 1")
        return " or ".join(found)


class ServedMemory(_Document):
    """What serving one release takes, as its publisher computed it."""

    formula: MemoryFormula
    max_batch_size: int = Field(ge=1, le=_MOST_COUNT)
    max_seq_len: int = Field(ge=2, le=_MOST_COUNT)

    @property
    def need(self) -> MemoryNeed:
        """Return what it takes by term, with the batch and length that it is released with."""
        return self.formula.need(self.max_batch_size, self.max_seq_len)

    @property
    def total(self) -> int:
        """Return what must be free for it on the device, without the system's part; MiB."""
        return self.formula.total(self.max_batch_size, self.max_seq_len)

    def suggestion(self, have_mib: int) -> str:
        """Return what would fit in memory of this size; "" if nothing does."""
        return self.formula.suggestion(self.max_batch_size, self.max_seq_len, have_mib)


def _largest(most: int, least: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from `least` to `most` that fits; 0: `least` does not.

    What fits for a number must fit for every smaller one.
    """
    if not fits(least):
        return 0
    low, high = least, most + 1  # low fits, high does not or is not asked for
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _mib(size: float) -> int:
    """Round bytes up to MiB."""
    return -(-int(size) // MIB)
