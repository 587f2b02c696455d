"""A bundle that is served in a container image, installed and asked inside of that image.

The image is the shipped Dockerfile on a small Debian with the real Triton where NVIDIA's images
have theirs; the container is a chroot with a network of its own, run as the image's own user.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from forge import environments
from forge.errors import FitError
from forge.images.documents import ImageDocument
from forge.images.platforms import is_native
from forge.store import open_store
from tests.support import containers, device_world
from tests.support.device_world import Says
from tests.support.project_world import ROOT
from tests.support.project_world import World as Project

pytestmark = [
    pytest.mark.images,
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.timeout(containers.LONG_S),
    pytest.mark.skipif(not is_native("linux/amd64"), reason="Triton on PyPI is for amd64 only"),
]

PROFILE = """
extends: development
description: Any amd64 Linux machine, served in an image
serving: {server: container, environment: null, image: triton-test}
"""
ASK = """
import json, urllib.request
body = json.dumps({"prompt": "What is the capital of France?"}).encode()
headers = {"Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8080/v1/inference", body, headers)
print(json.load(urllib.request.urlopen(request, timeout=60))["text"])
"""


@dataclass(frozen=True)
class Serving:
    """A serving image in a registry, a publisher, and a device that runs in the image."""

    project: Project
    image: str
    base: str
    container: str
    world: device_world.World
    state: Path

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a shell script in the container, as its user, started as its image."""
        # Not /var/lib/forge: buildah mounts an image's own VOLUME over it, or under it, by chance.
        volumes = {
            self.state: "/state",
            self.world.folder / "store": "/store",
            self.world.folder / "root.json": "/root.json",
        }
        started = f"export FORGE_IMAGE={self.image} FORGE_STATE=/state"
        words = f"{started}\nforge='/opt/forge/bin/python -m forge'\n{script}"
        argv = containers.start_argv(self.container, ["sh", "-euc", words], volumes=volumes)
        return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def serving(module_folder: Path) -> Iterator[Serving]:
    containers.skip_without_programs()
    folder = module_folder
    with containers.storage(folder), containers.registry(folder) as server:
        triton = environments.inspect(
            environments.ensure(
                "triton-openvino",
                device_world.LOCK,
                python="3.11",
                cache=device_world.environments(),
            )
        )
        base = containers.push_base(
            server, folder, "triton", platforms=("linux/amd64",), triton=triton
        )
        project, image, by_digest = build(folder / "project", server, base)
        world = device_world.World(folder / "world")
        (world.folder / "root.json").write_bytes(world.root)
        state = folder / "state"
        state.mkdir()
        shutil.chown(state, 65532, 65532)
        with containers.container(image, "linux/amd64") as name:
            yield Serving(project, image, by_digest, name, world, state)


def build(folder: Path, server: containers.Registry, base: str) -> tuple[Project, str, str]:
    """Run the images pipeline; returns the serving image and its base, by digest."""
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "profiles" / "contained.yaml").write_text(PROFILE)
    with (folder / "dockerfiles" / "bases.yaml").open("a") as file:
        file.write(
            f"\ntriton-test:\n  reference: http://{base}\n  digest: null\n"
            "  platforms: [linux/amd64]\n"
        )
    project = Project(folder)
    project.forge("keys", "init")
    project.json("images", "update", "triton-test")
    registry = f"http://{server.host}/forge"
    chosen = ("images", "--profile", "contained", "--registry", registry, "--push", "true")
    rows = project.json("run", *chosen, "--only", "push@serving-triton-test")
    outputs = {row["step"]: row["outputs"] for row in rows}
    store = open_store(str(folder / "artifacts"), cache=folder / "cache")
    tree = outputs["index@serving-triton-test"]["index"]["digest"]
    document = ImageDocument.model_validate_json(
        store.read_file(tree, "image.json", max_bytes=1_000_000)
    )
    bases = yaml.safe_load((folder / "dockerfiles" / "bases.yaml").read_text())
    digest = bases["triton-test"]["digest"]
    return project, document.reference, f"{base.rpartition(':')[0]}@{digest}"


def test_bundle_of_an_image_is_refused_outside_of_it_with_the_command(
    serving: Serving,
) -> None:
    serving.world.publish("1.0.0", Says(image=serving.base))
    device = serving.world.device("outside")
    with pytest.raises(FitError, match="outside a container") as caught:
        device.once()
    assert f"FORGE_IMAGE={serving.base}" in caught.value.hint
    assert device.home.current() is None


def test_bundle_of_the_base_is_installed_and_answers_inside_of_the_image(serving: Serving) -> None:
    done = serving.run(
        f"""
        $forge device provision --store /store --root /root.json --name llm
        $forge device run --once
        $forge device run & agent=$!
        until /opt/forge/bin/python -c {shlex.quote(ASK)} 2>/dev/null; do
            kill -0 $agent; sleep 1
        done
        kill $agent; wait $agent && echo stopped
        """
    )
    assert done.stdout.split("\n")[-3:-1] == ["The capital is Paris ", "stopped"], done
    # No environment was made: Triton and its Python are the image's.
    assert not list((serving.state / "environments").iterdir())


def test_bundle_that_names_the_image_itself_fits_and_one_of_another_does_not(
    serving: Serving,
) -> None:
    serving.world.publish("1.1.0", Says(image=serving.image))
    done = serving.run("$forge device run --once --json")
    assert '"1.1.0"' in done.stdout, done
    other = f"registry.example/other@sha256:{'0' * 64}"
    serving.world.publish("1.2.0", Says(image=other))
    done = serving.run("$forge device run --once")
    assert done.returncode == FitError.exit_code, done
    assert (
        f"requires the container image {other}, and this agent runs in {serving.image}"
        in done.stderr
    )
    done = serving.run("$forge device status")
    assert "1.1.0" in done.stdout


def test_after_the_image_was_changed_the_next_bundle_is_installed_though_the_old_cannot_serve(
    serving: Serving,
) -> None:
    # 1.1.0 names the image exactly; this one has the same base and is another.
    other = f"registry.example/newer@sha256:{'1' * 64}"
    done = serving.run(f"export FORGE_IMAGE={other}; $forge device run --once")
    assert done.returncode == FitError.exit_code, done
    serving.world.publish("1.3.0", Says(image=serving.base))
    done = serving.run(f"export FORGE_IMAGE={other}; $forge device run --once --json")
    assert done.returncode == 0, done
    assert '"1.3.0"' in done.stdout, done


def test_release_of_a_profile_that_names_our_image_names_the_digest_that_was_pushed(
    serving: Serving,
) -> None:
    named = ("--set", "serving.image=serving-triton-test")
    registry = serving.image.partition("/serving-")[0]
    options = ("release", "--profile", "contained", "--registry", f"http://{registry}", *named)
    rows = serving.project.json("run", *options, "--only", "repository@contained")
    steps = {row["step"]: row for row in rows}
    # Built once, by the images pipeline.
    assert steps["image@serving-triton-test-amd64"]["status"] == "hit"
    assert steps["index@serving-triton-test"]["status"] == "hit"
    folder = serving.project.project
    store = open_store(str(folder / "artifacts"), cache=folder / "cache")
    tree = steps["repository@contained"]["outputs"]["repository"]["digest"]
    spec = json.loads(store.read_file(tree, "serving.json", max_bytes=1_000_000))
    assert (spec["server"], spec["image"]) == ("container", serving.image)
    assert spec["environment"] is None
