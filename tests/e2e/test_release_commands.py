"""The commands of the release stages as the runner starts them, on a real store, and a client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge import profiles
from forge.profiles import Profile
from forge.release.lifecycle import keys
from forge.serving.repository.spec import write_spec
from forge.smoke.result import Result
from forge.steps import Link
from forge.store import open_store
from forge.trust import proofs
from forge.trust.client import TrustedStore
from stages import publish as stage
from tests.support.loads import outside_of_closure, watched
from tests.support.smoke_results import measured, result
from tests.support.spec import a_spec

PASSPHRASE = "correct horse battery staple"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Release:
    """A store, keys, and the folders of one repository with its proofs."""

    folder: Path
    errors: str = ""

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def run(self, command: str, *arguments: str | Path, passphrase: str = PASSPHRASE) -> Any:
        module = f"forge.release.steps.{command}"
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "FORGE_PASSPHRASE": passphrase,
                "FORGE_CACHE": str(self.folder / "c"),
                **watched(self.folder / "watch"),
            },
        )
        self.errors = done.stderr
        assert outside_of_closure(self.folder / "watch", module) == set()
        return json.loads(done.stdout) if done.returncode == 0 else done.returncode

    def json(self, name: str, value: object) -> Path:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(value))
        return path

    def release(self, version: str, engine: bytes = b"weights", **settings: Any) -> Any:
        """sbom, prove and publish, as the steps of one release."""
        repository = self.repository(version, engine)
        store = open_store(self.store, cache=self.folder / "cache")
        trees = {"repository": store.put_tree(repository).digest}
        smoke = self.smoke_result()
        trees["smoke"] = store.put_tree(smoke).digest
        chain = self.chain(trees)
        sbom, proven = self.empty("sbom"), self.empty("proofs")
        sboms = self.run("sbom", "--repository", repository, "--output", sbom, "--json")
        assert sboms["packages"] > 10, self.errors
        made = self.run(
            "prove", "--repository", repository, "--sbom", sbom, "--chain", chain, "--keys",
            self.keys, "--settings", self.json("prove", {"profile": "development"}),
            "--digests", self.json("given", trees), "--output", proven, "--measured", smoke,
            "--json",
        )  # fmt: skip
        files = {"sbom.cdx.json", "provenance.dsse.json", "model.sig", "performance.dsse.json"}
        assert set(made) == files, self.errors
        trees["proofs"] = store.put_tree(proven).digest
        return self.publish(version, trees, chain, **settings)

    def publish(self, version: str, trees: dict[str, str], chain: Path, **settings: Any) -> Any:
        names = {use: f"{use}-development" for use in trees}
        part = {"profile": profiles.select(_profile(), stage.READS), "inputs": names}
        request = {"name": "demo", "version": version, "channel": "canary", "parts": [part]}
        return self.run(
            "publish", "--store", self.store, "--keys", self.keys,
            "--request", self.json("request", request | settings),
            "--digests", self.json("digests", {names[use]: trees[use] for use in trees}),
            "--chain", chain, "--json", "--result", self.folder / "result.json",
        )  # fmt: skip

    def repository(self, version: str, engine: bytes) -> Path:
        folder = self.empty(f"repository-{version}")
        (folder / "models/llm/1/engine").mkdir(parents=True)
        (folder / "models/llm/1/engine/engine.bin").write_bytes(engine * 1000)
        (folder / "runtime").mkdir()
        lock = ROOT / "dockerfiles/triton-openvino/requirements.lock"
        (folder / "runtime/requirements.lock").write_bytes(lock.read_bytes())
        write_spec(folder, a_spec())
        return folder

    def smoke_result(self) -> Path:
        folder = self.empty("smoke")
        (folder / "result.json").write_text(_result().model_dump_json())
        return folder

    def chain(self, trees: dict[str, str]) -> Path:
        at, on = "2026-11-24T04:00:00Z", "local linux/amd64"
        links = [
            Link("checkpoint", "1" * 64, {}, {"checkpoint": "a" * 64}, 1.0, at, on),
            Link("engine@other", "2" * 64, {}, {"engine": "c" * 64}, 1.0, at, on),
            Link("repository@development", "3" * 64, {"checkpoint": "a" * 64},
                 {"repository": trees["repository"]}, 2.5, at, on),
            Link("smoke@development", "4" * 64, {"repository": trees["repository"]},
                 {"result": trees["smoke"]}, 1.0, at, on),
        ]  # fmt: skip
        return self.json("chain", [asdict(link) for link in links])

    def empty(self, name: str) -> Path:
        number = len(list(self.folder.glob(f"{name}.*")))
        folder = self.folder / f"{name}.{number}"
        folder.mkdir()
        return folder

    def client(self) -> TrustedStore:
        objects = open_store(self.store, cache=self.folder / "device cache").objects
        root = (self.keys / "root.json").read_bytes()
        trusted = TrustedStore(objects, self.folder / "device", root)
        trusted.refresh()
        return trusted


@pytest.fixture
def release(tmp_path: Path) -> Release:
    made = Release(tmp_path)
    keys.init(made.keys, passphrase=PASSPHRASE, now=datetime.now(UTC), store_url=made.store)
    return made


def test_release_is_proved_published_and_believed_by_a_device(
    release: Release, tmp_path: Path
) -> None:
    done = release.release("1.0.0")
    assert (done["written"], done["points_to"]) == (True, "1.0.0")
    assert json.loads((tmp_path / "result.json").read_bytes()) == done
    assert "demo 1.0.0 development: published" in release.errors

    client = release.client()
    channel = client.channel("demo", "canary")
    manifest = client.manifest("demo", channel.version, "development")
    assert manifest.fit.runtime == {"openvino": "2026.1.0"}
    assert list(manifest.serving.environments) == ["triton-openvino"]
    steps = ["checkpoint", "repository@development", "smoke@development"]
    assert [link.step for link in manifest.chain] == steps
    assert manifest.smoke.ttft_ms_p50 == 11.0

    store = open_store(release.store, cache=tmp_path / "device cache")
    store.unpack(manifest.tree.digest, tmp_path / "tree")
    store.unpack(manifest.proofs.digest, tmp_path / "proofs")
    trusted = client.proof_keys()
    proven = proofs.verify_provenance(tmp_path / "proofs", manifest, trusted)
    assert proven.builder == "urn:forge:runner:local%20linux%2Famd64"
    assert proven.finished == "2026-11-24T04:00:02Z"
    proofs.verify_model_signature(tmp_path / "proofs", tmp_path / "tree", trusted)


@pytest.mark.slow
def test_release_with_nothing_to_do_changes_no_object(release: Release, tmp_path: Path) -> None:
    release.release("1.0.0")
    before = _objects(tmp_path / "store/tuf")
    done = release.release("1.0.0")
    assert done["written"] is False
    assert done["parts"][0]["outcome"] == "unchanged"
    assert _objects(tmp_path / "store/tuf") == before


def test_release_with_nothing_to_do_loads_no_crypto_and_asks_no_passphrase(
    release: Release,
) -> None:
    release.release("1.0.0")
    request, digests = release.folder / "request.json", release.folder / "digests.json"
    program = (
        "import sys; from forge.release.steps.publish import main; code = main(sys.argv[1:]);"
        "heavy = {'tuf', 'cryptography', 'model_signing', 'securesystemslib', 'boto3'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FORGE_PASSPHRASE")}
    done = subprocess.run(
        [sys.executable, "-c", program, "--store", release.store, "--keys",
         str(release.keys), "--request", str(request), "--digests", str(digests),
         "--chain", str(release.folder / "chain.json")],
        check=True, capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "0 []"


@pytest.mark.slow
def test_other_bytes_under_a_published_version_end_with_exit_code_9(release: Release) -> None:
    release.release("1.0.0")
    assert release.release("1.0.0", engine=b"changed") == 9
    assert "demo 1.0.0 for development is already published with other content" in release.errors
    assert "tree.digest" in release.errors
    assert "new version" in release.errors
    assert "Traceback" not in release.errors
    assert release.client().channel("demo", "canary").version == "1.0.0"


def test_wrong_passphrase_ends_with_exit_code_2(release: Release) -> None:
    release.release("1.0.0")
    trees = json.loads((release.folder / "given.json").read_bytes())
    digests = json.loads((release.folder / "digests.json").read_bytes())
    trees["proofs"] = digests["proofs-development"]
    code = release.run(
        "publish", "--store", release.store, "--keys", release.keys,
        "--request", release.json("request", _renamed(release, "1.1.0")),
        "--digests", release.folder / "digests.json", "--chain", release.folder / "chain.json",
        passphrase="wrong",
    )  # fmt: skip
    assert code == 2
    assert "Cannot open the key" in release.errors
    assert release.client().channel("demo", "canary").version == "1.0.0"


def test_missing_keys_end_with_exit_code_2_and_the_command_that_makes_them(
    release: Release,
) -> None:
    release.release("1.0.0")
    code = release.run(
        "publish", "--store", release.store, "--keys", release.folder / "nowhere",
        "--request", release.json("request", _renamed(release, "1.1.0")),
        "--digests", release.folder / "digests.json", "--chain", release.folder / "chain.json",
    )  # fmt: skip
    assert code == 2
    assert "forge keys init" in release.errors


def test_smoke_result_of_another_tree_ends_with_exit_code_3_and_nothing_is_published(
    release: Release, tmp_path: Path
) -> None:
    """The tree that ships is proved, and its numbers are those of another one."""
    release.release("1.0.0")
    before = _objects(tmp_path / "store/tuf")
    chain = json.loads((release.folder / "chain.json").read_bytes())
    chain[-1]["inputs"]["repository"] = "b" * 64
    code = release.run(
        "publish", "--store", release.store, "--keys", release.keys,
        "--request", release.json("request", _renamed(release, "1.1.0")),
        "--digests", release.folder / "digests.json", "--chain", release.json("chain", chain),
        "--json",
    )  # fmt: skip
    assert code == 3
    assert "was measured on another tree than the one that ships" in release.errors
    assert "smoke@development took repository bbbbbbbbbbbb" in release.errors
    assert "Traceback" not in release.errors
    assert _objects(tmp_path / "store/tuf") == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": "demo"}'])
def test_request_that_is_not_one_ends_with_exit_code_3(release: Release, text: str) -> None:
    request = release.folder / "request.json"
    request.write_text(text)
    digests, chain = release.json("digests", {}), release.json("chain", [])
    code = release.run(
        "publish", "--store", release.store, "--keys", release.keys, "--request", request,
        "--digests", digests, "--chain", chain,
    )  # fmt: skip
    assert code == 3
    assert "request" in release.errors
    assert "Traceback" not in release.errors


def test_signature_verifies_with_the_reference_tool_of_model_signing(release: Release) -> None:
    """What NVIDIA's catalogue and any other user of the format would run."""
    release.release("1.0.0")
    engine = next(release.folder.glob("repository-1.0.0.*")) / "models/llm/1/engine"
    command = [
        sys.executable, "-m", "model_signing", "verify", "key", str(engine),
        "--signature", str(release.folder / "proofs.0/model.sig"),
        "--public_key", str(release.keys / "model.pub.pem"),
    ]  # fmt: skip
    good = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0, good.stderr
    (engine / "engine.bin").write_bytes(b"other")
    bad = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert bad.returncode != 0


def _renamed(release: Release, version: str) -> dict[str, Any]:
    request: dict[str, Any] = json.loads((release.folder / "request.json").read_bytes())
    return request | {"version": version}


def _objects(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _profile() -> Profile:
    return profiles.load("development", ROOT / "profiles").profile


def _result() -> Result:
    return result(measured(1, ttft_ms=11.0, rate=80.0))
