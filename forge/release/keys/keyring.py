"""The publisher's keys: a folder of encrypted private keys and their public keys.

    keys.json                 public keys, URIs of the private keys, signature life of each role
    root-1.pem … model.pem    private keys, PKCS#8, encrypted with the passphrase
    model.pub.pem             public key of OpenSSF Model Signing, for other tools
    metadata/<N>.root.json    every version of root; <N>.targets.json likewise
    targets/keys/…            the lists of proof keys that the targets role signed
    root.json                 the newest root, with which devices are provisioned

Each private key has a URI: `file:NAME.pem` is a file of this folder; any other scheme is resolved
by securesystemslib (a KMS or an HSM; `forge.release.keys.kms`). A machine that only publishes needs
keys.json, metadata/, targets/ and the private keys of bundles, model, channels and online; the keys
of root and targets stay offline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import ValidationError

from forge import canonical
from forge.errors import ConfigurationError, ForgeError, TrustError, UsageError
from forge.files import check_relative_path, write_durably
from forge.release.keys.model import KeyEntry, KeysFile, Role, read_capped
from forge.release.keys.passphrases import OWN_FILES, OwnPassphrases
from forge.release.keys.places import missing_keys
from forge.trust import layout
from forge.trust.proof_keys import ProofKeys, parse_proof_keys
from forge.validation import validation_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from securesystemslib.signer import Signer

__all__ = ["Keyring", "read_keys"]

_NO_OWN: Final = OwnPassphrases()
_PUBLISHING: Final[frozenset[Role]] = frozenset({"bundles", "channels", "online", "model"})


class Keyring:
    """A folder of keys. The passphrase and the private keys are read at first use.

    Args:
        folder: created by `forge keys init`.
        passphrase: returns the passphrase; called at most once.
        own: passphrases of single keys.

    Raises:
        UsageError: the folder has no keys.json.
        ConfigurationError: keys.json is not valid.
    """

    def __init__(
        self, folder: Path, passphrase: Callable[[], str], own: OwnPassphrases = _NO_OWN
    ) -> None:
        self.folder = folder
        self.own = own
        self._ask = passphrase
        self._passphrase: bytes | None = None
        self._signers: dict[str, Signer] = {}
        self.file = read_keys(folder)

    def passphrase(self) -> bytes:
        """Return the passphrase as UTF-8."""
        if self._passphrase is None:
            self._passphrase = self._ask().encode()
        return self._passphrase

    def passphrase_of(self, name: str) -> bytes:
        """Return the passphrase of one key as UTF-8: its own, else the common one."""
        own = self.own.of(name)
        return self.passphrase() if own is None else own.encode()

    def entries(self, role: Role) -> list[KeyEntry]:
        """Return the keys of a role, newest last."""
        return [entry for entry in self.file.keys if entry.role == role]

    def signer(self, entry: KeyEntry) -> Signer:
        """Return a signer for one key; its file is decrypted once, which takes a moment.

        Raises:
            UsageError: the private key is missing or cannot be reached, or the passphrase is wrong.
            ConfigurationError: the packages for a KMS key are not installed.
        """
        if entry.keyid not in self._signers:
            self._signers[entry.keyid] = self._open(entry)
        return self._signers[entry.keyid]

    def _open(self, entry: KeyEntry) -> Signer:
        from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

        from forge.release.keys.kms import RemoteSigner, check_scheme

        public = entry.public_key()
        try:
            if entry.uri.startswith("file:") and isinstance(public, SSlibKey):
                return CryptoSigner(self.private_key(entry), public)
            check_scheme(entry.uri)
            remote = Signer.from_priv_key_uri(
                entry.uri, public, lambda _: self.passphrase_of(entry.name).decode()
            )
            return RemoteSigner(remote, entry.name, entry.uri)
        except ForgeError:
            raise
        except Exception as error:  # securesystemslib passes on the exceptions of each KMS
            raise UsageError(f"Cannot sign with key {entry.name}", why=str(error)) from error

    def private_key(self, entry: KeyEntry) -> PrivateKeyTypes:
        """Return the private key of an entry whose URI names a file.

        Raises:
            UsageError: the file is missing, can be opened by other users, or its passphrase is
                wrong.
        """
        from forge.release.keys.key_files import WrongPassphraseError, decrypt

        path = self.path(entry.uri)
        try:
            return decrypt(path, self.passphrase_of(entry.name))
        except WrongPassphraseError as error:
            asked = self.own.ask(entry.name)
            if asked is None:
                error.hint += f"; a key with a passphrase of its own: {OWN_FILES}={entry.name}=FILE"
                raise
            return decrypt(path, asked.encode())

    def signers(self, role: Role, keyids: list[str], threshold: int) -> list[Signer]:
        """Return `threshold` signers for a role.

        Args:
            role: the role to sign for.
            keyids: keys that the metadata trusts for this role.
            threshold: number of signatures that the metadata requires.

        Raises:
            UsageError: too few of the private keys are available.
        """
        usable = [entry for entry in self.entries(role) if entry.keyid in keyids]
        here = [entry for entry in usable if self.has(entry)]
        if len(here) < threshold:
            missing = ", ".join(sorted(e.name for e in usable if e not in here)) or "none known"
            raise UsageError(
                f"{self.folder} cannot sign for the role {role}",
                why=f"it needs {threshold} private keys and has {len(here)}; missing: {missing}",
                hint="copy the offline keys into the folder, or use the newest copy of the folder",
            )
        # The holders of keys with passphrases of their own need not all be present.
        here.sort(key=lambda entry: entry.name not in self.own.files)
        return [self.signer(entry) for entry in here[:threshold]]

    def has(self, entry: KeyEntry) -> bool:
        """Return whether the private key is available: its file exists, or a KMS or HSM has it."""
        return not entry.uri.startswith("file:") or self.path(entry.uri).is_file()

    def asks_for_passphrase(self) -> bool:
        """Return whether publishing needs the passphrase; keys in a KMS do not need it."""
        publishing = [entry for entry in self.file.keys if entry.role in _PUBLISHING]
        return any(
            entry.uri.startswith(("file:", "hsm:")) and self.has(entry) for entry in publishing
        )

    def publishing_files(self) -> list[Path]:
        """Return the paths of the key files that publish, of those that are available."""
        return [
            self.path(entry.uri)
            for entry in self.file.keys
            if entry.role in _PUBLISHING and entry.uri.startswith("file:") and self.has(entry)
        ]

    def path(self, uri: str) -> Path:
        """Return the path of a `file:` URI; a relative one is in this folder."""
        return self.folder / uri.removeprefix("file:")

    def documents(self, role: Literal["root", "targets"]) -> dict[int, bytes]:
        """Return every signed version of a role in this folder, in ascending order."""
        found = {}
        for path in (self.folder / "metadata").glob(f"*.{role}.json"):
            number = path.name.split(".")[0]
            if number.isdecimal():
                found[int(number)] = read_capped(path)
        return dict(sorted(found.items()))

    def keep(self, role: Literal["root", "targets"], version: int, data: bytes) -> None:
        """Write a signed version to the folder; a root is also written to `root.json`."""
        write_durably(self.folder / "metadata" / f"{version}.{role}.json", data)
        if role == "root":
            write_durably(self.folder / "root.json", data)

    def target(self, path: str, sha256: str) -> bytes:
        """Return a target file that the targets role signed. Raises UsageError, TrustError."""
        name = check_relative_path(layout.target_name(path, sha256))
        return read_capped(self.folder / name.removeprefix("tuf/"))

    def keep_target(self, path: str, data: bytes) -> None:
        """Write a target file of the targets role to the folder.

        Raises TrustError if its path, which that role signed, leaves the folder.
        """
        name = check_relative_path(layout.target_name(path, canonical.sha256(data)))
        write_durably(self.folder / name.removeprefix("tuf/"), data)

    def proof_keys(self) -> ProofKeys:
        """Return the proof keys of the newest targets metadata in this folder, newest first.

        Raises:
            TrustError: the targets metadata is missing, or it or the list is damaged.
            UsageError: the list is missing.
        """
        documents = self.documents("targets")
        hint = "restore metadata/*.targets.json and targets/ of this folder from a copy"
        if not documents:
            raise TrustError(f"{self.folder} has no targets metadata", hint=hint)
        path = layout.PROOF_KEYS_PATH
        try:
            signed = json.loads(documents[max(documents)])["signed"]
            digest = str(signed["targets"][path]["hashes"]["sha256"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"The targets metadata in {self.folder} is not valid"
            raise TrustError(what, why=f"{type(error).__name__}: {error}", hint=hint) from None
        data = self.target(path, digest)
        if canonical.sha256(data) != digest:
            raise TrustError(f"The list of proof keys in {self.folder} is damaged", hint=hint)
        return parse_proof_keys(data)

    def save(self, file: KeysFile) -> None:
        """Replace keys.json."""
        write_durably(self.folder / "keys.json", file.encode())
        self.file = file


def read_keys(folder: Path) -> KeysFile:
    """Return the parsed `keys.json` of a folder.

    Raises:
        UsageError: the file is missing, cannot be read or is too large.
        ConfigurationError: the file is not valid.
    """
    path = folder / "keys.json"
    if not path.is_file():
        raise missing_keys(folder, published=False)
    try:
        return KeysFile.model_validate_json(read_capped(path))
    except ValidationError as error:
        raise ConfigurationError(f"{path} is not valid", why=validation_text(error)) from None
