"""The publisher's keys: a folder with encrypted private keys and the public side of each.

    keys.json                 public keys, where each private key is, expiry of every role
    root-1.pem … model.pem    private keys, PKCS#8, encrypted with the passphrase
    model.pub.pem             public side of the OpenSSF Model Signing key, for other tools
    metadata/<N>.root.json    every root ever signed; <N>.targets.json likewise
    targets/keys/…            the lists of proof keys that the targets role signed
    root.json                 the newest root: what a device is set up with

A private key is named by a URI: `file:NAME.pem` is ours, any other scheme is looked up by
securesystemslib (a KMS, an HSM; `remote_keys`). A machine that only publishes needs keys.json,
metadata/, targets/ and the private keys of bundles, model, channels and online; root and targets
stay offline.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forge import canonical
from forge.bundle import Digest
from forge.errors import ConfigurationError, ForgeError, TrustError, UsageError
from forge.files import write_durably
from forge.trust import layout
from forge.trust.proof_keys import ProofKeys, parse_proof_keys

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

__all__ = [
    "Expiry",
    "KeyEntry",
    "Keyring",
    "KeysFile",
    "Role",
    "read_capped",
    "read_keys",
]

Role = Literal["root", "targets", "bundles", "channels", "online", "model"]
_PUBLISHING: Final[frozenset[Role]] = frozenset({"bundles", "channels", "online", "model"})
_MAX_FILE_BYTES: Final = 1024 * 1024


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expiry(_Document):
    """How long a signature of each role holds, days."""

    root: int = Field(default=365, ge=1)
    targets: int = Field(default=365, ge=1)
    bundles: int = Field(default=90, ge=1)
    channels: int = Field(default=90, ge=1)
    snapshot: int = Field(default=30, ge=1)
    timestamp: int = Field(default=7, ge=1)

    def of(self, role: str) -> timedelta:
        """Life of one role's metadata."""
        return timedelta(days=getattr(self, role))


