"""Both architectures of the shipped images, really built, pushed, pulled, started and asked.

Base: a small Debian made by mmdebstrap in place of python:3.11-slim, whose registry tests may not
need. Registry: docker-registry. arm64 runs under qemu where the machine is amd64.
"""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from forge.canonical import sha256
from forge.images.documents import IMAGE_FILE, ImageDocument, sbom_file
from forge.images.platforms import PLATFORMS, Platform
from forge.release.attest.sbom import parse_lock
from forge.store import open_store
from tests.support import containers
from tests.support.project_world import ROOT, World

pytestmark = [
    pytest.mark.images,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(3 * containers.LONG_S),
]


@dataclass(frozen=True)
class Pushed:
    """A project whose device image was built and pushed."""

    world: World
    registry: containers.Registry
    updated: Any
    before: str
    said: str

    def images(self, *more: str) -> list[str]:
        """Words after `forge run` or `forge plan`."""
        registry = f"http://{self.registry.host}/forge"
        chosen = ("--profile", "development", "--registry", registry, *more)
        return ["images", *chosen]

    def read(self, image: str, path: str) -> bytes:
        """One file of an index step's output, out of the store."""
        rows = self.world.json("run", *self.images("--only", f"index@{image}"))
        outputs = {row["step"]: row["outputs"] for row in rows}
        store = open_store(str(self.world.project / "artifacts"), cache=self.world.project / "c")
        tree = outputs[f"index@{image}"]["index"]["digest"]
        return store.read_file(tree, path, max_bytes=10_000_000)

    def document(self, image: str) -> ImageDocument:
        """What an index step says of its image."""
        return ImageDocument.model_validate_json(self.read(image, IMAGE_FILE))


@pytest.fixture(scope="module")
def pushed(module_folder: Path) -> Iterator[Pushed]:
    containers.skip_without_programs()
    folder = module_folder
    with containers.storage(folder), containers.registry(folder) as server:
        base = containers.push_base(server, folder, "base")
        project = folder / "project"
        for name in ("pipelines", "stages", "profiles", "dockerfiles"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, project / name, ignore=ignore)
        bases = project / "dockerfiles" / "bases.yaml"
        real = "docker.io/library/python:3.11-slim-bookworm"
        before = bases.read_text().replace(real, f"http://{base}")
        bases.write_text(before)
        world = World(project)
        world.forge("keys", "init")
        updated = world.json("images", "update", "python-3.11")
        made = Pushed(world, server, updated, before, "")
        push = made.images("--push", "true", "--only", "push@device")
        yield Pushed(world, server, updated, before, world.forge("run", *push).stderr)


def test_update_writes_the_digest_the_registry_has_and_nothing_else(pushed: Pushed) -> None:
    digest = pushed.registry.manifest("base", "1").headers["Docker-Content-Digest"]
    assert pushed.updated == [{"base": "python-3.11", "before": "none", "digest": digest}]
    text = (pushed.world.project / "dockerfiles" / "bases.yaml").read_text()
    # The first of them: a comment above says "digest: null", too.
    assert text == pushed.before.replace("\n  digest: null", f"\n  digest: {digest}", 1)


def test_one_index_names_both_platforms_by_digest(pushed: Pushed) -> None:
    document = pushed.document("device")
    answer = pushed.registry.manifest("forge/device", "latest")
    assert answer.headers["Docker-Content-Digest"] == document.digest
    entries = {
        f"{entry['platform']['os']}/{entry['platform']['architecture']}": entry["digest"]
        for entry in answer.json()["manifests"]
    }
    assert entries == {image.platform: image.digest for image in document.platforms}
    assert set(entries) == set(PLATFORMS)
    assert document.reference == f"{pushed.registry.host}/forge/device@{document.digest}"


def test_emulation_is_warned_about_with_what_it_costs(pushed: Pushed) -> None:
    warnings = [line for line in pushed.said.splitlines() if ": building linux/" in line]
    assert len(warnings) == 1
    assert "with qemu emulation" in warnings[0]
    assert "--runners" in warnings[0]


def test_second_run_builds_nothing_and_pushing_again_changes_nothing(pushed: Pushed) -> None:
    before = pushed.registry.manifest("forge/device", "latest").content
    push = pushed.images("--push", "true", "--only", "push@device")
    rows = {row["step"]: row["status"] for row in pushed.world.json("run", *push)}
    assert {step: status for step, status in rows.items() if status != "skipped"} == {
        "image@device-amd64": "hit",
        "image@device-arm64": "hit",
        "index@device": "hit",
        "push@device": "always",
    }
    assert pushed.registry.manifest("forge/device", "latest").content == before


@pytest.mark.parametrize("platform", PLATFORMS)
def test_device_image_starts_as_nobody_special_and_its_health_command_agrees(
    pushed: Pushed, platform: Platform, tmp_path: Path
) -> None:
    root = tmp_path / "root.json"
    shutil.copyfile(pushed.world.keys / "root.json", root)
    root.chmod(0o644)
    with containers.container(pushed.document("device").reference, platform) as name:
        config = json.loads(containers.run("buildah", "inspect", name))["OCIv1"]
        assert f"linux/{config['architecture']}" == platform
        assert config["config"]["User"] == "65532:65532"
        state = tmp_path / "state"
        state.mkdir()
        shutil.chown(state, 65532, 65532)
        volumes = {root: "/root.json", state: "/var/lib/forge"}
        forge = shlex.join(config["config"]["Entrypoint"])
        provision = (
            "provision --store /var/lib/forge/store --root /root.json --name smollm2 --offline"
        )
        health = config["config"]["Labels"]["forge.health"]
        script = f"""
            {forge} {provision}
            {forge} {shlex.join(config["config"]["Cmd"])} & agent=$!
            tries=0
            until {health}; do
                kill -0 $agent; tries=$((tries + 1)); test $tries -lt 120; sleep 1
            done 2>/dev/null
            id -u; echo healthy
            kill $agent; wait $agent && echo stopped
            ! {health} 2>/dev/null && echo unhealthy
        """
        argv = containers.start_argv(name, ["sh", "-euc", script], volumes=volumes)
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=containers.LONG_S, check=False
        )
        assert done.stdout.split()[-4:] == ["65532", "healthy", "stopped", "unhealthy"], done


def test_sbom_of_each_platform_says_what_lies_in_its_image(pushed: Pushed) -> None:
    for image in pushed.document("device").platforms:
        data = pushed.read("device", sbom_file(image.platform))
        assert f"sha256:{sha256(data)}" == image.sbom
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
        bom = json.loads(data)
        assert bom["metadata"]["component"]["version"] == image.digest
        names = {component["name"] for component in bom["components"]}
        locked = {
            one.name for one in parse_lock((ROOT / "requirements-device-s3.lock").read_text())
        }
        assert names >= locked


def test_image_built_twice_has_the_same_digest(pushed: Pushed) -> None:
    one = "image@huggingface-amd64"

    def build() -> Any:
        rows = pushed.world.json("run", *pushed.images("--only", one))
        (row,) = [row for row in rows if row["step"] == one]
        assert row["status"] == "run"
        return row["outputs"]

    first = build()
    shutil.rmtree(pushed.world.project / "artifacts" / "actions")
    assert build() == first
