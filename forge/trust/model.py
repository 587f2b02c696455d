"""OpenSSF Model Signing signatures over an engine folder, verified.

Two weak spots of model_signing 1.1.1 are closed here: paths that a verify leaves ignored for the
next one (pull request 650), by a fresh configuration each time and by refusing signatures that
ignore anything; and signed paths that lead out of the folder (pull request 647), by checking every
path before the library sees it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.errors import TrustError
from forge.files import check_paths
from forge.store.disk import WRONG_FILE, disk_errors
from forge.trust.proof_keys import ProofKeys

if TYPE_CHECKING:
    from model_signing.hashing import Config as HashingConfig

__all__ = ["MAX_SIGNATURE_BYTES", "check_signer", "hashing_config", "verify_model_signature"]

MAX_SIGNATURE_BYTES: Final = 64 * 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Serialization(_Part):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]
    ignore_paths: Annotated[tuple[str, ...], Field(max_length=0)] = ()


class _Resource(_Part):
    name: str


class _Predicate(_Part):
    serialization: _Serialization
    resources: tuple[_Resource, ...] = Field(min_length=1)


class _Statement(_Part):
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815  the format's
    predicate: _Predicate


def verify_model_signature(
    signature: bytes, folder: Path, keys: ProofKeys, *, work: Path | None = None
) -> None:
    """Verify that `folder` holds exactly the files that were signed, byte for byte.

    Args:
        signature: the content of model.sig.
        folder: the engine.
        keys: from `TrustedStore.proof_keys`.
        work: where two small files are kept meanwhile; the system's folder for that by default.

    Raises:
        TrustError: not signed by a trusted model key; a file differs, is missing or too many.
        StoreError: the disk is full or fails.
    """
    pem = check_signer(signature, keys)
    with (
        disk_errors("The engine's signature cannot be checked", folder),
        tempfile.TemporaryDirectory(prefix="forge-model-", dir=work) as name,
    ):
        place = Path(name)
        (place / "model.sig").write_bytes(signature)
        (place / "key.pem").write_text(pem, encoding="ascii")
        _verify(folder, place / "model.sig", place / "key.pem")


def check_signer(signature: bytes, keys: ProofKeys) -> str:
    """The trusted key (PEM) that a signature names, without the engine at hand.

    Not a verification: whether that key made it is seen only with the engine. Raises TrustError.
    """
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise TrustError(f"The model signature is larger than {MAX_SIGNATURE_BYTES} bytes")
    hint, payload = _parse(signature)
    pem = next((one for one in keys.model if _fingerprint(one) == hint), None)
    if pem is None:
        raise _refused("no trusted model key signed it")
    _check_statement(payload)
    return pem


def hashing_config() -> HashingConfig:
    """How an engine is hashed: every file, no links, nothing ignored."""
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    config.use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)


def _verify(folder: Path, signature: Path, key: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    config = verifying.Config()  # type: ignore[no-untyped-call]  # the library's omission
    try:
        config.use_elliptic_key_verifier(public_key=key)
        config.set_hashing_config(hashing_config()).verify(folder, signature)
    except InvalidSignature:
        raise _refused("its signature does not hold") from None
    except OSError as error:
        if error.errno not in WRONG_FILE:  # the disk's fault, and no verdict on the engine
            raise
        raise _refused(str(error)) from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _refused(str(error)) from None


def _parse(signature: bytes) -> tuple[str, bytes]:
    """Key hint and payload of a sigstore bundle."""
    try:
        document: dict[str, Any] = json.loads(signature)
        hint = document["verificationMaterial"]["publicKey"]["hint"]
        payload = base64.b64decode(document["dsseEnvelope"]["payload"], validate=True)
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise _refused(f"it is no model signature, {type(error).__name__}: {error}") from None
    return str(hint), payload


def _check_statement(payload: bytes) -> None:
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _refused(f"it is no signature Forge makes, {place}: {first['msg']}") from None
    check_paths(one.name for one in statement.predicate.resources)


def _fingerprint(pem: str) -> str:
    # model_signing writes the SHA-256 of the PEM, not of the DER, as the key's hint.
    return hashlib.sha256(pem.encode()).hexdigest()


def _refused(why: str) -> TrustError:
    hint = "do not use this bundle; report its publisher"
    return TrustError("The engine's model signature cannot be believed", why=why, hint=hint)