class KeyEntry(_Document):
    """One key: its role, where the private part is, and the public part as TUF writes it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")
    role: Role
    uri: str = Field(pattern=r"^[a-z0-9+-]+:.+$")
    keyid: Digest
    keytype: str
    scheme: str
    public: str

    def public_key(self) -> Key:
        """The public key for securesystemslib and python-tuf."""
        from securesystemslib.signer import Key

        fields = {"keytype": self.keytype, "scheme": self.scheme, "keyval": {"public": self.public}}
        return Key.from_dict(self.keyid, fields)


class KeysFile(_Document):
    """`keys.json`."""

    schema_version: Literal[1] = 1
    created: str
    expiry_days: Expiry
    keys: tuple[KeyEntry, ...]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.dumps(self.model_dump(mode="json"))


class Keyring:
    """A folder of keys. Private keys are read, and the passphrase asked for, at first use.

    Args:
        folder: made by `forge keys init`.
        passphrase: returns the passphrase; called at most once.
    """

    def __init__(self, folder: Path, passphrase: Callable[[], str]) -> None:
        self.folder = folder
        self._ask = passphrase
        self._passphrase: bytes | None = None
        self.file = read_keys(folder)

    def passphrase(self) -> bytes:
        """The passphrase, UTF-8."""
        if self._passphrase is None:
            self._passphrase = self._ask().encode()
        return self._passphrase

    def entries(self, role: Role) -> list[KeyEntry]:
        """Every key this folder has for a role, newest last."""
        return [entry for entry in self.file.keys if entry.role == role]

    def signer(self, entry: KeyEntry) -> Signer:
        """What signs with one key.

        Raises:
            UsageError: the private key is not here, or the passphrase is wrong.
        """
        from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

        from forge.release.private_keys import decrypt
        from forge.release.remote_keys import RemoteSigner

        public = entry.public_key()
        try:
            if entry.uri.startswith("file:") and isinstance(public, SSlibKey):
                return CryptoSigner(decrypt(self.path(entry.uri), self.passphrase()), public)
            made = Signer.from_priv_key_uri(entry.uri, public, lambda _: self.passphrase().decode())
            return RemoteSigner(made, entry.name, entry.uri)
        except ForgeError:
            raise
        except Exception as error:  # each KMS raises its own errors, says securesystemslib
            raise UsageError(f"Cannot sign with key {entry.name}", why=str(error)) from error

    def signers(self, role: Role, keyids: list[str], threshold: int) -> list[Signer]:
        """`threshold` signers among `keyids` for a role.

        Raises:
            UsageError: too few of the private keys are here.
        """
        usable = [entry for entry in self.entries(role) if entry.keyid in keyids]
        here = [entry for entry in usable if self.has(entry)]
        if len(here) < threshold:
            missing = ", ".join(sorted(e.name for e in usable if e not in here)) or "none known"
            raise UsageError(
                f"{self.folder} cannot sign for the role {role}",
                why=f"{threshold} private keys are needed, {len(here)} here; missing: {missing}",
                hint="bring the offline keys back into the folder, or take the newest folder",
            )
        return [self.signer(entry) for entry in here[:threshold]]

    def has(self, entry: KeyEntry) -> bool:
        """Whether the private key can be reached from here."""
        return not entry.uri.startswith("file:") or self.path(entry.uri).is_file()

    def asks_for_passphrase(self) -> bool:
        """Whether publishing with what is here takes a passphrase: keys of a KMS take none."""
        publishing = [entry for entry in self.file.keys if entry.role in _PUBLISHING]
        return any(
            entry.uri.startswith(("file:", "hsm:")) and self.has(entry) for entry in publishing
        )

    def path(self, uri: str) -> Path:
        """File of a `file:` URI; relative ones are in the folder."""
        return self.folder / uri.removeprefix("file:")

    def documents(self, role: Literal["root", "targets"]) -> dict[int, bytes]:
        """Every signed version of a role kept in this folder, ascending."""
        found = {}
        for path in (self.folder / "metadata").glob(f"*.{role}.json"):
            number = path.name.split(".")[0]
            if number.isdecimal():
                found[int(number)] = read_capped(path)
        return dict(sorted(found.items()))

    def keep(self, role: Literal["root", "targets"], version: int, data: bytes) -> None:
        """Keep a newly signed version; a root also becomes `root.json`."""
        write_durably(self.folder / "metadata" / f"{version}.{role}.json", data)
        if role == "root":
            write_durably(self.folder / "root.json", data)

    def target(self, path: str, sha256: str) -> bytes:
        """A target the offline role signed, kept beside its metadata."""
        return read_capped(self.folder / layout.target_name(path, sha256).removeprefix("tuf/"))

    def keep_target(self, path: str, data: bytes) -> None:
        """Keep a target of the offline role."""
        name = layout.target_name(path, canonical.sha256(data)).removeprefix("tuf/")
        write_durably(self.folder / name, data)

    def proof_keys(self) -> ProofKeys:
        """The proof keys that the newest targets metadata of this folder lists, newest first.

        Raises:
            TrustError: there is no such metadata, or it or the list is damaged.
            UsageError: the list is missing.
        """
        documents = self.documents("targets")
        hint = "restore metadata/*.targets.json and targets/ of the folder"
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


def read_capped(path: Path) -> bytes:
    """A small file of the folder. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {path}", why=str(error)) from None
    if len(data) > _MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return data


def read_keys(folder: Path) -> KeysFile:
    """`keys.json` of a folder. Raises UsageError, ConfigurationError."""
    path = folder / "keys.json"
    if not path.is_file():
        hint = f"forge keys init --keys {folder}"
        raise UsageError(f"There are no keys in {folder}", why=f"no {path.name}", hint=hint)
    try:
        return KeysFile.model_validate_json(read_capped(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path} is not valid", why=f"{place}: {first['msg']}") from None
