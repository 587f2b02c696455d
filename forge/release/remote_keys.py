"""Keys that a KMS or an HSM holds: asked for their public side, and seen to sign.

    awskms:alias/forge-bundles      AWS KMS; also a key id or an ARN
    hsm:2?label=forge-root          PKCS#11; the module is named by PYKCS11LIB, the passphrase is
                                    the PIN

The private key never leaves its place, so a machine that may use it needs no secret of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from forge.errors import UsageError
from forge.release.keyring import KeyEntry, Role

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

__all__ = ["SCHEMES", "RemoteSigner", "enrol"]

SCHEMES: Final = ("awskms", "hsm")
_PROBE: Final = b"forge: can this key sign?"

Secret = Callable[[], str]


def enrol(uri: str, name: str, role: Role, secret: Secret) -> KeyEntry:
    """What keys.json keeps of a key that is elsewhere.

    Args:
        uri: where it is; see above.
        name: its name in the folder.
        role: what it will sign.
        secret: the PIN of an HSM.

    Raises:
        UsageError: another kind of URI; it cannot be reached; it does not sign, or not with a
            scheme that the role can use.
    """
    scheme = uri.partition(":")[0]
    if scheme not in SCHEMES:
        known = "awskms:KEY (AWS KMS), hsm:ID?label=TOKEN (PKCS#11)"
        raise UsageError(f"{uri!r} is no key that Forge can reach", hint=f"give {known}")
    try:
        full, public = _aws(uri) if scheme == "awskms" else _hsm(uri, secret)
        signer = Signer.from_priv_key_uri(full, public, lambda _: secret())
        public.verify_signature(signer.sign(_PROBE), _PROBE)
    except Exception as error:  # each KMS raises its own errors, says securesystemslib
        hint = "check its name, that it is for signing, and this machine's rights to it"
        raise UsageError(f"Cannot use the key {uri}", why=_reason(error), hint=hint) from error
    if role == "model" and public.keytype != "ecdsa":
        hint = "make an ECC_NIST_P256 key for signing"
        raise UsageError(f"{uri} cannot be the model key", why=f"it is {public.scheme}", hint=hint)
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
    """A signer whose failures are told in our words.

    Args:
        signer: what securesystemslib has made.
        name: of the key.
        uri: where it is.
    """

    def __init__(self, signer: Signer, name: str, uri: str) -> None:
        self._signer = signer
        self._name = name
        self._uri = uri

    @property
    def public_key(self) -> Key:
        """The public side."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> RemoteSigner:
        """As securesystemslib asks for; `name` is the URI."""
        signer = Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)
        return cls(signer, priv_key_uri, priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        """Sign. Raises UsageError when the key cannot be reached or used."""
        try:
            return self._signer.sign(payload)
        except Exception as error:  # each KMS raises its own errors, says securesystemslib
            hint = "check that it can be reached from here, and this machine's right to sign"
            message = f"Cannot sign with key {self._name} at {self._uri}"
            raise UsageError(message, why=_reason(error), hint=hint) from error


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
