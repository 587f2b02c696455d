"""A checkpoint that must be signed: accepted with its own signature only, and nothing is left else.

What the reference implementation accepts is accepted here, and Forge refuses more: files that a
signature leaves out, and certificates of others.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate
from model_signing import verifying

from forge.checkpoint.__main__ import main
from forge.checkpoint.fetch import FetchedModel, digest_of, fetch_model
from forge.checkpoint.signer import parse_signer
from forge.errors import ConfigurationError
from forge.store.backends.memory import MemoryObjects
from tests.support import checkpoints, signed_checkpoints
from tests.support.gguf import gguf
from tests.support.signed_checkpoints import IDENTITY, Authority, key_pair, sign

SIGNED = ["config.json", "model.safetensors", "tokenizer.json"]
URL = "?path=*.json&path=*.safetensors"


class Vendor:
    """A vendor's model, signed with his key, and what a project has of him."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = checkpoints.model(folder / "model")
        self.key = key_pair(folder)
        sign(self.model, folder / "vendor.key")
        self.output = folder / "out" / "checkpoint"
        self.output.mkdir(parents=True)

    def fetched(self, signer: str = "key:vendor.pub", query: str = URL) -> FetchedModel:
        return fetch_model(
            f"file:{self.model}{query}",
            self.output,
            environment={},
            signer=parse_signer(signer, self.folder),
        )

    def refused(self, signer: str = "key:vendor.pub", query: str = URL) -> str:
        """Return why it is refused, with exit code 3 and nothing left."""
        with pytest.raises(ConfigurationError) as caught:
            self.fetched(signer, query)
        assert caught.value.exit_code == 3
        assert str(self.model) in caught.value.what
        assert caught.value.hint
        assert list(self.output.iterdir()) == []
        return f"{caught.value.what}: {caught.value.why}"

    @property
    def signature(self) -> Path:
        return self.model / "model.sig"


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor(tmp_path)


def reference_accepts(vendor: Vendor) -> None:
    """Verify with model_signing itself, which raises ValueError for files that differ."""
    config = verifying.Config()  # type: ignore[no-untyped-call]  # the library's omission
    config.use_elliptic_key_verifier(public_key=vendor.folder / "vendor.pub")
    config.verify(vendor.model, vendor.signature)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_signed_files_are_accepted_and_what_was_verified_is_told(vendor: Vendor) -> None:
    found = vendor.fetched().signature
    assert names(vendor.output) == SIGNED
    public = load_pem_public_key((vendor.folder / "vendor.pub").read_bytes())
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found is not None
    assert found.model_dump() == {
        "schema_version": 1,
        "checkpoint": digest_of(vendor.output),
        "method": "key",
        "identity": "",
        "fingerprint": hashlib.sha256(der).hexdigest(),
        "signature_sha256": hashlib.sha256(vendor.signature.read_bytes()).hexdigest(),
        "files": 3,
    }


def test_without_a_signer_no_signature_is_required(vendor: Vendor) -> None:
    vendor.signature.unlink()
    found = fetch_model(f"file:{vendor.model}", vendor.output, environment={})
    assert found.signature is None


def _change(model: Path) -> None:
    (model / "tokenizer.json").write_bytes(b"[]")


def _add(model: Path) -> None:
    (model / "added.json").write_bytes(b"{}")


def _remove(model: Path) -> None:
    (model / "tokenizer.json").unlink()


def _rename(model: Path) -> None:
    (model / "tokenizer.json").rename(model / "tokenizer_config.json")


def _exchange(model: Path) -> None:
    one, two = (model / name for name in ("tokenizer.json", "config.json"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_change, "'tokenizer.json' was changed"),
        (_add, "'added.json' is not signed"),
        (_remove, "'tokenizer.json' is signed and missing"),
        (_rename, "'tokenizer_config.json' is not signed, 'tokenizer.json' is signed and missing"),
        (_exchange, "'config.json' was changed, 'tokenizer.json' was changed"),
    ],
)
def test_files_that_differ_from_the_signed_ones_are_refused(
    vendor: Vendor, damage: Callable[[Path], None], says: str
) -> None:
    reference_accepts(vendor)
    damage(vendor.model)
    assert says in vendor.refused()
    with pytest.raises(ValueError, match="Signature mismatch"):
        reference_accepts(vendor)


def test_many_differences_are_counted_and_five_are_named(vendor: Vendor) -> None:
    for number in range(9):
        (vendor.model / f"{number}.json").write_bytes(b"{}")
    said = vendor.refused()
    assert "'4.json' is not signed and 4 more" in said
    assert "5.json" not in said


