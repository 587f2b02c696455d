"""Create a key file, or register a key of a KMS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from forge.errors import UsageError
from forge.release.keys import kms
from forge.release.keys.create import make_key
from forge.release.keys.model import KeyEntry


def secret() -> bytes:
    return b"passphrase"


def test_key_without_a_uri_is_a_new_file_in_the_folder(tmp_path: Path) -> None:
    entry = make_key(tmp_path, "channels-2", "channels", secret)
    assert (entry.name, entry.role, entry.uri) == ("channels-2", "channels", "file:channels-2.pem")
    assert [path.name for path in tmp_path.iterdir()] == ["channels-2.pem"]


@pytest.mark.parametrize(("role", "files"), [("bundles", []), ("model", ["m.pub.pem"])])
def test_key_in_a_kms_writes_no_private_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Any, files: list[str]
) -> None:
    pem = make_key(tmp_path, "seed", "model", secret).public
    for path in tmp_path.iterdir():
        path.unlink()
    given: list[object] = []

    def enrol(uri: str, name: str, role: Any, ask: Any) -> KeyEntry:
        given.extend([uri, name, role, ask()])
        return KeyEntry(
            name=name, role=role, uri=uri, keyid="0" * 64, keytype="ecdsa", scheme="x", public=pem
        )

    monkeypatch.setattr(kms, "enrol", enrol)
    entry = make_key(tmp_path, "m", role, secret, "awskms:alias/x")
    assert given == ["awskms:alias/x", "m", role, "passphrase"]
    assert entry.uri == "awskms:alias/x"
    assert [path.name for path in tmp_path.iterdir()] == files
    for path in tmp_path.iterdir():
        assert isinstance(load_pem_public_key(path.read_bytes()), ec.EllipticCurvePublicKey)


def test_uri_of_an_unknown_scheme_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'gopher:key' is not a valid key URI"):
        make_key(tmp_path, "x", "bundles", secret, "gopher:key")
    assert list(tmp_path.iterdir()) == []
