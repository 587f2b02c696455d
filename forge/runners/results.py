"""Where the scheduler takes results from, and how it stores them: unsigned or signed.

In the project's own store (`artifacts/`), and in a project without trusted builders, a result is
the record `actions/<key>.json`. In a shared store of a project that names builders, a result is
used only if one of them signed it for this key and may make this step: who can write to the store
can delete results, not insert them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from forge.errors import CorruptedError, TrustError
from forge.plan import NotUsed
from forge.steps import Step, uses_keys
from forge.store import ActionResult, Store
from forge.store.formats.signed_result import result_statement
from forge.store.maintenance.check import forget_result
from forge.trust.builders import Builders, verify_result

__all__ = ["ResultSigner", "Results", "SignedResults", "StoredResults"]


class Results(Protocol):
    """Results of steps by key."""

    def find(self, step: Step, key: str) -> ActionResult | NotUsed | None:
        """Return the result of a key, None if there is none, or why it is not used."""

    def put(self, step: Step, result: ActionResult) -> ActionResult:
        """Store a result and return it as `find` would."""

    def forget(self, result: ActionResult) -> None:
        """Forget a result whose bytes are damaged, so that its step runs again."""

    def refuse(self, step: Step) -> str:
        """Return why a result of this machine would not be used; empty if it would."""


class ResultSigner(Protocol):
    """Signs results with the key of one trusted builder."""

    @property
    def builder(self) -> str:
        """Return the name of the builder in forge.yaml."""

    def sign(self, statement: bytes) -> bytes:
        """Return a DSSE envelope of an in-toto statement. Raises UsageError."""


@dataclass(frozen=True, slots=True)
class StoredResults:
    """Results that are not signed."""

    store: Store

    def find(self, step: Step, key: str) -> ActionResult | NotUsed | None:  # noqa: ARG002
        """Return the record of a key if its output trees exist."""
        result = self.store.action(key)
        return result if result is not None and _is_whole(self.store, result) else None

    def put(self, step: Step, result: ActionResult) -> ActionResult:  # noqa: ARG002
        """Store the record."""
        self.store.put_action(result)
        return result

    def forget(self, result: ActionResult) -> None:
        """Delete the record and the damaged objects of its outputs."""
        forget_result(self.store, result.key)

    def refuse(self, step: Step) -> str:  # noqa: ARG002
        """Return an empty text: all results are used."""
        return ""


@dataclass(frozen=True, slots=True)
class SignedResults:
    """Results that trusted builders signed.

    Attributes:
        store: the shared store.
        builders: those that the project names.
        signer: signs what this machine makes; None: it has no key of a builder.
    """

    store: Store
    builders: Builders
    signer: ResultSigner | None = None
    _forgotten: set[tuple[str, str]] = field(default_factory=set)

    def find(self, step: Step, key: str) -> ActionResult | NotUsed | None:
        """Return the first result of a builder that is verified and whose trees exist.

        Steps with effects have no result. This machine's own results come first, because it can
        replace them where they are damaged.
        """
        reasons = []
        for name in self._order(step):
            try:
                found = self._of(name, step, key)
            except (TrustError, CorruptedError) as error:
                reasons.append(error.why or error.what)
            else:
                if found is not None:
                    return found
        if reasons:
            return NotUsed(f"the stored result is not used: {'; '.join(reasons)}")
        if self.store.action(key) is not None:
            may = [name for name in self._order(step) if self.builders[name].may_make(step.id)]
            makers = f"; may make it: {', '.join(may) or 'no builder'}"
            return NotUsed(f"the stored result is not used: no trusted builder signed it{makers}")
        return None

    def put(self, step: Step, result: ActionResult) -> ActionResult:
        """Sign and store a result. A signing step's is stored unsigned if no builder may make it.

        What signing steps make is verified by the keys of the release.
        """
        if self.signer is None or self._may_not(step):
            self.store.put_action(result)
            return result
        name = self.signer.builder
        envelope = self.signer.sign(result_statement(result, name))
        self.store.put_signed_result(name, result.key, envelope)
        self._forgotten.discard((name, result.key))
        # Not used where results are signed: for `forge why`, and for garbage collection.
        self.store.put_action(result)
        return result.model_copy(update={"builder": name})

    def forget(self, result: ActionResult) -> None:
        """Ignore the result in this process; its record and damaged objects are deleted."""
        self._forgotten.add((result.builder, result.key))
        forget_result(self.store, result.key, result)

    def refuse(self, step: Step) -> str:
        """Return why no other machine would use what this one makes."""
        if step.effect or uses_keys(step):
            return ""
        if self.signer is None:
            return "without FORGE_BUILDER_KEY, a key of a builder, no machine would use its result"
        return self._may_not(step)

    def _order(self, step: Step) -> list[str]:
        """Return the builders: first those that may make the step, of these its own first."""
        return sorted(
            self.builders,
            key=lambda name: (not self.builders[name].may_make(step.id), name != self._own),
        )

    @property
    def _own(self) -> str | None:
        return self.signer.builder if self.signer else None

    def _may_not(self, step: Step) -> str:
        name = self._own or ""
        allowed = self.builders[name].may_make(step.id)
        return "" if allowed else f"forge.yaml does not allow builder {name} to make it"

    def _of(self, name: str, step: Step, key: str) -> ActionResult | None:
        if (name, key) in self._forgotten:
            return None
        envelope = self.store.signed_result(name, key)
        if envelope is None:
            return None
        result = verify_result(envelope, name, self.builders[name], key=key, step=step.id)
        return result if _is_whole(self.store, result) else None


def _is_whole(store: Store, result: ActionResult) -> bool:
    return all(store.has_tree(tree.digest) for tree in result.outputs.values())
