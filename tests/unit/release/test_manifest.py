"""Manifests made from the publish step's request and the trees in the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forge import profiles
from forge.canonical import sha256
from forge.errors import ConfigurationError, NotInStoreError, UsageError
from forge.release.manifest import build, parse_request
from forge.release.repository.unverified_index import request_digest
from forge.steps import Link
from forge.store.formats.tree import Tree, TreeEntry
from stages.publish import READS
from tests.support.compiler import wanted
from tests.support.release_world import NOW

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = profiles.names(ROOT / "profiles")
PERCENTILES = {"p50": 11.0, "p90": 12.0, "p99": 13.0}
RESULT: dict[str, Any] = {
    "schema_version": 1,
    "created": "2026-11-24T04:00:00Z",
    "machine": {
        "cpu": "test", "cores": 2, "memory_mib": 4096, "gpu": None, "driver": None,
        "power_mode": None,
    },
    "settings": {
        "prompts": "default", "golden": [], "concurrency": [1, 4], "requests": 1, "max_tokens": 8,
    },
    "model": "llm",
    "triton": "2.60",
    "runtime": {},
    "server": {"ready_s": 1.0, "cpu_s": 1.0, "peak_rss_mib": 500.0},
    "golden": [],
    "measured": [
        {
            "concurrency": level, "requests": 4, "errors": 0, "error_rate": 0.0,
            "error_examples": [], "seconds": 1.0, "output_tokens": 80,
            "output_tokens_per_s": 80.0 * level, "ttft_ms": PERCENTILES,
            "inter_token_ms": PERCENTILES,
        }
        for level in (4, 1)
    ],
}  # fmt: skip
SPEC: dict[str, Any] = {
    "schema_version": 1, "model": "llm", "server": "environment", "environment": "triton-openvino",
    "python": "3.11", "lock": "runtime/requirements.lock", "image": None, "repository": "models",
    "builder": "openvino", "runtime": {"openvino": "2026.1.0"}, "max_batch_size": 8,
    "max_input_len": 1024, "max_seq_len": 2048, "default_max_tokens": 64, "start_timeout_s": 60.0,
    "golden": [],
}  # fmt: skip


@dataclass
class Trees:
    """Trees in memory by use; their digests are made from the use."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def tree(self, digest: str) -> Tree:
        files = self._files(digest)
        entries = [
            TreeEntry(path=path, mode=0o644, size=len(data), sha256=sha256(data))
            for path, data in sorted(files.items())
        ]
        return Tree(entries=tuple(entries))

    def read_file(self, digest: str, path: str, *, max_bytes: int) -> bytes:
        data = self._files(digest).get(path)
        if data is None:
            raise NotInStoreError(f"There is no {path}")
        assert len(data) <= max_bytes
        return data

    def _files(self, digest: str) -> dict[str, bytes]:
        for use, files in self.files.items():
            if digest_of(use) == digest:
                return files
        raise NotInStoreError(f"There is no tree {digest}")


def digest_of(use: str) -> str:
    return sha256(use.encode())


def measured(repository: str) -> Link:
    """The link of a smoke benchmark of this tree."""
    digests = {"repository": repository}
    return Link("smoke@x", "d" * 64, digests, {"result": digest_of("smoke")}, 1.0, "", "")


MEASURED = (measured(digest_of("repository")),)


@pytest.fixture
def trees() -> Trees:
    return Trees(
        {
            "repository": {
                "serving.json": json.dumps(SPEC).encode(),
                "runtime/requirements.lock": b"numpy==2.1.0",
            },
            "smoke": {"result.json": json.dumps(RESULT).encode()},
            "proofs": {"model.sig": b"{}"},
        }
    )


def request(*names: str, **changes: Any) -> bytes:
    parts = [
        {
            "profile": profiles.select(profiles.load(name, ROOT / "profiles").profile, READS),
            "inputs": {use: f"{use}-{name}" for use in ("repository", "smoke", "proofs")},
        }
        for name in names or ("development",)
    ]
    document = {"name": "demo", "version": "1.0.0", "channel": "canary", "parts": parts}
    return json.dumps(document | changes).encode()


def digests(*names: str) -> dict[str, str]:
    uses = ("repository", "smoke", "proofs")
    return {f"{use}-{name}": digest_of(use) for name in names or ("development",) for use in uses}


def test_manifest_holds_what_profile_repository_and_benchmark_say(trees: Trees) -> None:
    tree = digest_of("repository")
    links = (
        Link("repository@development", "a" * 64, {}, {"repository": tree}, 1.0, "", ""),
        Link("other@thor", "b" * 64, {}, {"repository": "c" * 64}, 1.0, "", ""),
        *MEASURED,
    )
    (planned,) = build(trees, parse_request(request()), digests(), links, NOW)
    manifest = planned.manifest
    assert (manifest.name, manifest.version, manifest.profile) == ("demo", "1.0.0", "development")
    assert manifest.created == "2026-11-24T04:00:00Z"
    assert manifest.tree == trees.tree(digest_of("repository")).reference()
    assert manifest.proofs == trees.tree(digest_of("proofs")).reference()
    assert manifest.fit.platform == "linux/amd64"
    assert manifest.fit.runtime == {"openvino": "2026.1.0"}
    lock = sha256(b"numpy==2.1.0")
    assert manifest.serving.environments == {"triton-openvino": lock}
    assert (manifest.smoke.concurrency, manifest.smoke.output_tokens_per_s) == (1, 80.0)
    assert [link.step for link in manifest.chain] == ["repository@development", "smoke@x"]