def test_signature_by_another_key_is_refused(vendor: Vendor) -> None:
    key_pair(vendor.folder, "other")
    assert "it is signed with another key" in vendor.refused("key:other.pub")
    sign(vendor.model, vendor.folder / "other.key")
    assert "it is signed with another key" in vendor.refused("key:vendor.pub")
    vendor.fetched("key:other.pub")


def test_signature_by_another_key_that_names_the_trusted_one_is_refused(vendor: Vendor) -> None:
    """The hint in a signature is not signed: everyone can write the trusted key's there."""
    trusted = json.loads(vendor.signature.read_text())["verificationMaterial"]
    key_pair(vendor.folder, "other")
    sign(vendor.model, vendor.folder / "other.key")
    bundle = json.loads(vendor.signature.read_text())
    bundle["verificationMaterial"] = trusted
    vendor.signature.write_text(json.dumps(bundle))
    assert "the signature is not valid for what it states" in vendor.refused()


def test_missing_signature_is_refused_with_how_to_name_another(vendor: Vendor) -> None:
    vendor.signature.rename(vendor.model / "vendor.sig")
    assert "has no signature: model.sig is not in the source" in vendor.refused()
    vendor.fetched("key:vendor.pub?signature=vendor.sig")


def test_signature_of_another_model_by_the_same_key_is_refused(vendor: Vendor) -> None:
    other = checkpoints.model(vendor.folder / "other", files={"tokenizer.json": b"[1]"})
    shutil.copyfile(sign(other, vendor.folder / "vendor.key"), vendor.signature)
    assert "'tokenizer.json' was changed" in vendor.refused()


def test_statement_that_was_changed_after_it_was_signed_is_refused(vendor: Vendor) -> None:
    bundle = json.loads(vendor.signature.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    _change(vendor.model)
    digest = hashlib.sha256(b"[]").hexdigest()
    resources = statement["predicate"]["resources"]
    for resource in resources:
        if resource["name"] == "tokenizer.json":
            resource["digest"] = digest
    root = b"".join(bytes.fromhex(one["digest"]) for one in resources)
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(root).hexdigest()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    vendor.signature.write_text(json.dumps(bundle))
    assert "the signature is not valid for what it states" in vendor.refused()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"{}", b"null", b"1", b"[" * 100_000, b'{"verificationMaterial": 1}',
     b'{"verificationMaterial": {"publicKey": []}}', b"-----BEGIN PGP SIGNATURE-----"],
)  # fmt: skip
def test_bytes_that_are_not_a_signature_are_refused(vendor: Vendor, data: bytes) -> None:
    vendor.signature.write_bytes(data)
    said = vendor.refused()
    assert "it is not a model signature" in said
    assert "Python" not in said


@pytest.mark.parametrize("field", ["mediaType", "verificationMaterial", "dsseEnvelope"])
def test_signature_without_one_of_its_parts_is_refused(vendor: Vendor, field: str) -> None:
    bundle = json.loads(vendor.signature.read_text())
    del bundle[field]
    vendor.signature.write_text(json.dumps(bundle))
    assert f"it is not a model signature, {field}: is missing" in vendor.refused()


def test_envelope_without_signatures_is_refused(vendor: Vendor) -> None:
    bundle = json.loads(vendor.signature.read_text())
    bundle["dsseEnvelope"]["signatures"] = []
    vendor.signature.write_text(json.dumps(bundle))
    assert "it is not a complete model signature" in vendor.refused()


