"""Verify OpenSSF Model Signing signatures over an engine folder.

A signature is a Sigstore bundle: a DSSE envelope round an in-toto statement that names every file
with its SHA-256, signed with an EC key. Verifying one takes `cryptography` and the code below, so a
device does not need the packages of `model-signing`, with which the publisher signs
(forge.release.attest.model_signer). A contract test compares both verifiers. This one is stricter:
it rejects signatures that ignore files, name paths outside the folder, hash by shards or follow
links, and the payload encoding of releases before 1.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge.errors import TrustError
from forge.files import check_paths
from forge.store.disk_errors import WRONG_FILE, disk_errors
from forge.trust.proof_keys import ProofKeys
from forge.validation import validation_text

__all__ = [
    "MAX_SIGNATURE_BYTES",
    "check_signer",
    "verify_model_digests",
    "verify_model_signature",
]

MAX_SIGNATURE_BYTES: Final = 64 * 1024 * 1024
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_HASHERS: Final = 8
_NAMED: Final = 5  # limit of files listed in a message

_Hex256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _PublicKey(_Part):
    hint: str


class _Material(_Part):
    publicKey: _PublicKey  # noqa: N815  the format's names, here and below


class _Signature(_Part):
    sig: str


class _Envelope(_Part):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815
    signatures: tuple[_Signature, ...] = Field(min_length=1)


class _Bundle(_Part):
    mediaType: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]  # noqa: N815
    verificationMaterial: _Material  # noqa: N815
    dsseEnvelope: _Envelope  # noqa: N815


class _Serialization(_Part):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: Literal[False]
    ignore_paths: Annotated[tuple[str, ...], Field(max_length=0)] = ()


class _Resource(_Part):
    name: str
    algorithm: Literal["sha256"]
    digest: _Hex256


class _Predicate(_Part):
    serialization: _Serialization
    resources: tuple[_Resource, ...] = Field(min_length=1)


class _Digest(_Part):
    sha256: str


class _Subject(_Part):
    digest: _Digest


class _Statement(_Part):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815
    subject: tuple[_Subject] = Field()
    predicate: _Predicate


def verify_model_signature(signature: bytes, folder: Path, keys: ProofKeys) -> None:
    """Verify that `folder` holds exactly the files that were signed, byte for byte.

    Args:
        signature: content of model.sig.
        folder: folder of the engine.
        keys: from `TrustedStore.proof_keys`.

    Raises:
        TrustError: not signed by a trusted model key; a file differs, is missing or not signed.
        StoreError: the disk failed.
    """
    signed = _verified_files(signature, keys)
    with disk_errors("The engine's signature cannot be checked", folder):
        try:
            actual = _hash_files(folder)
        except OSError as error:
            if error.errno not in WRONG_FILE:  # a disk failure says nothing about the engine
                raise
            raise _refused(str(error)) from None
    _compare(signed, actual)


def verify_model_digests(signature: bytes, files: Mapping[str, str], keys: ProofKeys) -> None:
    """Verify that exactly these files were signed, without reading them.

    Args:
        signature: content of model.sig.
        files: SHA-256 of each file by its path in the engine's folder, from a verified tree.
        keys: from `TrustedStore.proof_keys`.

    Raises:
        TrustError: not signed by a trusted model key; a file differs, is missing or not signed.
    """
    _compare(_verified_files(signature, keys), files)


def check_signer(signature: bytes, keys: ProofKeys) -> str:
    """Return the trusted key (PEM) that a signature names, without reading the engine.

    This does not verify the signature; `verify_model_signature` does. Raises TrustError.
    """
    _, payload, pem = _parse(signature, keys)
    _signed_files(payload)
    return pem


def _verified_files(signature: bytes, keys: ProofKeys) -> Mapping[str, str]:
    """Return the SHA-256 of each file that a trusted model key has signed."""
    bundle, payload, pem = _parse(signature, keys)
    signed = _signed_files(payload)
    _check_signature(bundle.dsseEnvelope.signatures[0].sig, payload, pem)
    return signed


def _parse(signature: bytes, keys: ProofKeys) -> tuple[_Bundle, bytes, str]:
    """Return the bundle, its payload, and the trusted key it names."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise TrustError(f"The model signature is larger than {MAX_SIGNATURE_BYTES} bytes")
    try:
        bundle = _Bundle.model_validate_json(signature)
        payload = base64.b64decode(bundle.dsseEnvelope.payload, validate=True)
    except ValidationError as error:
        raise _refused(f"it is not a model signature, {validation_text(error)}") from None
    except (ValueError, binascii.Error) as error:
        raise _refused(f"it is not a model signature, {error}") from None
    hint = bundle.verificationMaterial.publicKey.hint
    pem = next((one for one in keys.model if _fingerprint(one) == hint), None)
    if pem is None:
        raise _refused("it is not signed by a trusted model key")
    return bundle, payload, pem


