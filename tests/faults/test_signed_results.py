"""A shared store in the hands of a thief: what he inserts is not used, and never signed.

The commands of a release, in a project whose forge.yaml names two builders.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from forge.errors import StoreError
from forge.store import ActionResult, Store, open_store
from forge.store.formats.signed_result import result_statement
from tests.support.seaweed import ROLES_BUCKET, Seaweed
from tests.support.small_project import SmallProject, small_project
from tests.support.trusted_builders import builders, signer, write_key, write_project_file

ENGINE, SMOKE, PROOFS = "engine@development", "smoke@development", "proofs@development"
ARGUMENTS: Final = ("release", "--profile", "development")
PIPELINE: Final = '''\
from forge.plan import Plan
from forge.steps import Step


def release(profiles) -> Plan:
    """Make an engine, measure it, and sign what the engine says."""
    steps = []
    for one in profiles:
        engine = Step(
            id=f"engine@{one.name}", argv=("sh", "-ceu", "echo good > ${outputs.engine}/f"),
            outputs=("engine",))
        smoke = Step(
            id=f"smoke@{one.name}",
            argv=("sh", "-ceu", "cp ${inputs.engine}/f ${outputs.result}/f"),
            inputs={"engine": engine["engine"]}, outputs=("result",))
        steps.append(Step(
            id=f"proofs@{one.name}",
            argv=("sh", "-ceu", "test -d ${keys}; cp ${inputs.result}/f ${outputs.proofs}/signed"),
            inputs={"result": smoke["result"]}, outputs=("proofs",),
            secrets=("FORGE_PASSPHRASE",)))
    return Plan.of("release", [], steps)
'''


@dataclass(frozen=True)
class Shared:
    """The project, a store that its jobs share, and the key of each builder."""

    project: SmallProject
    folder: Path

    @property
    def url(self) -> str:
        return str(self.folder / "store")

    @property
    def store(self) -> Store:
        return open_store(self.url, cache=self.folder / "cache")

    def run(self, *more: str, builder: str = "", fails: int = 0, **given: str) -> Any:
        """A job of the release; its steps by id, or what it printed if it fails."""
        variables: dict[str, Any] = {"FORGE_STORE": self.url, **given}
        if builder:
            path = self.folder / f"{builder}.pem"
            key = path if path.exists() else write_key(path, builder)
            variables["FORGE_BUILDER_KEY"] = str(key)
        done = self.project.run("run", *ARGUMENTS, *more, "--json", fails=fails, **variables)
        if fails:
            return " ".join(done.stderr.split())
        return {one["step"]: one for one in json.loads(done.stdout)}

    def rows(self) -> dict[str, dict[str, str]]:
        done = self.project.run("plan", *ARGUMENTS, "--json", FORGE_STORE=self.url)
        return {one["step"]: one for one in json.loads(done.stdout)}

    def built(self) -> None:
        """What the jobs before the one that signs do."""
        self.run("--only", ENGINE, builder="hosted")
        self.run("--only", SMOKE, builder="gpu")

    def evil(self, step: str, key: str, text: str = "evil") -> ActionResult:
        """A result of the thief's with other bytes, whose tree is in the store."""
        folder = self.folder / f"evil-{text}-{key[:6]}"
        folder.mkdir(exist_ok=True)
        (folder / "f").write_text(text)
        found = self.store.action(key)
        assert found is not None
        (output,) = found.outputs
        tree = self.store.put_tree(folder)
        return found.model_copy(update={"step": step, "outputs": {output: tree}})

    def signed_text(self, done: dict[str, Any]) -> str:
        tree = done[PROOFS]["outputs"]["proofs"]["digest"]
        return self.store.read_file(tree, "signed", max_bytes=100).decode().strip()


@pytest.fixture
def project(tmp_path: Path) -> Shared:
    project = small_project(tmp_path / "project")
    (project.root / "pipelines" / "release.py").write_text(PIPELINE)
    write_project_file(
        project.root, builders(hosted=["engine@*"], gpu=["smoke@*"], publisher=["proofs@*"])
    )
    return Shared(project, tmp_path)


@pytest.fixture
def shared(project: Shared) -> Shared:
    project.built()
    return project


def test_jobs_use_each_others_results_and_the_last_signs(shared: Shared) -> None:
    done = shared.run("--sign-only", builder="publisher")
    assert {step: one["status"] for step, one in done.items()} == {
        ENGINE: "hit", SMOKE: "hit", PROOFS: "run"
    }  # fmt: skip
    assert shared.signed_text(done) == "good"
    assert shared.run("--sign-only")[PROOFS]["status"] == "hit"


def test_writer_of_the_store_cannot_insert_an_engine(shared: Shared) -> None:
    key = shared.rows()[ENGINE]["key"]
    shared.store.put_action(shared.evil(ENGINE, key))
    done = shared.run("--sign-only")
    assert shared.signed_text(done) == "good"
    # He deletes the signed result, too: a miss, and nothing is signed.
    shared.store.objects.delete(f"signed/hosted/{key}.json")
    said = shared.run("--sign-only", fails=4)
    assert f"Step {ENGINE} has no stored result" in said
    assert "no trusted builder signed it" in said
    row = shared.rows()[ENGINE]
    assert row["status"] == "run"
    assert "no trusted builder signed it" in row["reason"]
    # The builder makes it again.
    assert shared.run("--only", ENGINE, builder="hosted")[ENGINE]["status"] == "run"
    assert shared.signed_text(shared.run("--sign-only")) == "good"