def test_signature_that_is_too_large_is_refused_unread(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forge.checkpoint.signature._MAX_SIGNATURE_BYTES", 100)
    assert "larger than 100 bytes" in vendor.refused()


class TestSelection:
    """Of a signed source, a checkpoint's URL takes some files."""

    def test_signed_files_that_the_url_does_not_select_need_not_be_there(
        self, vendor: Vendor
    ) -> None:
        (vendor.model / "README.md").write_text("signed")
        sign(vendor.model, vendor.folder / "vendor.key")
        (vendor.model / "README.md").unlink()
        vendor.fetched()
        shutil.rmtree(vendor.output)
        vendor.output.mkdir()
        assert "'README.md' is signed and missing" in vendor.refused(query="")

    def test_file_that_the_url_does_not_select_may_be_unsigned(self, vendor: Vendor) -> None:
        (vendor.model / "notes.txt").write_text("of our own")
        vendor.fetched()
        assert names(vendor.output) == SIGNED

    def test_file_that_the_signature_leaves_out_is_refused(self, vendor: Vendor) -> None:
        """The reference accepts it: the signature itself says what it does not cover."""
        sign(vendor.model, vendor.folder / "vendor.key", ignore=[vendor.model / "tokenizer.json"])
        reference_accepts(vendor)
        assert "'tokenizer.json' is not signed" in vendor.refused()

    def test_everything_is_taken_with_its_signature(self, vendor: Vendor) -> None:
        vendor.fetched(query="")
        assert names(vendor.output) == sorted([*SIGNED, "model.sig"])

    def test_folder_of_the_signature_is_what_was_signed(self, vendor: Vendor) -> None:
        """As in a wheel, whose weights lie in the folder of its package."""
        weights = vendor.folder / "wheel" / "package" / "weights"
        weights.mkdir(parents=True)
        (weights / "tiny.gguf").write_bytes(gguf())
        sign(weights, vendor.folder / "vendor.key")
        (weights.parent / "__init__.py").write_text("")
        vendor.model = vendor.folder / "wheel"
        signer = "key:vendor.pub?signature=package/weights/model.sig"
        vendor.fetched(signer, "?path=package/weights/*.gguf")
        assert names(vendor.output) == ["tiny.gguf"]

    def test_file_outside_of_the_signed_folder_is_refused(self, vendor: Vendor) -> None:
        package = vendor.folder / "package"
        package.mkdir()
        vendor.model.rename(package / "weights")
        (package / "outside.json").write_text("{}")
        vendor.model = package
        signer = "key:vendor.pub?signature=weights/model.sig"
        said = vendor.refused(signer, "?path=*.json&path=*.safetensors")
        assert "'../outside.json' is not signed" in said


class TestOtherPlaces:
    """A signature next to a file, or of another source."""

    def test_signature_of_another_source_is_named_as_a_file(self, vendor: Vendor) -> None:
        vendor.signature.rename(vendor.folder / "ours.sig")
        vendor.fetched("key:vendor.pub?signature=file:ours.sig")
        _change(vendor.model)
        shutil.rmtree(vendor.output)
        vendor.output.mkdir()
        signer = "key:vendor.pub?signature=file:ours.sig"
        assert "'tokenizer.json' was changed" in vendor.refused(signer)

    def test_single_file_is_accepted_with_a_signature_of_it_or_of_its_folder(
        self, tmp_path: Path
    ) -> None:
        key_pair(tmp_path)
        model = tmp_path / "models" / "tiny.gguf"
        model.parent.mkdir()
        model.write_bytes(gguf())
        output = tmp_path / "out" / "checkpoint"
        output.mkdir(parents=True)
        alone = sign(model, tmp_path / "vendor.key", signature=tmp_path / "alone.sig")
        folder = sign(model.parent, tmp_path / "vendor.key", signature=tmp_path / "folder.sig")
        for signature in (alone, folder):
            signer = parse_signer(f"key:vendor.pub?signature=file:{signature.name}", tmp_path)
            found = fetch_model(f"file:{model}", output, environment={}, signer=signer)
            assert found.signature is not None
            assert found.signature.files == 1
        model.write_bytes(gguf(architecture="qwen2"))
        for signature in (alone, folder):
            signer = parse_signer(f"key:vendor.pub?signature=file:{signature.name}", tmp_path)
            with pytest.raises(ConfigurationError, match="was changed"):
                fetch_model(f"file:{model}", output, environment={}, signer=signer)

    def test_signature_next_to_a_single_file_is_found(self, tmp_path: Path) -> None:
        key_pair(tmp_path)
        model = tmp_path / "models" / "tiny.gguf"
        model.parent.mkdir()
        model.write_bytes(gguf())
        sign(model.parent, tmp_path / "vendor.key")
        output = tmp_path / "out" / "checkpoint"
        output.mkdir(parents=True)
        signer = parse_signer("key:vendor.pub", tmp_path)
        fetch_model(f"file:{model}", output, environment={}, signer=signer)
        assert names(output) == ["tiny.gguf"]


class TestOtherKinds:
    """What model_signing can write and Forge does not read."""

    def test_signature_over_parts_of_files_is_refused(self, vendor: Vendor) -> None:
        sign(
            vendor.model,
            vendor.folder / "vendor.key",
            hashing=lambda config: config.use_shard_serialization(shard_size=1000),
        )
        assert "it is over parts of files" in vendor.refused()

    def test_signature_with_another_hash_is_refused(self, vendor: Vendor) -> None:
        sign(
            vendor.model,
            vendor.folder / "vendor.key",
            hashing=lambda config: config.use_file_serialization(hashing_algorithm="blake2"),
        )
        assert "it names blake2b of the files" in vendor.refused()

    @pytest.mark.parametrize("text", ["", "text", "-----BEGIN PUBLIC KEY-----\nAAAA\n"])
    def test_file_that_is_not_a_key_is_named(self, vendor: Vendor, text: str) -> None:
        (vendor.folder / "vendor.pub").write_text(text)
        for signer, kind in (
            ("key:vendor.pub", "a public key on P-256"),
            (f"certificate:vendor.pub?identity={IDENTITY}", "certificates"),
        ):
            with pytest.raises(ConfigurationError, match=rf"vendor\.pub does not hold {kind}"):
                vendor.fetched(signer)
            assert list(vendor.output.iterdir()) == []

    def test_key_without_a_curve_is_named(self, vendor: Vendor) -> None:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        public = ed25519.Ed25519PrivateKey.generate().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (vendor.folder / "vendor.pub").write_bytes(pem)
        with pytest.raises(ConfigurationError, match="does not hold a public key on P-256"):
            vendor.fetched()


class TestCertificates:
    """A signature by a certificate of an authority that the project trusts."""

    @pytest.fixture
    def authority(self, vendor: Vendor) -> Authority:
        return Authority(vendor.folder, "root")

    def certified(self, vendor: Vendor, authority: Authority, certificate: Path) -> None:
        signed_checkpoints.sign_by_certificate(vendor.model, certificate, authority.file)

    @pytest.mark.parametrize("identity", [IDENTITY, "signer"])
    def test_name_or_mail_address_of_the_certificate_is_its_identity(
        self, vendor: Vendor, authority: Authority, identity: str
    ) -> None:
        issued = authority.issue("signer")
        self.certified(vendor, authority, issued)
        found = vendor.fetched(f"certificate:root.pem?identity={identity}").signature
        der = load_pem_x509_certificate(issued.read_bytes()).public_bytes(Encoding.DER)
        assert found is not None
        assert (found.method, found.identity) == ("certificate", identity)
        assert found.fingerprint == hashlib.sha256(der).hexdigest()

    def test_certificate_of_the_same_authority_for_someone_else_is_refused(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        self.certified(vendor, authority, authority.issue("other", mail="other@vendor.example"))
        said = vendor.refused(f"certificate:root.pem?identity={IDENTITY}")
        assert "its certificate is for 'other', 'other@vendor.example'" in said
        assert f"'{IDENTITY}' must sign" in said

    @pytest.mark.parametrize("identity", ["models@vendor", "odels@vendor.example", "VENDOR", "*"])
    def test_part_of_a_name_is_not_the_name(
        self, vendor: Vendor, authority: Authority, identity: str
    ) -> None:
        self.certified(vendor, authority, authority.issue("signer"))
        assert "must sign" in vendor.refused(f"certificate:root.pem?identity={identity}")

    @pytest.mark.usefixtures("authority")
    def test_certificate_of_another_authority_with_the_same_names_is_refused(
        self, vendor: Vendor
    ) -> None:
        elsewhere = vendor.folder / "elsewhere"
        elsewhere.mkdir()
        other = Authority(elsewhere, "root")
        self.certified(vendor, other, other.issue("signer"))
        said = vendor.refused(f"certificate:root.pem?identity={IDENTITY}")
        assert "its certificate is not trusted" in said

    def test_certificate_by_an_intermediate_authority_in_the_signature_is_accepted(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        middle = Authority(vendor.folder, "middle", authority)
        self.certified(vendor, middle, middle.issue("signer"))
        vendor.fetched(f"certificate:root.pem?identity={IDENTITY}")

    def test_certificate_that_a_mere_signer_issued_is_refused(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        """Else everyone with a certificate of the authority could sign in another's name."""
        customer = Authority(vendor.folder, "customer", authority, ca=False)
        self.certified(vendor, customer, customer.issue("signer"))
        said = vendor.refused(f"certificate:root.pem?identity={IDENTITY}")
        assert "its certificate is not trusted" in said

    def test_intermediate_authority_alone_is_not_a_root(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        middle = Authority(vendor.folder, "middle", authority)
        self.certified(vendor, middle, middle.issue("signer"))
        said = vendor.refused(f"certificate:middle.pem?identity={IDENTITY}")
        assert "its certificate is not trusted" in said

    def test_certificate_for_tls_is_refused(self, vendor: Vendor, authority: Authority) -> None:
        issued = authority.issue("signer", extensions=signed_checkpoints.tls_server())
        self.certified(vendor, authority, issued)
        said = vendor.refused(f"certificate:root.pem?identity={IDENTITY}")
        assert "cannot be used for signing" in said

    def test_certificate_that_has_expired_since_counts_as_when_it_was_issued(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        """A signature holds no time that could be trusted, and models outlive certificates."""
        self.certified(vendor, authority, authority.issue("signer", days=1))
        vendor.fetched(f"certificate:root.pem?identity={IDENTITY}")

    @pytest.mark.parametrize("damage", [_change, _add, _remove])
    def test_files_that_differ_are_refused(
        self, vendor: Vendor, authority: Authority, damage: Callable[[Path], None]
    ) -> None:
        self.certified(vendor, authority, authority.issue("signer"))
        damage(vendor.model)
        assert "json'" in vendor.refused(f"certificate:root.pem?identity={IDENTITY}")

    def test_signature_by_a_key_is_not_one_by_a_certificate_and_the_other_way_round(
        self, vendor: Vendor, authority: Authority
    ) -> None:
        said = vendor.refused(f"certificate:root.pem?identity={IDENTITY}")
        assert "it was not made with a certificate" in said
        self.certified(vendor, authority, authority.issue("signer"))
        assert "it was not made with a key" in vendor.refused()


class TestCommand:
    """`python -m forge.checkpoint`, the command of the step."""

    @pytest.fixture
    def arguments(self, vendor: Vendor) -> list[str]:
        record = vendor.folder / "record"
        record.mkdir()
        key = str(vendor.folder / "vendor.pub")
        url = f"file:{vendor.model}{URL}"
        return [url, str(vendor.output), "--key", key, "--record", str(record)]

    def test_record_is_written_and_told(
        self, vendor: Vendor, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 0
        record = json.loads((vendor.folder / "record" / "signature.json").read_text())
        assert f"signed by key sha256:{record['fingerprint'][:16]}, 3 files" in (
            capsys.readouterr().out
        )

    def test_refusal_exits_3_and_writes_neither_files_nor_record(
        self, vendor: Vendor, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        _change(vendor.model)
        assert main(arguments) == 3
        assert "'tokenizer.json' was changed" in capsys.readouterr().err
        assert list(vendor.output.iterdir()) == []
        assert list((vendor.folder / "record").iterdir()) == []

    def test_what_the_command_of_model_signing_signs_is_accepted(
        self, vendor: Vendor, arguments: list[str]
    ) -> None:
        vendor.signature.unlink()
        key = str(vendor.folder / "vendor.key")
        signed_checkpoints.sign_with_command(vendor.model, "key", "--private_key", key)
        assert main(arguments) == 0


class TestSources:
    """A signature is fetched with the files, even if path= does not select it."""

    def test_hf_downloads_it_too(self, vendor: Vendor) -> None:
        """By a program that downloads from a folder what it is told to include, as hf does."""
        program = vendor.folder / "hf"
        program.write_text(f"""#!{sys.executable}
import fnmatch, pathlib, shutil, sys
target = pathlib.Path(sys.argv[sys.argv.index("--local-dir") + 1])
globs = [value for key, value in zip(sys.argv, sys.argv[1:]) if key == "--include"]
for path in pathlib.Path({str(vendor.model)!r}).iterdir():
    if any(fnmatch.fnmatch(path.name, glob) for glob in globs):
        shutil.copyfile(path, target / path.name)
""")
        program.chmod(0o755)
        signer = parse_signer("key:vendor.pub", vendor.folder)
        url = f"hf:vendor/model@{'a' * 40}{URL}"
        found = fetch_model(url, vendor.output, environment={}, hf_tool=program, signer=signer)
        assert found.signature is not None
        assert names(vendor.output) == SIGNED

    def test_a_bucket_is_read_for_it_too(
        self, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = MemoryObjects()
        for path in vendor.model.iterdir():
            bucket.write(f"models/llama/{path.name}", path.read_bytes())
        monkeypatch.setattr("forge.store.open_objects", lambda *_, **__: bucket)
        signer = parse_signer("key:vendor.pub", vendor.folder)
        url = f"s3://bucket/models/llama{URL}"
        fetch_model(url, vendor.output, environment={}, signer=signer)
        assert names(vendor.output) == SIGNED
        bucket.delete("models/llama/model.sig")
        shutil.rmtree(vendor.output)
        vendor.output.mkdir()
        with pytest.raises(ConfigurationError, match="has no signature"):
            fetch_model(url, vendor.output, environment={}, signer=signer)
