"""Who must have signed a checkpoint, as a pipeline or `forge checkpoint pin` names it.

    key:FILE                        public key, PEM, on the curve P-256, P-384 or P-521
    certificate:FILE?identity=NAME  PEM of the root and intermediate certificates that are trusted;
                                    NAME is a common name or alternative name (mail address, host,
                                    URI) of the certificate that signed

    …?signature=NAME                the signature in the source; default: model.sig
    …?signature=file:FILE           a signature that is not in the source

FILE may be relative to the project. Several parts after '?' are joined with '&'; a character that
has a meaning here is written as in a URL, `%26` for '&'.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from forge.errors import ConfigurationError, TrustError
from forge.files import check_relative_path, sha256_file
from forge.steps import SourceFile

__all__ = ["SIGNATURE", "CheckpointSigner", "parse_signer"]

SIGNATURE: Final = "model.sig"  # the name that the model_signing command writes
_FILE: Final = "file:"
_MAX_FILE_BYTES: Final = 1024 * 1024  # Mozilla's list of all root certificates has 0.25 MiB
_HINT: Final = "use key:FILE or certificate:FILE?identity=NAME: docs/how-to/verify-a-checkpoint.md"


@dataclass(frozen=True, slots=True)
class CheckpointSigner:
    """Who must have signed a checkpoint, and where the signature is.

    Attributes:
        method: `key` or `certificate`.
        trusted: file with the public key, or with the trusted certificates.
        identity: name that the signing certificate must have; empty for a key.
        signature: name of the signature in the source.
        signature_file: a signature that is not in the source; None: `signature` is.
    """

    method: Literal["key", "certificate"]
    trusted: Path
    identity: str = ""
    signature: str = SIGNATURE
    signature_file: Path | None = None

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """Return its files, whose digests are part of the key of the step that verifies."""
        files = {"trusted": self.trusted, "signature": self.signature_file}
        return tuple(
            SourceFile(name, path, sha256_file(path)) for name, path in files.items() if path
        )

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the options of `python -m forge.checkpoint` in a step with these `sources`."""
        option = "--key" if self.method == "key" else "--certificates"
        words = [option, "${source.trusted}"]
        if self.identity:
            words += ["--identity", self.identity]
        if self.signature_file is not None:
            return (*words, "--signature-file", "${source.signature}")
        return (*words, "--signature", self.signature)


def parse_signer(text: str, folder: Path) -> CheckpointSigner:
    """Parse who must have signed a checkpoint, and check that the named files can be read.

    Args:
        text: as described above.
        folder: what relative files are relative to.

    Raises:
        ConfigurationError: the text is not valid, or a file is missing, too large, or holds a
            private key.
    """
    kind, _, rest = text.partition(":")
    name, _, query = rest.partition("?")
    options = _options(text, query)
    signature, identity = options.pop("signature", SIGNATURE), options.pop("identity", "")
    if options or not name or kind not in {"key", "certificate"}:
        why = f"{min(options)}= is not known" if options else "it names no key and no certificate"
        raise _not_valid(text, why)
    if (kind == "certificate") != bool(identity):
        # Without it, everyone to whom one of the trusted authorities gave a certificate could sign.
        raise _not_valid(text, "a certificate needs identity=NAME, and a key has none")
    method: Literal["key", "certificate"] = "key" if kind == "key" else "certificate"
    trusted = _readable(folder / unquote(name), text)
    if signature.startswith(_FILE):
        return CheckpointSigner(
            method, trusted, identity, SIGNATURE, _file(folder, signature, trusted, text)
        )
    try:
        check_relative_path(signature)
    except TrustError as error:
        raise _not_valid(text, f"signature {signature!r}: {error.why}") from None
    return CheckpointSigner(method, trusted, identity, signature)


def _options(text: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if not value or name in found:
            raise _not_valid(text, f"{part!r} is not NAME=VALUE, or is given twice")
        found[name] = unquote(value)
    return found


def _file(folder: Path, signature: str, trusted: Path, text: str) -> Path:
    found = folder / signature.removeprefix(_FILE)
    if not found.is_file():
        raise _not_valid(text, f"the signature {found} does not exist")
    if found.name == trusted.name:  # a container has both in one folder
        raise _not_valid(text, f"two files have the name {found.name}")
    return found


def _not_valid(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"Signer {text!r} is not valid", why=why, hint=_HINT)


def _readable(path: Path, text: str) -> Path:
    """Return the file of a public key or of certificates. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _not_valid(text, f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE_BYTES:
        raise _not_valid(text, f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    if b"PRIVATE KEY" in data:
        # Verifying needs none, and a step's files are copied to where the step runs.
        raise ConfigurationError(
            f"Signer {text!r} is not valid",
            why=f"{path} holds a private key",
            hint=f"name the public key: openssl pkey -in {path} -pubout -out KEY.pub",
        )
    return path
