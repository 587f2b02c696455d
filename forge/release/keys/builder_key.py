"""The key of a trusted builder, which signs results of steps; not a key of the release.

FORGE_BUILDER_KEY is a PEM file (PKCS#8, Ed25519, EC or RSA), or the URI of a key in a KMS or HSM as
`forge.release.keys.kms` lists them. A file that `forge keys builder new` makes is encrypted with
the passphrase of FORGE_BUILDER_PASSPHRASE_FILE or FORGE_BUILDER_PASSPHRASE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge import canonical
from forge.errors import ConfigurationError, UsageError
from forge.files import write_durably
from forge.release.keys.key_files import decrypt
from forge.release.keys.kms import SCHEMES, RemoteSigner, enrol
from forge.release.keys.model import read_capped
from forge.release.keys.passphrases import check_strength, passphrase_source
from forge.release.keys.pkcs8 import encrypt, is_encrypted
from forge.trust.builders import Builders, name_of_key
from forge.trust.envelope import PAYLOAD_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

__all__ = [
    "KEY_VARIABLE",
    "BuilderSigner",
    "builder_passphrase",
    "builder_signer",
    "new_builder_key",
    "open_builder_key",
]

KEY_VARIABLE: Final = "FORGE_BUILDER_KEY"
_SECRET: Final = "FORGE_BUILDER_PASSPHRASE"  # noqa: S105  a variable's name


@dataclass(frozen=True)
class BuilderSigner:
    """Signs results as one builder.

    Attributes:
        builder: its name in forge.yaml.
        signer: of its key.
    """

    builder: str
    signer: Signer

    def sign(self, statement: bytes) -> bytes:
        """Return a DSSE envelope of an in-toto statement. Raises UsageError: a KMS failed."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(statement, PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return canonical.dumps(envelope.to_dict())


def builder_passphrase(
    environment: Mapping[str, str],
    file: Path | None = None,
    prompt: Callable[[], str] | None = None,
) -> Callable[[], str]:
    """Return a function that reads the passphrase of a builder's key; see `passphrase_source`.

    Its variables are not those of the release's keys: a machine that builds has no need of these.
    """
    names = {"FORGE_PASSPHRASE": _SECRET, "FORGE_PASSPHRASE_FILE": f"{_SECRET}_FILE"}
    own = {name: environment.get(variable, "") for name, variable in names.items()}

    def ask() -> str:
        try:
            return passphrase_source(own, file, prompt)()
        except UsageError as error:
            if not error.what.startswith("No passphrase"):
                raise
            hint = f"set {_SECRET}_FILE or {_SECRET}"
            raise UsageError("No passphrase for the builder's key", hint=hint) from None

    return ask


def new_builder_key(path: Path, passphrase: str) -> Key:
    """Create an Ed25519 key in a new file and return its public part.

    Raises:
        UsageError: the file exists, its folder cannot be written, or the passphrase is weak.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import SSlibKey

    check_strength(passphrase, [path.stem])
    if path.exists():
        raise UsageError(f"{path} exists", hint="choose a file that does not exist")
    private = Ed25519PrivateKey.generate()
    try:
        write_durably(path, encrypt(private, passphrase.encode()), mode=0o600)
    except OSError as error:
        raise UsageError(f"Cannot write {path}", why=str(error)) from None
    return SSlibKey.from_crypto(private.public_key())


def open_builder_key(location: str, passphrase: Callable[[], str]) -> Signer:
    """Return a signer for a PEM file, or for a key in a KMS or HSM after a test signature.

    Args:
        location: a path, `file:PATH`, or a URI of `forge.release.keys.kms`.
        passphrase: of an encrypted file, or the PIN of an HSM; called only if needed.

    Raises:
        UsageError: the key is missing, cannot be used, or other users can open its file.
        ConfigurationError: the packages for a KMS key are not installed.
    """
    from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

    if location.partition(":")[0] in SCHEMES:
        entry = enrol(location, "builder", "bundles", passphrase)
        remote = Signer.from_priv_key_uri(entry.uri, entry.public_key(), lambda _: passphrase())
        return RemoteSigner(remote, "builder", location)
    path = Path(location.removeprefix("file:")).expanduser()
    secret = passphrase().encode() if is_encrypted(read_capped(path, private=True)) else None
    private = decrypt(path, secret)
    try:
        return CryptoSigner(private, SSlibKey.from_crypto(private.public_key()))
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a key that signs", why=str(error)) from None


def builder_signer(builders: Builders, environment: Mapping[str, str]) -> BuilderSigner | None:
    """Return the signer of FORGE_BUILDER_KEY; None if it is not set.

    Raises:
        ConfigurationError: forge.yaml does not name its public key.
        UsageError: as `open_builder_key`.
    """
    location = environment.get(KEY_VARIABLE, "")
    if not location:
        return None
    signer = open_builder_key(location, builder_passphrase(environment))
    name = name_of_key(builders, signer.public_key.keyid)
    if name is None:
        raise ConfigurationError(
            f"The key of {KEY_VARIABLE} belongs to no builder of this project",
            why=f"forge.yaml names the builders {', '.join(builders)}, and none has its public key",
            hint=f"to see what to add to forge.yaml: forge keys builder show {location}",
        )
    return BuilderSigner(name, signer)
