"""Builders with keys in memory, a forge.yaml that names them, and results that they sign."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner

from forge.bundle import TreeReference
from forge.release.keys.builder_key import BuilderSigner
from forge.store import ActionResult
from forge.trust.builders import Builders, TrustedBuilder, public_pem

KEY, OTHER_KEY = "a" * 64, "b" * 64
TREE = TreeReference(digest="c" * 64, size=1, files=1)


@lru_cache(maxsize=16)
def key_of(name: str) -> CryptoSigner:  # noqa: ARG001  a key for each name
    """The key of a builder: the same for each call of one test session."""
    return CryptoSigner.generate_ed25519()


def signer(name: str, *, key: str = "") -> BuilderSigner:
    """Signs as `name`, with its key or, to forge it, with that of `key`."""
    return BuilderSigner(name, key_of(key or name))


def trusted(name: str, *steps: str) -> TrustedBuilder:
    return TrustedBuilder(steps=list(steps), keys=[public_pem(key_of(name).public_key)])


def builders(**steps: Sequence[str]) -> Builders:
    return {name: trusted(name, *globs) for name, globs in steps.items()}


def write_project_file(root: Path, named: Builders) -> None:
    document = {name: one.model_dump() for name, one in named.items()}
    (root / "forge.yaml").write_text(yaml.safe_dump({"builders": document}))


def write_key(path: Path, name: str) -> Path:
    """The private key of a builder as a file that is not encrypted, as a GPU runner may have it."""
    data = key_of(name)._private_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def made(key: str = KEY, step: str = "engine@a", **changes: Any) -> ActionResult:
    """A result."""
    return ActionResult(
        key=key,
        step=step,
        fields={"version": "2"},
        outputs={"engine": TREE},
        seconds=1.5,
        started="2026-11-24T04:00:00Z",
        runner="local linux/amd64",
    ).model_copy(update=changes)