def _signed_files(payload: bytes) -> Mapping[str, str]:
    """Return the SHA-256 of each file that a statement names."""
    try:
        statement = _Statement.model_validate_json(payload)
    except ValidationError as error:
        raise _refused(f"unsupported signature, {validation_text(error)}") from None
    resources = statement.predicate.resources
    check_paths(one.name for one in resources)
    root = hashlib.sha256(b"".join(bytes.fromhex(one.digest) for one in resources)).hexdigest()
    if root != statement.subject[0].digest.sha256:
        raise _refused("its digest does not match the files it lists")
    return {one.name: one.digest for one in resources}


def _check_signature(sig: str, payload: bytes, pem: str) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    algorithms: dict[str, hashes.HashAlgorithm] = {
        "secp256r1": hashes.SHA256(),
        "secp384r1": hashes.SHA384(),
        "secp521r1": hashes.SHA512(),
    }
    signed = b"DSSEv1 %d %b %d %b" % (
        len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload
    )  # fmt: skip
    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in algorithms:
            raise _refused(f"the key is not on one of the curves {', '.join(algorithms)}")
        key.verify(
            base64.b64decode(sig, validate=True), signed, ec.ECDSA(algorithms[key.curve.name])
        )
    except InvalidSignature:
        raise _refused("its signature is not valid") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused(f"its signature cannot be checked, {error}") from None


def _hash_files(folder: Path) -> Mapping[str, str]:
    """Return the SHA-256 of each file of a folder. Raises TrustError for a link or a device."""
    files = list(_files(folder))
    with ThreadPoolExecutor(_HASHERS) as pool:
        digests = pool.map(_sha256, files)
        names = (path.relative_to(folder).as_posix() for path in files)
        return dict(zip(names, digests, strict=True))


def _files(folder: Path) -> Iterator[Path]:
    _check_kind(folder, stat.S_ISDIR)
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in folders:
            _check_kind(Path(place, name), stat.S_ISDIR)
        for name in files:
            _check_kind(Path(place, name), stat.S_ISREG)
            yield Path(place, name)


def _check_kind(path: Path, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(path.lstat().st_mode):
        raise _refused(f"{path.name!r} is neither a file nor a folder")


def _raise(error: OSError) -> NoReturn:
    raise error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(signed: Mapping[str, str], actual: Mapping[str, str]) -> None:
    found = [f"{name!r} is not signed" for name in sorted(actual.keys() - signed.keys())]
    found += [f"{name!r} is missing" for name in sorted(signed.keys() - actual.keys())]
    common = sorted(signed.keys() & actual.keys())
    found += [f"{name!r} was changed" for name in common if signed[name] != actual[name]]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise _refused(", ".join(found[:_NAMED]) + more)


def _fingerprint(pem: str) -> str:
    # model_signing writes the SHA-256 of the PEM, not of the DER, as the key's hint.
    return hashlib.sha256(pem.encode()).hexdigest()


def _refused(why: str) -> TrustError:
    hint = "do not use this bundle; contact its publisher"
    return TrustError("The engine's model signature could not be verified", why=why, hint=hint)
