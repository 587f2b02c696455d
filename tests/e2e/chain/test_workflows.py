"""The workflows: their own commands, in clean clones that share one real S3 store and one KMS."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import Manifest, parse_manifest
from forge.release.lifecycle.keys import init
from tests.support.kms import Kms, kms
from tests.support.project_world import World
from tests.support.seaweed import ROLES, ROLES_BUCKET, Seaweed
from tests.support.workflow import Machine, Result, load, run_job

__all__ = ["kms"]

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(1200)]
# A profile whose cell requires a labelled runner, and whose model is the same as development's.
LABELLED = """
    extends: development
    description: a labelled machine, on its CPU
    runner: {labels: [self-hosted, linux, x64, gpu-sm61]}
"""
PROFILES = "development,labelled"
# What the job asks of gh: a release is there once it was created.
GH = """#!/bin/sh
echo "$*" >>'{asked}'
case "$2" in
  view) test -f '{asked}.created' ;;
  create) touch '{asked}.created' ;;
esac
"""
NO_CELL: Mapping[str, str] = {}
MATRIX = re.compile(r"\$\{\{ fromJSON\(needs\.plan\.outputs\.matrix\)\.rounds\[(\d)\] \}\}")


class Run:
    """One run of the release workflow: every job gets a machine of its own."""

    def __init__(self, seaweedfs: Seaweed, kms: Kms, folder: Path) -> None:
        self.workflow = load("release.yml")
        self.folder = folder
        self.environment = seaweedfs.environment
        self.roles = {
            f"arn:aws:iam::0:role/{name}": seaweedfs.role(name) | kms_of(kms, name)
            for name in ROLES
        }
        seaweedfs.client().create_bucket(Bucket=ROLES_BUCKET)
        self.store = f"s3://{ROLES_BUCKET}/forge"
        self.values = {
            "inputs.version": "1.0.0",
            "inputs.profiles": PROFILES,
            "inputs.name": "",
            "inputs.model": "",
            "inputs.channel": "canary",
            "inputs.new_channel": "",
            "github.ref_name": "main",
            "github.token": "token",
            "vars.FORGE_PACKAGE": "",
            "vars.FORGE_BUNDLE": "smollm2",
            "vars.FORGE_MODEL": "",
            "vars.FORGE_PROFILES": "",
            "vars.FORGE_STORE": self.store,
            "vars.FORGE_S3_ENDPOINT": seaweedfs.endpoint,
            "vars.AWS_REGION": "us-east-1",
            "vars.FORGE_PLAN_ROLE": "arn:aws:iam::0:role/plan",
            "vars.FORGE_BUILD_ROLE": "arn:aws:iam::0:role/build",
            "vars.FORGE_DEVICE_ROLE": "arn:aws:iam::0:role/device",
            "vars.FORGE_BUILDER_KEY": "",
            "vars.FORGE_DEVICE_BUILDER_KEY": "",
            "vars.FORGE_PUBLISH_BUILDER_KEY": "",
            "vars.FORGE_PUBLISH_ROLE": "arn:aws:iam::0:role/publish",
            "vars.FORGE_PROMOTE_ROLE": "arn:aws:iam::0:role/promote",
            "vars.FORGE_REFRESH_ROLE": "arn:aws:iam::0:role/refresh",
            "vars.FORGE_KEYS": str(public_keys(kms, folder.parent)),
        }

    def machine(self) -> Machine:
        number = sum(1 for _ in self.folder.iterdir())
        machine = Machine(self.folder / f"machine-{number}", self.roles)
        add_profile(machine.clone)
        return machine

    def job(self, name: str, cell: Mapping[str, str] = NO_CELL, fails: int = 0) -> Result:
        result = run_job(self.workflow, name, self.machine(), self.known(cell))
        assert result.exit_code == fails, result.log
        return result

    def killed(self, name: str, cell: Mapping[str, str], when: Callable[[Path], bool]) -> Result:
        machine = self.machine()
        clone = machine.clone
        return run_job(self.workflow, name, machine, self.known(cell), lambda: when(clone))

    def known(self, cell: Mapping[str, str]) -> dict[str, str]:
        return self.values | {f"matrix.{name}": value for name, value in cell.items()}

    def rows(self, job: str, planned: Result) -> list[dict[str, str]]:
        """The job's cells: what its `strategy.matrix` takes from the plan's output."""
        made = MATRIX.fullmatch(self.workflow["jobs"][job]["strategy"]["matrix"])
        assert made is not None
        rows = json.loads(planned.outputs["matrix"])["rounds"][int(made.group(1))]["include"]
        return [{key: row[key] for key in ("id", "name", "labels", "profile")} for row in rows]


def add_profile(project: Path) -> None:
    (project / "profiles" / "labelled.yaml").write_text(textwrap.dedent(LABELLED))


def kms_of(kms: Kms, role: str) -> dict[str, str]:
    """The roles that build cannot reach the KMS."""
    return {} if role in {"plan", "build", "device"} else {"AWS_ENDPOINT_URL_KMS": kms.endpoint}


def public_keys(kms: Kms, folder: Path) -> Path:
    """The folder that docs/how-to/github-actions.md puts into the repository: nothing secret."""
    made, public = folder / "offline", folder / "keys"
    uris = {role: kms.make(role) for role in ("bundles", "model", "channels", "online")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kms.environment.items():
            patch.setenv(name, value)
        init(made, passphrase="of the offline keys", now=datetime.now(UTC), uris=uris)
    public.mkdir()
    for name in ("keys.json", "root.json", "metadata", "targets"):
        source = made / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, public / name)
    return public


def in_the_middle_of(step: str) -> Callable[[Path], bool]:
    """Whether a clone's job has a command of `step` running that has printed something."""

    def is_running(clone: Path) -> bool:
        logs = (clone / ".forge" / "running").glob(f"{step}-*/log.txt")
        return any(log.stat().st_size for log in logs)

    return is_running


