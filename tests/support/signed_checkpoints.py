"""Checkpoints that someone else signed with the reference implementation, model_signing."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from forge.checkpoint.verified import VerifiedSignature

ISSUED = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PRIVATE, PUBLIC = "vendor.key", "vendor.pub"
IDENTITY = "models@vendor.example"


def key_pair(folder: Path, name: str = "vendor") -> ec.EllipticCurvePrivateKey:
    """Write NAME.key and NAME.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_key(key, folder / f"{name}.key")
    (folder / f"{name}.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return key


def write_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class Authority:
    """An authority that issues certificates: NAME.pem in the folder is its own.

    Args:
        folder: where its files are written.
        name: its common name.
        parent: who issues its certificate; None: itself.
        ca: whether its certificate says that it may issue others.
    """

    def __init__(
        self, folder: Path, name: str, parent: Authority | None = None, *, ca: bool = True
    ) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        basic = (x509.BasicConstraints(ca=ca, path_length=None), True)
        signs = (usage("key_cert_sign") if ca else usage("digital_signature"), True)
        self.certificate = (parent or self)._issued(self.name, self.key, (basic, signs))
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        mail: str = IDENTITY,
        days: int = 365,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    ) -> Path:
        """Write NAME.key and the certificate NAME.crt, whose file is returned."""
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(key, self.folder / f"{name}.key")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternative = (x509.SubjectAlternativeName([x509.RFC822Name(mail)]), False)
        more = ((usage("digital_signature"), True),) if extensions is None else extensions
        made = self._issued(subject, key, (alternative, *more), days)
        path = self.folder / f"{name}.crt"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return path

    def _issued(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
        days: int = 3650,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(ISSUED)
            .not_valid_after(ISSUED + dt.timedelta(days=days))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())


def usage(*allowed: str) -> x509.KeyUsage:
    """Return the key usage that allows only what is named."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in allowed for name in names})


def tls_server() -> Sequence[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a certificate that may not sign anything but TLS handshakes."""
    return (
        (usage("key_encipherment"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    )


def sign_with_command(model: Path, *arguments: str, signature: Path | None = None) -> Path:
    """Run `python -m model_signing sign …` as the vendor would; return the signature's file."""
    made = signature or model / "model.sig"
    method, *rest = arguments
    subprocess.run(
        [sys.executable, "-m", "model_signing", "sign", method, str(model), "--signature",
         str(made), *rest],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return made


def sign(
    model: Path,
    private_key: Path,
    *,
    signature: Path | None = None,
    ignore: Sequence[Path] = (),
    hashing: Callable[..., object] | None = None,
) -> Path:
    """Sign a folder or a file with the library, faster than by the command.

    Args:
        model: what is signed.
        private_key: PEM.
        signature: file to write; default: model.sig in the folder.
        ignore: paths that the signature does not cover.
        hashing: changes the library's hashing configuration.
    """
    from model_signing import hashing as model_hashing
    from model_signing import signing

    made = signature or model / "model.sig"
    config = model_hashing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    if hashing is not None:
        hashing(config)
    config.set_ignored_paths(paths=[*ignore, made], ignore_git_paths=True)
    signer = signing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    signer.use_elliptic_key_signer(private_key=private_key)
    signer.set_hashing_config(config).sign(model, made)
    return made


def sign_by_certificate(model: Path, certificate: Path, authority: Path) -> Path:
    """Sign a folder with a certificate whose key is next to it; the chain is in the signature."""
    from model_signing import hashing as model_hashing
    from model_signing import signing

    made = model / "model.sig"
    config = model_hashing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    config.set_ignored_paths(paths=[made], ignore_git_paths=True)
    signer = signing.Config()  # type: ignore[no-untyped-call]  # the library's omission
    signer.use_certificate_signer(
        private_key=certificate.with_suffix(".key"),
        signing_certificate=certificate,
        certificate_chain=[authority],
    )
    signer.set_hashing_config(config).sign(model, made)
    return made


def verified(**changes: object) -> VerifiedSignature:
    """Return a record, as the step writes it."""
    given: dict[str, object] = {
        "checkpoint": "c" * 64, "method": "key", "identity": "", "fingerprint": "f" * 64,
        "signature_sha256": "5" * 64, "files": 3,
    }  # fmt: skip
    return VerifiedSignature.model_validate(given | changes)
