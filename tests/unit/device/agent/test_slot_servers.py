"""Which environments a device keeps, and whose fault a wrong serving.json is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.device.agent.slot_servers import SlotServers
from forge.device.shared.release import SlotName
from forge.device.state.directory import StateDirectory
from forge.environments import environment_path
from forge.errors import BundleError, ConfigurationError
from forge.serving.on_device_compile import CompileJob, Compiler, engine_key
from forge.serving.repository.spec import CompileOnDevice, write_spec
from tests.support.spec import a_spec

LOCK = "runtime/requirements.lock"


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


def fill(home: StateDirectory, slot: SlotName, lock: str) -> Path:
    """A slot whose bundle has this lock; returns where its environment is, which is made."""
    tree = home.slots.tree(slot)
    (tree / LOCK).parent.mkdir(parents=True, exist_ok=True)
    (tree / LOCK).write_text(lock)
    spec = a_spec()
    write_spec(tree, spec)
    assert spec.environment is not None
    path = environment_path(
        spec.environment, tree / LOCK, python=spec.python, cache=home.environments
    )
    (path / "bin").mkdir(parents=True, exist_ok=True)
    (home.environments / f".{path.name}.lock").write_bytes(b"")
    return path


def test_environments_that_no_slot_uses_are_removed(home: StateDirectory) -> None:
    old = fill(home, "a", "one==1")
    kept = {fill(home, "a", "two==2"), fill(home, "b", "three==3")}
    half = home.environments / f".{old.name}.tmp-x1"
    half.mkdir()
    SlotServers(home, dict).prune(("a", "b"))
    assert {path for path in home.environments.iterdir() if path.is_dir()} == kept
    assert not (home.environments / f".{old.name}.lock").exists()
    assert all((home.environments / f".{path.name}.lock").exists() for path in kept)


def test_an_environments_folder_that_is_shared_is_left_alone(
    home: StateDirectory, tmp_path: Path
) -> None:
    fill(home, "a", "one==1")
    others = tmp_path / "shared" / "somebody-elses"
    others.mkdir(parents=True)
    home.environments.rename(tmp_path / "away")
    home.environments.symlink_to(tmp_path / "shared")
    SlotServers(home, dict).prune(("a",))
    assert others.is_dir()


@pytest.mark.parametrize("damage", ["{", '{"model": 7}', "missing", "no lock", "escape", "image"])
def test_a_bundle_whose_own_files_are_wrong_is_at_fault(home: StateDirectory, damage: str) -> None:
    fill(home, "a", "one==1")
    document = home.slots.tree("a") / "serving.json"
    if damage == "missing":
        document.unlink()
    elif damage == "no lock":
        (home.slots.tree("a") / LOCK).unlink()
    elif damage == "escape":
        document.write_text(document.read_text().replace('"models"', '"../models"'))
    elif damage == "image":
        document.write_text(document.read_text().replace('"image":null', '"image":"$(id)"'))
        assert "$(id)" in document.read_text()
    else:
        document.write_text(damage)
    with pytest.raises(BundleError) as caught:
        SlotServers(home, dict).prepare("a")
    assert caught.value.exit_code == 3


IMAGE = f"registry.example/serving@sha256:{'a' * 64}"


def contain(home: StateDirectory, slot: SlotName) -> None:
    """A slot whose bundle is served in an image."""
    spec = a_spec(server="container", environment=None, lock=None, image=IMAGE)
    home.slots.tree(slot).mkdir(parents=True, exist_ok=True)
    write_spec(home.slots.tree(slot), spec)


def test_a_slot_served_in_another_image_is_nobodys_fault(home: StateDirectory) -> None:
    contain(home, "a")
    with pytest.raises(ConfigurationError, match="requires the container image") as caught:
        SlotServers(home, dict).prepare("a")
    assert not isinstance(caught.value, BundleError)
    assert caught.value.why == "Forge runs outside of any image"
    assert IMAGE in caught.value.hint


def test_a_slot_served_in_an_image_keeps_no_environment(home: StateDirectory) -> None:
    unused = fill(home, "a", "one==1")
    kept = fill(home, "b", "two==2")
    contain(home, "a")
    SlotServers(home, dict).prune(("a", "b"))
    assert not unused.exists()
    assert kept.exists()


def test_an_engine_is_compiled_again_once_the_machine_has_another_tensorrt(
    home: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, compiled = {"tensorrt": "10.13.3"}, list[dict[str, str]]()

    def ensure(_compiler: Compiler, job: CompileJob, _poll: object) -> Path:
        assert job.variables == {"CUDA_VISIBLE_DEVICES": "GPU-a"}
        compiled.append(dict(job.runtime))
        made = home.engines / engine_key(job.wanted, job.runtime)
        made.mkdir(parents=True)
        key = {"key": engine_key(job.wanted, job.runtime)}
        (made / "compiled.json").write_text(json.dumps(key))
        return made

    monkeypatch.setattr(Compiler, "ensure", ensure)
    wanted = CompileOnDevice(
        tool="trtedge", arguments=(), source="source", produces=("engine",), digest="0" * 64,
        memory_mib=1, disk_mib=1, timeout_s=60,
    )  # fmt: skip
    servers = SlotServers(
        home, lambda: runtime, lambda slot: {"CUDA_VISIBLE_DEVICES": f"GPU-{slot}"}
    )
    home.slots.folder("a").mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        servers._compile("a", a_spec(), wanted, home.path)
    runtime = {"tensorrt": "10.14.1"}
    for _ in range(2):
        servers._compile("a", a_spec(), wanted, home.path)
    assert compiled == [{"tensorrt": "10.13.3"}, {"tensorrt": "10.14.1"}]