def identity(document: dict[str, Any]) -> tuple[str, dict[str, dict[str, str]]]:
    """What makes a release itself, and how its bytes came to be: no times, no measurements.

    Links by key, not by step: a step of another profile may have made what both share.
    """
    known = {key: value for key, value in document.items() if key in Manifest.model_fields}
    manifest = parse_manifest(json.dumps(known).encode())
    links = {
        link.key: link.outputs
        for link in manifest.chain
        if link.step.partition("@")[0] in {"checkpoint", "engine", "repository", "sbom"}
    }
    return manifest.identity(), links


def test_jobs_on_clean_machines_release_the_same_bundle_though_one_is_killed(
    world: World, seaweedfs: Seaweed, kms: Kms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = tmp_path / "machines"
    machines.mkdir()
    add_profile(world.project)
    run = Run(seaweedfs, kms, machines)
    assert list(run.workflow["jobs"]) == ["plan", "build", "device", "publish", "github-release"]
    planned = run.job("plan")
    assert "development on ubuntu-24.04" in planned.summary
    cell, *others = sorted(run.rows("build", planned), key=lambda row: row["name"])
    assert cell["name"] == "development on ubuntu-24.04"
    (device,) = run.rows("device", planned)

    killed = run.killed("build", cell, in_the_middle_of("smoke@development"))
    assert killed.exit_code == -9
    for other in others:
        run.job("build", other)
    assert run.job("device", device).statuses()["smoke@labelled"] == "run"
    refused = run.job("publish", fails=4)
    assert "gate@development" in refused.log
    assert "labelled" not in refused.log.partition("remaining:")[2]

    again = run.job("build", cell).statuses()
    assert {step for step, status in again.items() if status == "run"} <= {
        "smoke@development", "gate@development", "sbom@development",
    }  # fmt: skip
    assert again["engine@development"] == again["repository@development"] == "hit"
    assert again["smoke@development"] == "run"

    published = run.job("publish")
    statuses = published.statuses()
    ran = {step for step, status in statuses.items() if status in {"run", "always"}}
    assert ran == {"proofs@development", "proofs@labelled", "publish"}
    assert "## smollm2 1.0.0\n" in published.summary  # the report

    at = ("--store", run.store)
    found = {one["profile"]: one for one in _json(world, run, "bundle", "show", "1.0.0", *at)}
    (undisturbed,) = world.json("bundle", "show", "1.0.0")
    assert identity(found["development"]) == identity(undisturbed)
    assert len(identity(undisturbed)[1]) == 4
    repository = ("--profile", "labelled", "--only", "repository@labelled")
    rows = {row["step"]: row for row in world.json("run", "release", *repository)}
    here = rows["repository@labelled"]["outputs"]["repository"]
    assert found["labelled"]["tree"] == here

    repeated = run.job("publish")
    assert repeated.statuses()["proofs@development"] == "hit"
    assert repeated.outputs == {"bundle": "smollm2", "version": "1.0.0"}
    _make_github_release(run, monkeypatch)
    run.values["inputs.name"] = "other"
    assert run.job("publish").outputs["bundle"] == "other"
    run.values["inputs.name"] = ""
    _promote(run)
    listed = _json(world, run, "channels", "--name", "smollm2", *at)
    channels = {row["channel"]: row["version"] for row in listed}
    assert channels == {"canary": "1.0.0", "stable": "1.0.0"}

    refreshed = run_job(load("refresh.yml"), "refresh", run.machine(), run.values)
    assert refreshed.exit_code == 0, refreshed.log
    assert "No metadata is due" in refreshed.log
    assert "timestamp" in refreshed.log


def _json(world: World, run: Run, *arguments: str) -> Any:
    return json.loads(world.forge(*arguments, "--json", env=run.environment).stdout)


def _make_github_release(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the job twice with a program in place of gh: GitHub itself is not here."""
    folder = run.folder.parent / "gh"
    folder.mkdir()
    asked = folder / "asked"
    (folder / "gh").write_text(GH.format(asked=asked))
    (folder / "gh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    values = run.values | {"github.ref_name": "v1.0.0", "inputs.version": "",
                           "needs.publish.outputs.bundle": "smollm2"}  # fmt: skip
    machines = [run.machine(), run.machine()]
    for machine in machines:
        result = run_job(run.workflow, "github-release", machine, values)
        assert result.exit_code == 0, result.log
    files = machines[0].clone / "release"
    checked = subprocess.check_output(["sha256sum", "-c", "SHA256SUMS"], cwd=files, text=True)
    names = {line.removesuffix(": OK") for line in checked.splitlines()}
    assert {f"smollm2-1.0.0-{one}.sbom.cdx.json" for one in PROFILES.split(",")} < names
    first, *others = asked.read_text().splitlines()
    assert first == "release view v1.0.0"
    assert others[0].startswith("release create v1.0.0 --verify-tag --draft --title smollm2 1.0.0")
    uploads = [line.split() for line in others if line.startswith("release upload v1.0.0 ")]
    assert [
        {Path(one).name for one in words if one.startswith("release/")} for words in uploads
    ] == [names | {"SHA256SUMS"}] * 2
    assert [line for line in others if " create " in line] == others[:1]
    assert others[-1] == "release edit v1.0.0 --draft=false"


def _promote(run: Run) -> None:
    workflow = load("promote.yml")
    values = run.values | {
        "inputs.version": "v1.0.0", "inputs.channel": "stable", "inputs.back": "false",
        "inputs.new_channel": "true",
    }  # fmt: skip
    result = run_job(workflow, "promote", run.machine(), values)
    assert result.exit_code == 0, result.log
    assert "| smollm2 | stable | — | 1.0.0 |" in result.summary
