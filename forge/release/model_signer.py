"""OpenSSF Model Signing with any signer of securesystemslib: a key file, a KMS, an HSM.

model_signing 1.1.1 signs with key files, certificates, PKCS#11 and Sigstore, not with a KMS. Its
signer for EC keys asks its private key for two things only, and a KMS can answer both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from securesystemslib.signer import Signer

__all__ = ["sign_folder"]


class _PrivateKey:
    """The part of cryptography's EllipticCurvePrivateKey that model_signing calls."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def public_key(self) -> EllipticCurvePublicKey:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        key = load_pem_public_key(self._signer.public_key.keyval["public"].encode())
        if not isinstance(key, EllipticCurvePublicKey):
            raise TypeError(f"an engine is signed by an EC key, not by {type(key).__name__}")
        return key

    def sign(self, data: bytes, _algorithm: object) -> bytes:
        """DER; the hash is the one of the curve, for both libraries."""
        return bytes.fromhex(self._signer.sign(data).signature)


def sign_folder(folder: Path, target: Path, signer: Signer) -> None:
    """Sign every file of `folder` and write the signature, a Sigstore bundle, to `target`.

    Raises whatever the signer raises when it cannot be reached.
    """
    from model_signing._signing import sign_ec_key
    from model_signing._signing.signing import Payload

    from forge.trust.model import hashing_config

    made: Any = object.__new__(sign_ec_key.Signer)
    made._private_key = _PrivateKey(signer)  # noqa: SLF001 - its __init__ takes files only
    made.sign(Payload(hashing_config().hash(folder))).write(target)
