"""Bytes of a slot that changed after they were verified: found, healed by the chunk, never kept."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forge.device import maintenance
from forge.device.agent.agent import Agent as LocalAgent
from forge.device.agent.weights_reader import ReadingSchedule
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import SlotName
from forge.device.shared.upstream import Upstream
from forge.device.state.settings import read_settings
from forge.device.telemetry.history import DeviceEvent
from forge.device.update.updater import Updater
from forge.errors import CorruptedError, StoreError, UsageError
from tests.support.device_world import Agent, Device, Says, World

pytestmark = [pytest.mark.network]

ENGINE = "models/llm/1/engine"
CHUNK_AND_ITS_LIST = 300_000  # a chunk of at most 256 KiB, the list of chunks, the tree


def flip(device: Device, name: str, slot: SlotName = "a") -> str:
    """Flip one bit of a file of the engine; returns the digest it had."""
    path = device.home.slots.tree(slot) / ENGINE / name
    data = bytearray(path.read_bytes())
    before = hashlib.sha256(data).hexdigest()
    data[len(data) // 2] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    return before


def digest(device: Device, name: str, slot: SlotName = "a") -> str:
    return hashlib.sha256((device.home.slots.tree(slot) / ENGINE / name).read_bytes()).hexdigest()


def forge(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "forge", "device", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.real_triton
def test_a_flipped_bit_that_keeps_the_model_from_loading_heals_by_itself(device: Device) -> None:
    engine = device.home.slots.tree("a") / ENGINE / "answer.json"
    good = engine.read_bytes()
    engine.chmod(0o644)
    engine.write_bytes(b"[" + good[1:])  # no JSON any more
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        assert agent.ask() == "The capital is Paris"
        assert "slot a is damaged: models/llm/1/engine/answer.json" in agent.log.read_text()
    assert engine.read_bytes() == good
    repaired = [one for one in maintenance.history(device.state) if one.event == "repaired"]
    assert [one.slot for one in repaired] == ["a"]
    assert device.status.rollbacks == ()


def test_weights_that_rot_while_they_serve_are_found_repaired_and_loaded_again(
    device: Device,
) -> None:
    home, upstream = device.home, Upstream()
    settings, root = read_settings(home.path)
    events: list[DeviceEvent] = []
    agent = LocalAgent(
        home, Updater(home, settings, root, HardwareWatch()), upstream, notify=events.append,
        schedule=ReadingSchedule(10**9, after_s=0),
    )  # fmt: skip
    good = digest(device, "weights.bin")
    with home.locked(), contextlib.ExitStack() as running:
        running.callback(agent.stop)
        flip(device, "weights.bin")  # of the size that it had: a start does not see it
        integrity_limit = "forge.device.state.integrity.CODE_BYTES"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(integrity_limit, 1000)
            agent.start()
        first, _ = upstream.get()
        assert first is not None  # weights in memory are no reason to refuse
        while not any(one.event == "repaired" for one in events) or agent.busy:
            agent.turn()
        again, _ = upstream.get()
        assert again is not None
        assert again != first  # another process
    assert digest(device, "weights.bin") == good
    kinds = [one.event for one in events if one.event != "started"]
    assert kinds == ["damaged", "repaired"]
    assert 0 < sum(one.fetched_bytes for one in events) < CHUNK_AND_ITS_LIST
    assert (agent.journal.crashes, agent.journal.rollbacks) == (0, ())


@pytest.mark.real_triton
def test_code_that_was_changed_never_runs_and_is_repaired(device: Device, tmp_path: Path) -> None:
    model, mark = device.home.slots.tree("a") / "models/llm/1/model.py", tmp_path / "it ran"
    good = model.read_text()
    changed = f"open({str(mark)!r}, 'w')\n"
    changed += good[len(changed) :]  # of the same size, as no cheap check would see
    model.chmod(0o644)
    model.write_text(changed)
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        assert agent.ask() == "The capital is Paris"
        assert "models/llm/1/model.py has other bytes" in agent.log.read_text()
    assert model.read_text() == good
    assert not mark.exists()
    [repaired] = [one for one in maintenance.history(device.state) if one.event == "repaired"]
    assert repaired.slot == "a"
    assert device.status.rollbacks == ()


def test_a_file_that_was_cut_short_is_seen_before_the_start(device: Device) -> None:
    path = device.home.slots.tree("a") / ENGINE / "weights.bin"
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1000])
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        said = f"has {len(whole) - 1000} bytes, not {len(whole)}"
        assert said in agent.log.read_text()
    assert path.read_bytes() == whole


def test_verify_finds_a_bit_and_repair_fetches_its_chunk_only(world: World, device: Device) -> None:
    world.publish("1.1.0", Says(words="Paris", ballast=6_000_000))
    device.once()
    assert device.home.current() == "b"
    good = flip(device, "weights.bin", "b")
    with pytest.raises(CorruptedError, match=r"slot b: .*weights.bin has other bytes") as caught:
        maintenance.verify(device.state, repair=False)
    assert caught.value.exit_code == 9
    assert "forge device verify --repair" in caught.value.hint
    shown = forge("verify", "--state", str(device.state))
    assert (shown.returncode, shown.stdout) == (9, "")
    found = maintenance.verify(device.state, repair=True)
    assert [(one.slot, one.repaired) for one in found] == [("a", False), ("b", True)]
    assert digest(device, "weights.bin", "b") == good
    [repaired] = [one for one in maintenance.history(device.state) if one.event == "repaired"]
    assert repaired.fetched_bytes < CHUNK_AND_ITS_LIST
    assert repaired.reused_bytes > 5_500_000
    assert forge("verify", "--state", str(device.state), "--json").returncode == 0
    assert not list(device.state.glob("slots/*/*new*"))


def test_repair_heals_lost_documents_and_drops_what_does_not_belong(device: Device) -> None:
    slot = device.home.slots.folder("a")
    good = {name: (slot / name).read_bytes() for name in ("tree.json", "manifest.json")}
    for name, whole in good.items():
        (slot / name).write_bytes(b"{}")
        maintenance.verify(device.state, repair=True)
        assert (slot / name).read_bytes() == whole
    stranger = device.home.slots.tree("a") / "models" / "llm" / "1" / "sitecustomize.py"
    stranger.write_text("import os")
    maintenance.verify(device.state, repair=True)
    assert not stranger.exists()


def test_repair_without_the_store_changes_nothing(world: World, device: Device) -> None:
    flip(device, "weights.bin")
    damaged = digest(device, "weights.bin")
    (world.folder / "store").rename(world.folder / "elsewhere")
    with pytest.raises(StoreError, match="No store at"):
        maintenance.verify(device.state, repair=True)
    assert digest(device, "weights.bin") == damaged
    (world.folder / "elsewhere").rename(world.folder / "store")
    maintenance.verify(device.state, repair=True)
    assert digest(device, "weights.bin") != damaged


def test_repair_is_refused_while_an_agent_runs(device: Device) -> None:
    flip(device, "weights.bin")
    with device.running(poll_s=600) as agent:
        agent.wait_ready("1.0.0")
        with pytest.raises(UsageError, match="Another agent runs this device"):
            maintenance.verify(device.state, repair=True)


def break_model(device: Device, slot: SlotName) -> None:
    path = device.home.slots.tree(slot) / ENGINE / "answer.json"
    path.chmod(0o644)
    path.write_bytes(b"[" + path.read_bytes()[1:])


def wait_serving(agent: Agent, version: str) -> None:
    agent.wait_ready(version)
    assert "Paris" in agent.ask()


def test_a_damaged_slot_without_a_store_goes_back_and_comes_again_with_it(
    world: World, device: Device
) -> None:
    world.publish("1.1.0", Says(words="Paris again"))
    device.once()
    break_model(device, "b")
    store: Path = world.folder / "store"
    store.rename(world.folder / "elsewhere")
    with device.running(poll_s=1) as agent:
        wait_serving(agent, "1.0.0")
        assert device.status.bad == ()
        shutil.move(world.folder / "elsewhere", store)
        wait_serving(agent, "1.1.0")
        assert agent.ask() == "Paris again"