def test_fit_asks_for_what_compiling_on_the_device_needs(trees: Trees) -> None:
    spec = SPEC | {"compile_on_device": wanted(memory_mib=99_000).model_dump()}
    trees.files["repository"]["serving.json"] = json.dumps(spec).encode()
    (planned,) = build(trees, parse_request(request()), digests(), MEASURED, NOW)
    needs = profiles.load("development", ROOT / "profiles").profile.requires
    assert planned.manifest.fit.memory_mib == 99_000
    assert planned.manifest.fit.free_disk_mib == needs.free_disk_mib + 1
    small = SPEC | {"compile_on_device": wanted(memory_mib=1).model_dump()}
    trees.files["repository"]["serving.json"] = json.dumps(small).encode()
    (planned,) = build(trees, parse_request(request()), digests(), MEASURED, NOW)
    assert planned.manifest.fit.memory_mib == needs.memory_mib


@pytest.mark.parametrize("name", SHIPPED)
def test_device_is_told_the_power_and_temperatures_of_its_profile(trees: Trees, name: str) -> None:
    (planned,) = build(trees, parse_request(request(name)), digests(name), MEASURED, NOW)
    profile = profiles.load(name, ROOT / "profiles").profile
    told = planned.manifest.operating
    assert told is not None
    assert (told.power, told.thermal) == (profile.power, profile.thermal)


@pytest.mark.parametrize("name", SHIPPED)
def test_request_of_every_shipped_profile_is_read_and_found_again(trees: Trees, name: str) -> None:
    """The quick path digests the step's JSON, the thorough one the parsed request."""
    data = request(name)
    (planned,) = build(trees, parse_request(data), digests(name), MEASURED, NOW)
    part = json.loads(data)["parts"][0]
    assert planned.request == request_digest("demo", "1.0.0", part, digests(name))


def test_one_manifest_for_each_profile(trees: Trees) -> None:
    data = request("development", "jetson-agx-thor")
    given = digests("development", "jetson-agx-thor")
    planned = build(trees, parse_request(data), given, MEASURED, NOW)
    assert [one.manifest.profile for one in planned] == ["development", "jetson-agx-thor"]
    assert planned[0].manifest.identity() != planned[1].manifest.identity()


@pytest.mark.parametrize(
    ("change", "kind", "phrase"),
    [
        ({"version": "one"}, UsageError, "is not a valid version"),
        ({"name": "../x"}, UsageError, "is not a valid name"),
        ({"channel": ""}, UsageError, "is not a valid name"),
        ({"parts": []}, ConfigurationError, "parts"),
        ({"surprise": 1}, ConfigurationError, "surprise"),
    ],
)
def test_request_that_is_wrong_is_named(
    change: dict[str, Any], kind: type[Exception], phrase: str
) -> None:
    with pytest.raises(kind, match=phrase):
        parse_request(request(**change))


def test_profile_twice_in_a_request_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one part for each profile"):
        parse_request(request("development", "development"))


def test_input_without_a_digest_is_named(trees: Trees) -> None:
    given = digests()
    del given["smoke-development"]
    with pytest.raises(ConfigurationError, match="no input 'smoke-development'"):
        build(trees, parse_request(request()), given, MEASURED, NOW)


@pytest.mark.parametrize(
    ("tree", "path", "data", "phrase"),
    [
        ("repository", "serving.json", b"{}", r"serving\.json of tree \w+ is not valid"),
        ("smoke", "result.json", b"no", r"result\.json of tree \w+ is not valid"),
    ],
)
def test_small_file_that_is_spoiled_is_named(
    trees: Trees, tree: str, path: str, data: bytes, phrase: str
) -> None:
    trees.files[tree][path] = data
    with pytest.raises(ConfigurationError, match=phrase):
        build(trees, parse_request(request()), digests(), MEASURED, NOW)


def test_smoke_result_of_another_tree_is_refused(trees: Trees) -> None:
    """Also where that tree became the one that ships: pruned after it was measured, say."""
    tree, other = digest_of("repository"), digest_of("other")
    links = (
        measured(other),
        Link("prune@x", "e" * 64, {"repository": other}, {"repository": tree}, 1.0, "", ""),
    )
    with pytest.raises(ConfigurationError, match="measured on another tree") as caught:
        build(trees, parse_request(request()), digests(), links, NOW)
    wanted = f"tree {tree[:12]} ships, but smoke@x took repository {other[:12]}"
    assert caught.value.why == wanted


def test_smoke_result_that_two_steps_wrote_needs_one_of_the_tree_that_ships(trees: Trees) -> None:
    links = (measured(digest_of("other")), *MEASURED)
    assert build(trees, parse_request(request()), digests(), links, NOW)


def test_smoke_results_of_two_skus_are_not_each_others(trees: Trees) -> None:
    trees.files["other"] = trees.files["repository"]
    given = digests("development", "jetson-agx-thor")
    given["repository-jetson-agx-thor"] = digest_of("other")
    data = parse_request(request("development", "jetson-agx-thor"))
    with pytest.raises(ConfigurationError, match="result of jetson-agx-thor was measured on"):
        build(trees, data, given, MEASURED, NOW)


def test_smoke_result_that_no_step_made_is_refused(trees: Trees) -> None:
    with pytest.raises(ConfigurationError, match="No step of the chain produced the smoke result"):
        build(trees, parse_request(request()), digests(), (), NOW)


def test_lock_that_is_missing_in_the_repository_is_named(trees: Trees) -> None:
    del trees.files["repository"]["runtime/requirements.lock"]
    with pytest.raises(ConfigurationError, match="lacks the lock"):
        build(trees, parse_request(request()), digests(), MEASURED, NOW)


def test_tree_that_is_not_in_the_store_is_named(trees: Trees) -> None:
    del trees.files["proofs"]
    with pytest.raises(NotInStoreError, match="There is no tree"):
        build(trees, parse_request(request()), digests(), MEASURED, NOW)
