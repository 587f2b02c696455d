"""Keys that a KMS or an HSM holds: read their public key, and check that they can sign.

    awskms:alias/forge-bundles      AWS KMS; also a key id or an ARN
    hsm:2?label=forge-root          PKCS#11; the module is named by PYKCS11LIB, the passphrase is
                                    the PIN

The private key never leaves the KMS or HSM, so a machine that signs with it stores no secret.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from forge.errors import UsageError
from forge.extras import needs_extra
from forge.release.keys.model import KeyEntry, Role

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

__all__ = ["SCHEMES", "RemoteSigner", "check_scheme", "enrol"]

SCHEMES: Final = ("awskms", "hsm")
_PROBE: Final = b"forge: can this key sign?"

Secret = Callable[[], str]


def enrol(uri: str, name: str, role: Role, secret: Secret) -> KeyEntry:
    """Return the `keys.json` entry of a key in a KMS or HSM, after a test signature.

    Args:
        uri: URI of the key, in a form listed above.
        name: name of the key in `keys.json`.
        role: what the key will sign.
        secret: returns the PIN of an HSM.

    Raises:
        UsageError: the URI is not valid, the key cannot be reached or cannot sign, or the role
            cannot use its signature scheme.
        ConfigurationError: the key is in AWS KMS and the extra `s3` is not installed.
    """
    scheme = uri.partition(":")[0]
    if scheme not in SCHEMES:
        known = "awskms:KEY (AWS KMS), hsm:ID?label=TOKEN (PKCS#11)"
        raise UsageError(f"{uri!r} is not a valid key URI", hint=f"use one of: {known}")
    check_scheme(uri)
    try:
        full, public = _aws(uri) if scheme == "awskms" else _hsm(uri, secret)
        signer = Signer.from_priv_key_uri(full, public, lambda _: secret())
        public.verify_signature(signer.sign(_PROBE), _PROBE)
    except Exception as error:  # securesystemslib passes on the exceptions of each KMS
        hint = "check its name, that its usage is signing, and this machine's permissions"
        raise UsageError(f"Cannot use the key {uri}", why=_reason(error), hint=hint) from error
    if role == "model" and public.keytype != "ecdsa":
        why, hint = f"its scheme is {public.scheme}", "create an ECC_NIST_P256 key for signing"
        raise UsageError(f"{uri} cannot be the model key", why=why, hint=hint)
    return KeyEntry(
        name=name,
        role=role,
        uri=full,
        keyid=public.keyid,
        keytype=public.keytype,
        scheme=public.scheme,
        public=public.keyval["public"],
    )


class RemoteSigner(Signer):
    """A signer that raises UsageError when the KMS or HSM fails.

    Args:
        signer: signer of securesystemslib.
        name: name of the key, for messages.
        uri: URI of the key, for messages.
    """

    def __init__(self, signer: Signer, name: str, uri: str) -> None:
        self._signer = signer
        self._name = name
        self._uri = uri

    @property
    def public_key(self) -> Key:
        """Return the public key."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> RemoteSigner:
        """Create a signer, as securesystemslib requires; its name in messages is the URI."""
        signer = Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)
        return cls(signer, priv_key_uri, priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        """Return a signature of `payload`.

        Raises:
            UsageError: the key cannot be reached or used.
        """
        try:
            return self._signer.sign(payload)
        except Exception as error:  # securesystemslib passes on the exceptions of each KMS
            hint = "check the connection to it, and this machine's permission to sign"
            message = f"Cannot sign with key {self._name} at {self._uri}"
            raise UsageError(message, why=_reason(error), hint=hint) from error


def check_scheme(uri: str) -> None:
    """Raise ConfigurationError if the packages for the key's scheme are not installed."""
    if uri.startswith("awskms:"):
        with needs_extra("s3", f"The key {uri}"):
            importlib.import_module("boto3")


def _aws(uri: str) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import AWSSigner

    return AWSSigner.import_(uri.partition(":")[2])


def _hsm(uri: str, secret: Secret) -> tuple[str, SSlibKey]:
    from securesystemslib.signer import HSMSigner

    parts = urlsplit(uri)
    label = parse_qs(parts.query).get("label", [None])[0]
    number = int(parts.path) if parts.path else None
    return HSMSigner.import_(number, label, lambda _: secret())


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
