"""A device with a real store, real signatures and a real Triton, from nothing to an answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from forge import device as api
from forge.errors import FitError, RolledBackError
from forge.profiles import ProbeSection
from tests.support.device_world import Says, World, triton_processes

pytestmark = [pytest.mark.network]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.real_triton
def test_a_device_installs_serves_and_stops_without_a_trace(world: World) -> None:
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        look = device.status.look
        assert look is not None
        assert look.fetched_bytes > 0  # known as soon as it serves
        assert agent.ask() == "The capital is Paris"
        hardware = httpx.get(f"{agent.url}/v1/hardware", trust_env=False).json()
        assert hardware["profile"] == "development"
        assert hardware["slot"] == "a"
        assert hardware["versions"]["bundle"] == "1.0.0"
        assert hardware["fit"]["fits"] is True
        assert triton_processes(device.state)
        assert agent.stop() == 0
    assert device.status.state == "idle"
    assert device.status.agent is None
    assert device.home.current() == "a"
    assert triton_processes(device.state) == []


def test_once_installs_probes_and_serves_nothing_afterwards(world: World) -> None:
    world.publish("1.0.0")
    device = world.device()
    device.once()
    assert (device.status.slot, device.status.state) == ("a", "idle")
    assert triton_processes(device.state) == []


@pytest.mark.real_triton
def test_an_update_goes_to_the_other_slot_and_fetches_what_changed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.publish("1.0.0")
    device = world.device()
    device.once()
    second = world.publish("1.1.0", Says(words="It is Paris"))
    with caplog.at_level("INFO", "forge"):
        api.run(device.state, once=True)
    assert device.home.current() == "b"
    fetched = next(int(line.split()[6]) for line in caplog.messages if "bytes fetched" in line)
    assert fetched < second.tree.size / 10
    assert not list(device.home.tmp.iterdir())


@pytest.mark.real_triton
def test_a_bundle_whose_model_agrees_with_its_receipt_is_installed(world: World) -> None:
    world.publish("1.0.0", Says(scores=(-1.01, -2.02, -2.97)))
    device = world.device()
    device.once()
    assert device.status.state == "idle"
    assert device.home.current() == "a"


def test_a_bundle_that_says_paris_and_computes_something_else_is_rolled_back(
    world: World,
) -> None:
    world.publish("1.0.0", Says(scores=(-1.0, -2.0, -3.0)))
    device = world.device()
    device.once()
    world.publish("1.1.0", Says(scores=(-4.0, -2.0, -9.0)))
    with pytest.raises(RolledBackError) as caught:
        device.once()
    assert "does not compute what its engine computed when it was built" in str(caught.value)
    assert device.home.current() == "a"


@pytest.mark.real_triton
def test_a_bundle_that_answers_wrongly_is_rolled_back_and_the_old_one_serves(
    world: World,
) -> None:
    world.publish("1.0.0")
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        world.publish("1.1.0", Says(words="The capital is Berlin"))
        agent.wait(lambda status: bool(status.rollbacks))
        agent.wait_ready("1.0.0")
        assert agent.ask() == "The capital is Paris"
        [verdict] = device.status.rollbacks
        assert verdict.release.version == "1.1.0"
        assert "Berlin" in verdict.reason
        assert device.home.current() == "a"
        world.publish("1.2.0", Says(words="Paris again"))
        agent.wait_ready("1.2.0")
        assert agent.ask() == "Paris again"
    assert [bad.release.version for bad in device.status.bad] == ["1.1.0"]
    assert device.home.current() == "b"


@pytest.mark.parametrize(
    ("floor", "reason"),
    [
        (
            ProbeSection(ttft_ms_max=None, output_tokens_per_s_min=50),
            r"3: [\d.]+ tokens/s, at least 50 tok",
        ),
        (
            ProbeSection(ttft_ms_max=0.01, output_tokens_per_s_min=None),
            r"ms to the first .*allowed 0\.01 ms",
        ),
    ],
)
def test_a_bundle_that_answers_rightly_but_too_slowly_is_rolled_back(
    world: World, floor: ProbeSection, reason: str
) -> None:
    world.publish("1.0.0")
    device = world.device()
    device.once()
    world.publish("1.1.0", Says(words="It is Paris of course", pause_s=0.2, floor=floor))
    with pytest.raises(RolledBackError, match=reason):
        device.once()
    assert device.home.current() == "a"
    [bad] = device.status.bad
    assert bad.release.version == "1.1.0"


def test_once_ends_with_its_own_error_when_the_bundle_is_not_kept(world: World) -> None:
    world.publish("1.0.0")
    device = world.device()
    device.once()
    world.publish("1.1.0", Says(fails=True))
    with pytest.raises(RolledBackError, match="the engine does not load") as caught:
        device.once()
    assert caught.value.exit_code == 10
    assert device.home.current() == "a"
    device.once()  # known to be bad: nothing is tried, nothing fails
    assert len(device.status.rollbacks) == 1


def test_a_failed_first_install_is_tried_again_and_a_good_one_gets_through(world: World) -> None:
    world.publish("1.0.0", Says(words="Rome"))
    device = world.device()
    for _ in range(2):
        with pytest.raises(RolledBackError, match="Rome"):
            device.once()
    assert device.status.slot is None
    world.publish("1.0.1")
    device.once()
    assert device.home.current() == "a"


def test_a_bundle_that_does_not_fit_is_refused_before_any_download(world: World) -> None:
    world.publish("1.0.0", compute_capability="12.0", driver_min="590.44.01")
    device = world.device()
    with pytest.raises(FitError, match=r"compute capability 12\.0") as caught:
        device.once()
    assert caught.value.exit_code == 8
    assert "driver 590.44.01" in str(caught.value)
    assert not list((device.state / "slots").rglob("*"))


def test_an_answer_under_way_is_finished_before_the_server_is_replaced(world: World) -> None:
    slow = Says(words="Paris " + "and " * 70 + "so on", pause_s=0.1)
    world.publish("1.0.0", slow)
    device = world.device()
    with device.running() as agent:
        agent.wait_ready("1.0.0")
        body = {"prompt": "France?", "stream": True}
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("POST", f"{agent.url}/v1/inference", json=body) as response,
        ):
            lines = response.iter_lines()
            assert next(lines) == "event: token"  # it is under way before there is an update
            world.publish("1.1.0", Says(words="Paris, quickly"))
            rest = list(lines)
        assert "event: done" in rest
        assert "event: error" not in rest
        agent.wait_ready("1.1.0")
        assert agent.ask() == "Paris, quickly"


def test_a_device_whose_publisher_lost_every_key_is_given_a_new_root(tmp_path: Path) -> None:
    lost, new = World(tmp_path / "lost"), World(tmp_path / "new", fresh_keys=True)
    lost.publish("1.0.0")
    device = lost.device()
    device.once()
    new.publish("1.1.0", Says(words="Paris again"))
    device.follow(new)
    shutil.rmtree(device.home.tuf)
    device.once()
    assert device.home.current() == "b"
    assert device.status.previous is not None  # the slots stay


@pytest.mark.real_triton
def test_running_the_agent_loads_nothing_of_the_build_side(world: World) -> None:
    world.publish("1.0.0")
    program = (
        "import sys; from pathlib import Path; from forge import device;"
        "device.run(Path(sys.argv[1]), once=True);"
        "import forge.device.gateway.app, uvicorn; print('\\n'.join(sys.modules))"
    )
    state = str(world.device().state)
    done = subprocess.run(
        [sys.executable, "-c", program, state], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"forge.trust.client", "forge.store.store", "starlette"} <= loaded
    # securesystemslib itself imports boto3, sigstore rich and click, where they are installed.
    build_side = ("builders", "plan", "project", "runners", "release", "store.s3")
    forbidden = {"dagger", "jinja2", *(f"forge.{name}" for name in build_side)}
    assert loaded & forbidden == set()
