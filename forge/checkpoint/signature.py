"""Verify the OpenSSF Model Signing signature of a checkpoint that comes from outside.

The signature itself, and the chain of its certificate, are verified by model_signing 1.1.1. What it
names is compared here, and stricter than there:

- every file that is taken must be signed: what a signature ignores (`ignore_paths`) is not covered;
- every signed file that the checkpoint's URL selects must be there;
- of a signature by certificate, the certificate must have the identity that was named.

Signed names are relative to the folder of the signature in the source; those of a signature that is
not in the source are names in the checkpoint. Refused are signatures over parts of files and those
with another hash than SHA-256. A certificate counts if it was valid when it was issued: a signature
holds no time that could be trusted, so that its expiry and its revocation are not known.

The engines that Forge signs are verified by `forge.trust.model`, which needs no model_signing.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from forge.checkpoint.files import is_selected
from forge.checkpoint.signer import CheckpointSigner
from forge.checkpoint.verified import VerifiedSignature
from forge.errors import ConfigurationError
from forge.extras import needs_extra
from forge.validation import validation_text

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from model_signing.manifest import Manifest as SignedManifest

__all__ = ["SignedSource", "verify_checkpoint"]

_MAX_SIGNATURE_BYTES: Final = 64 * 1024 * 1024  # as of an engine: it names every file
_NAMED: Final = 5  # limit of files listed in a message
_OTHER_KEY: Final = "it is signed with another key"
_WHOLE: Final = "."  # the name that model_signing gives a file that was signed by itself


class _Material(BaseModel):
    publicKey: dict[str, Any] | None = None  # noqa: N815  the format's names, here and below
    x509CertificateChain: dict[str, Any] | None = None  # noqa: N815


class _Form(BaseModel):
    """As much of a Sigstore bundle as decides how it is verified."""

    mediaType: str  # noqa: N815
    verificationMaterial: _Material  # noqa: N815
    dsseEnvelope: dict[str, Any]  # noqa: N815


@dataclass(frozen=True, slots=True)
class SignedSource:
    """The files that were taken of a source.

    Attributes:
        url: of the checkpoint, for messages.
        sha256: digest of the checkpoint, as its URL pins it.
        place: the folder of the source, or its only file.
        globs: what the URL selects; empty: everything.
        names: name in the source by name in the checkpoint.
        digests: SHA-256 by name in the checkpoint.
    """

    url: str
    sha256: str
    place: Path
    globs: Sequence[str]
    names: Mapping[str, str]
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Expected:
    """What must be signed.

    Attributes:
        files: SHA-256 of each file by the name that it must be signed by.
        wanted: whether a file of this name must be there if it is signed.
    """

    files: Mapping[str, str]
    wanted: Callable[[str], bool]


def verify_checkpoint(source: SignedSource, signer: CheckpointSigner) -> VerifiedSignature:
    """Verify that the files of a checkpoint are exactly those that were signed.

    Args:
        source: the files.
        signer: who must have signed them.

    Raises:
        ConfigurationError: the signature is missing, not valid or by someone else; a file was
            changed, is missing or is not signed; the extra `build` is not installed.
    """
    expected = _expected(source, signer)
    data = _read(_find(source, signer), source.url)
    with _refusals(source.url), tempfile.TemporaryDirectory() as folder:
        verifier = _verifier(signer)
        _check_form(data, signer)
        # The same bytes are verified and recorded: the file may change at the same time.
        copy = Path(folder) / "signature"
        copy.write_bytes(data)
        manifest, fingerprint = _verified(verifier, copy, signer)
        signed = _signed(manifest)
    _compare(source.url, expected, signed)
    return VerifiedSignature(
        checkpoint=source.sha256,
        method=signer.method,
        identity=signer.identity,
        fingerprint=fingerprint,
        signature_sha256=hashlib.sha256(data).hexdigest(),
        files=len(expected.files),
    )


def _expected(source: SignedSource, signer: CheckpointSigner) -> _Expected:
    """Return the files under the names by which they were signed, without the signature itself."""
    if source.place.is_file():
        return _Expected(source.digests, source.digests.__contains__)
    if signer.signature_file is not None:
        return _Expected(source.digests, lambda name: is_selected(name, source.globs))
    folder = posixpath.dirname(signer.signature)
    files = {
        posixpath.relpath(source.names[name], folder or "."): digest
        for name, digest in source.digests.items()
        if source.names[name] != signer.signature
    }
    return _Expected(files, lambda name: is_selected(posixpath.join(folder, name), source.globs))


def _find(source: SignedSource, signer: CheckpointSigner) -> Path:
    """Return the file of the signature. Raises ConfigurationError if there is none."""
    folder = source.place.parent if source.place.is_file() else source.place
    path = signer.signature_file or folder / signer.signature
    if not path.is_file():
        raise ConfigurationError(
            f"Checkpoint {source.url} has no signature",
            why=f"{signer.signature} is not in the source, and a signer is named",
            hint="name its file: …?signature=NAME, or …?signature=file:FILE for one of another"
            " source; docs/how-to/verify-a-checkpoint.md",
        )
    return path


def _read(path: Path, url: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_SIGNATURE_BYTES + 1)
    if len(data) > _MAX_SIGNATURE_BYTES:
        raise _refused(url, f"the signature is larger than {_MAX_SIGNATURE_BYTES} bytes")
    return data


@contextlib.contextmanager
def _refusals(url: str) -> Iterator[None]:
    """Raise what the libraries raise for a signature that is not valid as ConfigurationError."""
    with needs_extra("build", "Verifying the signature of a checkpoint"):
        import model_signing  # noqa: F401  so that its absence is named
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from OpenSSL.crypto import X509StoreContextError
    try:
        with contextlib.redirect_stdout(sys.stderr):  # model_signing prints warnings
            yield
    except InvalidSignature:
        raise _refused(url, "the signature is not valid for what it states") from None
    except X509StoreContextError as error:
        raise _refused(url, f"its certificate is not trusted, {error}") from None
    except (ValidationError, LookupError, TypeError, AttributeError, RecursionError):
        # ValidationError is a ValueError, and its text is of Python's objects.
        raise _refused(url, "it is not a complete model signature") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        text = _OTHER_KEY if "Key mismatch" in str(error) else str(error).partition("\n")[0]
        raise _refused(url, text) from None


def _check_form(data: bytes, signer: CheckpointSigner) -> None:
    """Raise ValueError if a file is not a signature, or not one by the method that is expected."""
    try:
        material = _Form.model_validate_json(data).verificationMaterial
    except ValidationError as error:
        raise ValueError(f"it is not a model signature, {validation_text(error)}") from None
    if signer.method == "key" and material.publicKey is None:
        raise ValueError("it was not made with a key, and a key must sign")
    if signer.method == "certificate" and material.x509CertificateChain is None:
        raise ValueError("it was not made with a certificate, and a certificate must sign")


def _verified(verifier: Any, path: Path, signer: CheckpointSigner) -> tuple[SignedManifest, str]:
    """Verify a signature; return what it names and the fingerprint of who signed."""
    from cryptography.hazmat.primitives import hashes
    from model_signing._signing.sign_sigstore_pb import Signature

    signature = Signature.read(path)
    manifest = verifier.verify(signature)
    if signer.method == "key":
        return manifest, _key_fingerprint(signer.trusted)
    certificate = _certificate(signature)
    names = _names(certificate)
    if signer.identity not in names:
        known = ", ".join(map(repr, sorted(names))) or "none"
        raise ValueError(f"its certificate is for {known}, and {signer.identity!r} must sign")
    return manifest, certificate.fingerprint(hashes.SHA256()).hex()


def _verifier(signer: CheckpointSigner) -> Any:
    """Return model_signing's verifier. Raises ConfigurationError if it cannot use the file."""
    from model_signing._signing import sign_certificate, sign_ec_key

    try:
        if signer.method == "key":
            return sign_ec_key.Verifier(signer.trusted)
        return sign_certificate.Verifier([signer.trusted])
    except (ValueError, AttributeError):  # not PEM, or a key without a curve
        kind = "a public key on P-256, P-384 or P-521" if signer.method == "key" else "certificates"
        raise ConfigurationError(
            f"{signer.trusted} does not hold {kind} as PEM",
            hint="docs/how-to/verify-a-checkpoint.md says how to get them",
        ) from None