def test_stolen_key_of_a_builder_is_good_for_its_own_steps_only(shared: Shared) -> None:
    key = shared.rows()[ENGINE]["key"]
    evil = shared.evil(ENGINE, key)
    envelope = signer("gpu").sign(result_statement(evil, "gpu"))
    for name in ("gpu", "hosted"):
        shared.store.put_signed_result(name, key, envelope)
    said = shared.run("--sign-only", fails=4)
    assert "builder gpu may not make it" in said
    assert "not signed by a key of builder hosted" in said
    # Under the name of another builder his key signs nothing either.
    forged = signer("hosted", key="gpu").sign(result_statement(evil, "hosted"))
    shared.store.put_signed_result("hosted", key, forged)
    assert "not signed by a key of builder hosted" in shared.run("--sign-only", fails=4)


def test_signed_result_cannot_be_replayed_under_another_key(shared: Shared) -> None:
    rows = shared.rows()
    envelope = shared.store.signed_result("gpu", rows[SMOKE]["key"])
    assert envelope is not None
    # What gpu signed once, for another engine: it may make the step, but not under this key.
    old = signer("gpu").sign(result_statement(shared.evil(SMOKE, rows[SMOKE]["key"]).model_copy(
        update={"key": "0" * 64}), "gpu"))  # fmt: skip
    shared.store.put_signed_result("gpu", rows[SMOKE]["key"], old)
    said = shared.run("--sign-only", fails=4)
    assert f"Step {SMOKE} has no stored result" in said
    assert "it is signed for the key 000000000000" in said


def test_cut_and_garbled_envelopes_are_misses(shared: Shared) -> None:
    key = shared.rows()[ENGINE]["key"]
    whole = shared.store.signed_result("hosted", key)
    assert whole is not None
    for bad in (b"", whole[: len(whole) // 2], whole[:-1], b"\xff" * 100, b"[" * 50_000):
        shared.store.put_signed_result("hosted", key, bad)
        row = shared.rows()[ENGINE]
        assert row["status"] == "run"
        assert "the stored result is not used" in row["reason"]
    assert f"Step {ENGINE}" in shared.run("--sign-only", fails=4)


def test_machine_without_a_key_builds_nothing_that_would_not_be_used(shared: Shared) -> None:
    shared.store.objects.delete(f"signed/gpu/{shared.rows()[SMOKE]['key']}.json")
    assert "FORGE_BUILDER_KEY" in shared.run("--only", SMOKE, fails=4)
    said = shared.run("--only", SMOKE, builder="hosted", fails=4)
    assert "forge.yaml does not allow builder hosted to make it" in said


def test_key_that_the_project_does_not_name_is_refused(shared: Shared) -> None:
    assert "belongs to no builder of this project" in shared.run(builder="thief", fails=3)


def test_own_store_needs_no_keys_of_builders(shared: Shared) -> None:
    done = shared.project.run("run", *ARGUMENTS, "--json")
    assert all(one["status"] == "run" for one in json.loads(done.stdout))
    again = shared.project.run("run", *ARGUMENTS, "--json", FORGE_STORE="artifacts")
    assert all(one["status"] == "hit" for one in json.loads(again.stdout))


def test_rights_of_each_role_suffice_and_reach_its_own_prefix_only(
    project: Shared, own_seaweedfs: Seaweed
) -> None:
    """The rights that docs/how-to/github-actions.md lists, on a real S3 server."""
    own_seaweedfs.client().create_bucket(Bucket=ROLES_BUCKET)
    url = f"s3://{ROLES_BUCKET}/forge"

    def job(role: str, *more: str, builder: str = "") -> Any:
        reach: dict[str, Any] = {
            "FORGE_STORE": url,
            **own_seaweedfs.environment,
            **own_seaweedfs.role(role),
        }
        return project.run(*more, builder=builder, **reach)

    assert job("build", "--only", ENGINE, builder="hosted")[ENGINE]["status"] == "run"
    assert job("device", "--only", SMOKE, builder="gpu")[SMOKE]["status"] == "run"
    done = job("publish", "--sign-only")
    assert [one["status"] for one in done.values()] == ["hit", "hit", "run"]

    key, bad = done[ENGINE]["key"], b"{}"
    as_role = {
        role: open_store(
            url, environment={**own_seaweedfs.environment, **own_seaweedfs.role(role)},
            cache=project.folder / "cache",
        )
        for role in ("plan", "build", "device")
    }  # fmt: skip
    with pytest.raises(StoreError, match="denied"):
        as_role["device"].put_signed_result("hosted", key, bad)
    with pytest.raises(StoreError, match="denied"):
        as_role["build"].put_signed_result("gpu", key, bad)
    for name in (f"actions/{key}.json", f"signed/gpu/{key}.json", "tuf/metadata/timestamp.json"):
        with pytest.raises(StoreError, match="denied"):
            as_role["plan"].objects.write(name, bad)
    for role in ("build", "device"):
        with pytest.raises(StoreError, match="denied"):
            as_role[role].objects.write("tuf/metadata/timestamp.json", bad)
