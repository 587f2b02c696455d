"""OpenSSF Model Signing with any signer of securesystemslib: a key file, a KMS or an HSM.

`forge.trust.model` verifies the signature. model_signing 1.1.1 signs with key files, certificates,
PKCS#11 and Sigstore, not with a KMS. Its signer for EC keys calls only two methods of the private
key, and a KMS can serve both.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from forge.extras import needs_extra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from model_signing.hashing import Config as HashingConfig
    from securesystemslib.signer import Signer

__all__ = ["sign_folder"]


class _PrivateKey:
    """The methods of cryptography's EllipticCurvePrivateKey that model_signing calls."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def public_key(self) -> EllipticCurvePublicKey:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        key = load_pem_public_key(self._signer.public_key.keyval["public"].encode())
        if not isinstance(key, EllipticCurvePublicKey):
            raise TypeError(f"the model key must be an EC key, and it is {type(key).__name__}")
        return key

    def sign(self, data: bytes, _algorithm: object) -> bytes:
        """Return a DER signature; both libraries use the hash that belongs to the curve."""
        return bytes.fromhex(self._signer.sign(data).signature)


def sign_folder(folder: Path, target: Path, signer: Signer) -> None:
    """Sign every file of a folder and write the signature, a Sigstore bundle.

    Args:
        folder: the engine.
        target: file to write.
        signer: signs with the model key.

    Raises:
        ConfigurationError: the extra `build` is not installed.
        UsageError: a KMS or HSM cannot be reached or used.
        TypeError: the key is not an EC key.
    """
    with needs_extra("build", "Signing an engine"):
        from model_signing._signing import sign_ec_key
        from model_signing._signing.signing import Payload

    model_signer: Any = object.__new__(sign_ec_key.Signer)
    model_signer._private_key = _PrivateKey(signer)  # noqa: SLF001 - its __init__ takes files only
    model_signer.sign(Payload(_hashing_config().hash(folder))).write(target)


def _hashing_config() -> HashingConfig:
    """Return the hashing of an engine: every file, no symbolic links, nothing ignored."""
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]  # untyped in the library
    config.use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    return config.set_ignored_paths(paths=[], ignore_git_paths=False)
