"""Read what was measured of a published bundle, and who signed its checkpoint.

For the publisher: the signature is not verified, as with all that `forge.release.catalog` reads. A
device and an auditor use `forge.trust.predicates.verify_predicate`.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from forge import canonical
from forge.accuracy.receipt import Receipt
from forge.bundle import Manifest
from forge.checkpoint.verified import VerifiedSignature
from forge.errors import CorruptedError, NotInStoreError
from forge.smoke.result import Baseline, Result
from forge.store.backends.protocol import Objects
from forge.store.download.downloader import Downloader
from forge.store.formats.names import tree_name
from forge.store.formats.tree import MAX_TREE_BYTES, Tree, parse
from forge.trust.predicates import ACCURACY, CHECKPOINT, MAX_PREDICATE_BYTES, PERFORMANCE
from forge.validation import validation_text

__all__ = ["baseline_of", "read_accuracy", "read_performance", "read_proof", "read_signature"]

_T = TypeVar("_T", bound=BaseModel)


def baseline_of(objects: Objects, manifest: Manifest) -> Baseline:
    """Return what the gate compares a new build with. Raises as `read_performance`."""
    result = read_performance(objects, manifest)
    level = None
    if result is not None:
        level = next(
            (one for one in result.levels if one.concurrency == manifest.smoke.concurrency), None
        )
    return Baseline(
        version=manifest.version,
        tree=manifest.tree.digest,
        summary=manifest.smoke,
        level=level,
    )


def read_performance(objects: Objects, manifest: Manifest) -> Result | None:
    """Return the benchmark's result; None for a bundle of a version that stored none.

    Raises:
        CorruptedError: the predicate or the tree of the proofs is damaged.
        StoreError: the store cannot be reached.
    """
    return _read(objects, manifest, PERFORMANCE, Result)


def read_accuracy(objects: Objects, manifest: Manifest) -> Receipt | None:
    """Return the accuracy receipt. Returns None and raises as `read_performance`."""
    return _read(objects, manifest, ACCURACY, Receipt)


def read_signature(objects: Objects, manifest: Manifest) -> VerifiedSignature | None:
    """Return what was verified of the checkpoint's signature; None if no signer was named.

    Raises as `read_performance`.
    """
    return _read(objects, manifest, CHECKPOINT, VerifiedSignature)


def read_proof(objects: Objects, manifest: Manifest, name: str, max_bytes: int) -> bytes | None:
    """Return a file of a bundle's proofs; None: it has none, or garbage collection deleted it.

    Raises:
        CorruptedError: the file is damaged or larger than `max_bytes`, or the tree is damaged.
        StoreError: the store cannot be reached.
    """
    digest = manifest.proofs.digest
    try:
        data = objects.read(tree_name(digest), max_bytes=MAX_TREE_BYTES).data
    except NotInStoreError:  # garbage collection kept the manifest only
        return None
    what = f"{name} of {manifest.name} {manifest.version} for {manifest.profile}"
    if canonical.sha256(data) != digest:
        raise CorruptedError(f"The proofs of {manifest.name} {manifest.version} are damaged")
    tree = parse(data, digest, objects.url)
    entry = next((one for one in tree.entries if one.path == name), None)
    if entry is None:
        return None
    if entry.size > max_bytes:
        raise CorruptedError(f"{what} is larger than {max_bytes} bytes")
    return Downloader(objects, Tree(entries=(entry,)), None).read(entry)


def _read(objects: Objects, manifest: Manifest, name: str, model: type[_T]) -> _T | None:
    data = read_proof(objects, manifest, name, MAX_PREDICATE_BYTES)
    what = f"{name} of {manifest.name} {manifest.version} for {manifest.profile}"
    return None if data is None else _parse(data, what, model)


def _parse(envelope: bytes, what: str, model: type[_T]) -> _T:
    try:
        document: Any = json.loads(envelope)
        statement: Any = json.loads(base64.b64decode(document["payload"], validate=True))
        return model.model_validate_json(json.dumps(statement["predicate"]))
    except (ValueError, KeyError, TypeError, binascii.Error, ValidationError) as error:
        hint = "it is damaged or from a newer version of Forge: update Forge on this machine"
        why = validation_text(error) if isinstance(error, ValidationError) else str(error)
        raise CorruptedError(f"{what} is not valid", why=why, hint=hint) from None
