"""The trusted builders of a project, and the verification of the results that they sign.

    # forge.yaml in the project folder
    builders:
      hosted:
        steps: [checkpoint, huggingface, "engine@*"]   # globs of step ids
        keys:
          - |
            -----BEGIN PUBLIC KEY-----
            …

A builder here is a machine or a job that runs steps, as in SLSA; not the module that compiles an
engine. Without the section `builders`, results are not signed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator

from forge.errors import TrustError
from forge.store import ActionResult
from forge.store.formats.signed_result import BuilderName, parse_statement
from forge.trust.envelope import envelope_payload

if TYPE_CHECKING:
    from securesystemslib.signer import Key

__all__ = [
    "Builders",
    "TrustedBuilder",
    "builder_keys",
    "name_of_key",
    "public_pem",
    "verify_result",
]


class TrustedBuilder(BaseModel):
    """A builder: its public keys, and the steps that it may make."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    steps: list[str] = Field(min_length=1, description="globs of step ids")
    keys: list[str] = Field(min_length=1, description="PEM, SubjectPublicKeyInfo")

    @field_validator("keys")
    @classmethod
    def _parse(cls, keys: list[str]) -> list[str]:
        for pem in keys:
            _key(pem)
        return keys

    def may_make(self, step: str) -> bool:
        """Return whether a glob of this builder matches a step id."""
        return any(fnmatch.fnmatchcase(step, glob) for glob in self.steps)


Builders: TypeAlias = Mapping[BuilderName, TrustedBuilder]


def builder_keys(builder: TrustedBuilder) -> list[Key]:
    """Return the public keys of a builder for securesystemslib."""
    return [_key(pem) for pem in builder.keys]


def name_of_key(builders: Builders, keyid: str) -> str | None:
    """Return the name of the builder that has a key; None: the project does not name it."""
    for name, builder in builders.items():
        if any(key.keyid == keyid for key in builder_keys(builder)):
            return name
    return None


def verify_result(
    envelope: bytes, name: str, builder: TrustedBuilder, *, key: str, step: str
) -> ActionResult:
    """Return the result in an envelope if a trusted builder signed it for this key and step.

    Args:
        envelope: the DSSE envelope.
        name: name of the builder.
        builder: its keys and steps.
        key: digest of the step's key.
        step: id of the step in the plan. A result may state another id: equal work of two profiles
            has one key.

    Raises:
        TrustError: the builder may not make the step, did not sign the envelope, or signed a result
            of another key or under another name.
    """
    if not builder.may_make(step):
        raise _refused(step, f"builder {name} may not make it")
    try:
        result = parse_statement(envelope_payload(envelope, builder_keys(builder), _signer(name)))
    except ValueError as error:
        raise _refused(step, str(error)) from None
    if result.key != key:
        raise _refused(step, f"it is signed for the key {result.key[:12]}, not {key[:12]}")
    if result.builder != name:
        raise _refused(step, f"it is signed as builder {result.builder}, not {name}")
    return result


def _signer(name: str) -> str:
    return f"a key of builder {name}"


def _refused(step: str, why: str) -> TrustError:
    return TrustError(f"The stored result of {step} is not used", why=why)


@lru_cache(maxsize=256)
def _key(pem: str) -> Key:
    """Return a public key. Raises ValueError for a text that is not one that verifies here."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem.encode()))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a public key of Ed25519, ECDSA or RSA in PEM: {error}") from None


def public_pem(key: Key) -> str:
    """Return a public key as PEM, for forge.yaml. Raises ValueError for other kinds of keys."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = str(key.keyval["public"])
    if key.keytype != "ed25519":
        return public
    loaded = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    return loaded.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
