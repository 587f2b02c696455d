"""Who must have signed a checkpoint, as it is written in a pipeline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from forge.checkpoint.signer import CheckpointSigner, parse_signer
from forge.errors import ConfigurationError
from forge.steps import Step, key_of
from tests.support.signed_checkpoints import key_pair


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    key_pair(tmp_path / "keys")
    (tmp_path / "root.pem").write_text("certificates")
    for name in ("ours.sig", "vendor.pub"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key:keys/vendor.pub", ("key", "keys/vendor.pub", "", "model.sig", None)),
        ("key:keys/vendor.pub?signature=sub/a.sig",
         ("key", "keys/vendor.pub", "", "sub/a.sig", None)),
        ("key:keys/vendor.pub?signature=file:ours.sig",
         ("key", "keys/vendor.pub", "", "model.sig", "ours.sig")),
        ("certificate:root.pem?identity=a+b@c.example",
         ("certificate", "root.pem", "a+b@c.example", "model.sig", None)),
        ("certificate:root.pem?signature=a.sig&identity=A%26B%20%25",
         ("certificate", "root.pem", "A&B %", "a.sig", None)),
    ],
)  # fmt: skip
def test_signer_is_read(
    project: Path, text: str, expected: tuple[str, str, str, str, str | None]
) -> None:
    method, trusted, identity, signature, file = expected
    found = parse_signer(text, project)
    assert (found.method, found.identity, found.signature) == (method, identity, signature)
    assert found.trusted == project / trusted
    assert found.signature_file == (None if file is None else project / file)


def test_absolute_file_is_where_it_says(project: Path, tmp_path: Path) -> None:
    found = parse_signer(f"key:{project}/keys/vendor.pub", Path("/nowhere"))
    assert found.trusted == tmp_path / "keys" / "vendor.pub"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no key and no certificate"),
        ("keys/vendor.pub", "names no key and no certificate"),
        ("key:", "names no key and no certificate"),
        ("sigstore:me@x", "names no key and no certificate"),
        ("key:keys/vendor.pub?identity=a", "a key has none"),
        ("certificate:root.pem", "a certificate needs identity=NAME"),
        ("certificate:root.pem?identity=", "'identity=' is not NAME=VALUE"),
        ("key:keys/vendor.pub?signature=a&signature=b", "given twice"),
        ("key:keys/vendor.pub?sig=a", "sig= is not known"),
        ("key:keys/vendor.pub?signature=../a.sig", "it has an empty part, '.' or '..'"),
        ("key:keys/vendor.pub?signature=/etc/a.sig", "it is empty or absolute"),
        ("key:keys/vendor.pub?signature=file:none.sig", "none.sig does not exist"),
        ("key:keys/vendor.pub?signature=file:vendor.pub", "two files have the name vendor.pub"),
        ("key:none.pub", "none.pub cannot be read: No such file"),
        ("key:keys", "keys cannot be read: Is a directory"),
    ],
)
def test_signer_that_is_not_valid_exits_3_with_the_forms(
    project: Path, text: str, why: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_signer(text, project)
    assert caught.value.exit_code == 3
    assert why in caught.value.why
    assert "key:FILE or certificate:FILE?identity=NAME" in caught.value.hint


def test_private_key_is_refused_with_the_command_for_the_public_one(project: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds a private key") as caught:
        parse_signer("key:keys/vendor.key", project)
    assert "openssl pkey -in" in caught.value.hint


def test_huge_file_is_refused(project: Path) -> None:
    with (project / "huge.pub").open("wb") as file:
        file.truncate(1024 * 1024 + 1)
    with pytest.raises(ConfigurationError, match="larger than 1048576 bytes"):
        parse_signer("key:huge.pub", project)


def key(signer: CheckpointSigner) -> str:
    step = Step(id="checkpoint", argv=("fetch", *signer.argv), sources=signer.sources)
    return key_of(step, {}).digest


def test_step_has_another_key_for_another_public_key_but_not_for_another_name_of_its_file(
    project: Path,
) -> None:
    before = key(parse_signer("key:keys/vendor.pub", project))
    (project / "copy.pub").write_bytes((project / "keys/vendor.pub").read_bytes())
    assert key(parse_signer("key:copy.pub", project)) == before
    key_pair(project / "keys")
    assert key(parse_signer("key:keys/vendor.pub", project)) != before


@pytest.mark.parametrize(
    "other",
    ["certificate:root.pem?identity=B", "certificate:root.pem?identity=A&signature=b.sig",
     "certificate:root.pem?identity=A&signature=file:ours.sig"],
)  # fmt: skip
def test_step_has_another_key_for_another_identity_or_signature(project: Path, other: str) -> None:
    first = key(parse_signer("certificate:root.pem?identity=A", project))
    assert key(parse_signer(other, project)) != first


def test_step_has_another_key_for_another_signature_file_of_the_same_name(project: Path) -> None:
    text = "key:keys/vendor.pub?signature=file:ours.sig"
    before = key(parse_signer(text, project))
    (project / "ours.sig").write_text("[]")
    assert key(parse_signer(text, project)) != before


def test_files_of_a_step_are_hashed_by_their_bytes(project: Path) -> None:
    (source,) = parse_signer("key:keys/vendor.pub", project).sources
    digest = hashlib.sha256((project / "keys/vendor.pub").read_bytes()).hexdigest()
    assert (source.name, source.sha256) == ("trusted", digest)