def _key_fingerprint(path: Path) -> str:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    key = load_pem_public_key(path.read_bytes())
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def _certificate(signature: Any) -> Certificate:
    from cryptography.x509 import load_der_x509_certificate

    chain = signature.bundle.verification_material.x509_certificate_chain
    return load_der_x509_certificate(chain.certificates[0].raw_bytes)


def _names(certificate: Certificate) -> set[str]:
    """Return the common names and alternative names of a certificate."""
    from cryptography import x509

    common = certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    names = {str(one.value) for one in common}
    with contextlib.suppress(x509.ExtensionNotFound):
        others = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for kind in (x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier):
            names |= {str(one) for one in others.get_values_for_type(kind)}
    return names


def _signed(manifest: SignedManifest) -> dict[str, str]:
    """Return the SHA-256 of each signed file. Raises ValueError for signatures of other kinds."""
    method = manifest.serialization_type["method"]
    if method != "files":
        raise ValueError("it is over parts of files, and Forge supports whole files only")
    found = {}
    for resource in manifest.resource_descriptors():
        if resource.digest.algorithm != "sha256":
            kind = resource.digest.algorithm
            raise ValueError(f"it names {kind} of the files, and Forge supports sha256 only")
        found[resource.identifier] = resource.digest.digest_hex
    return found


def _compare(url: str, expected: _Expected, signed: Mapping[str, str]) -> None:
    files = expected.files
    if set(signed) == {_WHOLE} and len(files) == 1:
        files = {_WHOLE: next(iter(files.values()))}
    problems = [f"{name!r} is not signed" for name in sorted(files.keys() - signed.keys())]
    missing = sorted(name for name in signed.keys() - files.keys() if expected.wanted(name))
    problems += [f"{name!r} is signed and missing" for name in missing]
    problems += [
        f"{name!r} was changed"
        for name in sorted(files.keys() & signed.keys())
        if files[name] != signed[name]
    ]
    if problems:
        more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        hint = ("files that need no signature are left out with path= in the URL",)
        unsigned = files.keys() - signed.keys()
        raise _refused(url, ", ".join(problems[:_NAMED]) + more, *(hint if unsigned else ()))


def _refused(url: str, why: str, *hints: str) -> ConfigurationError:
    return ConfigurationError(
        f"The signature of checkpoint {url} could not be verified",
        why=why,
        hint="\n".join(("do not use these files; ask who published them", *hints)),
    )
