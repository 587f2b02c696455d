"""The key that signs results: made, opened, and matched with forge.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.errors import ConfigurationError, UsageError
from forge.release.keys.builder_key import (
    builder_passphrase,
    builder_signer,
    new_builder_key,
    open_builder_key,
)
from forge.store.formats.signed_result import result_statement
from forge.trust.builders import TrustedBuilder, public_pem, verify_result
from tests.support import cheap_keys
from tests.support.trusted_builders import KEY, builders, made, write_key

cheap_keys.use()
PASSPHRASE = "correct horse battery staple"


def never() -> str:
    raise AssertionError


def test_new_key_is_encrypted_and_private_and_signs(tmp_path: Path) -> None:
    path = tmp_path / "builder.pem"
    public = new_builder_key(path, PASSPHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"ENCRYPTED" in path.read_bytes()
    named = {"gpu": TrustedBuilder(steps=["*"], keys=[public_pem(public)])}
    given = {"FORGE_BUILDER_KEY": str(path), "FORGE_BUILDER_PASSPHRASE": PASSPHRASE}
    signer = builder_signer(named, given)
    assert signer is not None
    assert signer.builder == "gpu"
    envelope = signer.sign(result_statement(made(), "gpu"))
    assert verify_result(envelope, "gpu", named["gpu"], key=KEY, step="engine@a").builder == "gpu"


def test_existing_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        new_builder_key(tmp_path / "key", PASSPHRASE)
    assert (tmp_path / "key").read_text() == "mine"


def test_weak_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too weak"):
        new_builder_key(tmp_path / "key", "forge")
    assert not (tmp_path / "key").exists()


def test_key_without_a_passphrase_asks_for_none(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", "hosted")
    assert open_builder_key(f"file:{path}", never).public_key.keytype == "ed25519"


def test_key_file_that_others_may_open_is_refused(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", "hosted")
    path.chmod(0o644)
    with pytest.raises(UsageError, match="Other users can open"):
        open_builder_key(str(path), never)


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UsageError):
        open_builder_key(str(tmp_path / "key"), lambda: PASSPHRASE)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*key"):
        open_builder_key(str(tmp_path / "key"), never)


def test_key_that_the_project_does_not_name_is_refused_before_a_step_runs(tmp_path: Path) -> None:
    path = write_key(tmp_path / "key", "thief")
    with pytest.raises(ConfigurationError, match="belongs to no builder") as caught:
        builder_signer(builders(hosted=["*"]), {"FORGE_BUILDER_KEY": str(path)})
    assert "forge keys builder show" in caught.value.hint


@pytest.mark.parametrize("given", [{}, {"FORGE_BUILDER_KEY": ""}])
def test_without_the_variable_nothing_is_signed(given: dict[str, str]) -> None:
    assert builder_signer(builders(hosted=["*"]), given) is None


def test_passphrase_of_the_release_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No passphrase for the builder's key") as caught:
        builder_passphrase({"FORGE_PASSPHRASE": PASSPHRASE})()
    assert "FORGE_BUILDER_PASSPHRASE_FILE" in caught.value.hint
    (tmp_path / "p").write_text(PASSPHRASE)
    (tmp_path / "p").chmod(0o600)
    given = {"FORGE_BUILDER_PASSPHRASE_FILE": str(tmp_path / "p")}
    assert builder_passphrase(given)() == PASSPHRASE
