"""What each action does, how it ends, and that every action has an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from forge.device.agent.background import ActionDone, AgentEvent, WorkFailed
from forge.device.agent.cutover import Cutover
from forge.device.agent.executor import ActionExecutor
from forge.device.agent.repair import Repair
from forge.device.agent.slot_servers import SlotServers
from forge.device.agent.supervisor import Supervisor
from forge.device.hardware.profile_match import Detection
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state_machine.actions import (
    Action,
    Activate,
    Fetch,
    GoBack,
    Prepare,
    Probe,
    Serve,
    Switch,
    Wait,
)
from forge.device.state_machine.events import (
    Failed,
    Fetched,
    MachineEvent,
    Prepared,
    Probed,
    Ready,
    Stopped,
    Switched,
    WentBack,
)
from forge.device.state_machine.journal import FailedRelease, Journal
from forge.device.telemetry.fetch_progress import FetchMeter
from forge.device.update.resource_pressure import ResourceSnapshot
from forge.device.update.updater import Offer, Updater
from forge.errors import BundleError, SmokeGateError, StepFailedError, StoreError, TrustError
from forge.store import cancellation
from forge.store.cancellation import CancelledError
from forge.store.download.downloader import Transfer
from forge.store.progress import Moved, Progress
from forge.trust.proof_keys import ProofKeys
from tests.support.manifests import manifest

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-28T00:00:00Z"
FETCHING = Journal(state="fetching", active="a", slots={"a": OLD}, target="b", candidate=NEW)
OFFER = Offer(
    manifest("1.1.0"), NEW, Detection("development", ()), (), ProofKeys(build=(), model=())
)
ENDS: dict[type[Action], MachineEvent | None] = {
    Wait: None,
    Serve: None,
    Fetch: Fetched(7, 5),
    Prepare: Prepared(blue_green=False),
    Activate: Ready(),
    Probe: Probed(),
    Switch: Switched(),
    GoBack: WentBack(),
}


@dataclass
class Parts:
    """Everything that an executor works with; writes down what was called, and fails on demand."""

    log: list[str] = field(default_factory=list)
    errors: dict[str, list[BaseException]] = field(default_factory=dict)  # by call, in order
    condition: str = "intact"
    unfit: str = ""
    served: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def call(self, name: str, *arguments: object) -> None:
        self.log.append(" ".join((name, *map(str, arguments))))
        self.meanwhile()
        if left := self.errors.get(name):
            raise left.pop(0)

    # The store, the servers, the cutover, the repair, the supervisor and the machine in one.
    @property
    def system(self) -> Parts:
        return self

    def explain(self, release: Release | None) -> str:
        return self.unfit if release else ""

    def serves(self, release: Release) -> None:
        self.served.append(release.version)

    def fetch(
        self,
        offer: Offer,
        slot: SlotName,
        active: SlotName | None,
        progress: Progress,
        moved: Moved,
    ) -> Transfer:
        moved(7)
        progress(12, 12)
        self.call("fetch", offer.release.version, slot, active)
        return Transfer(fetched_bytes=7, reused_bytes=5, requests=1)

    def stop(self, slot: SlotName) -> None:
        self.call("stop", slot)

    def prepare(self, slot: SlotName) -> None:
        self.call("prepare", slot)

    def probe(self, slot: SlotName) -> None:
        self.call("probe", slot)

    def prune(self, slots: object) -> None:
        self.call("prune", *sorted(cast("dict[str, Release]", slots)))

    def start(self, slot: SlotName, beside: SlotName | None, release: Release) -> float:
        self.call("start", slot, beside, release.version)
        return 1.5

    def stop_others(self, slot: SlotName | None) -> None:
        self.call("stop_others", slot)

    def refuse(self, reason: str) -> None:
        self.call("refuse", reason)

    def make_whole(self, slot: SlotName, release: Release) -> None:
        self.call("make_whole", slot, release.version)

    def check_and_repair(self, slot: SlotName, release: Release) -> str:
        self.call("check_and_repair", slot, release.version)
        return self.condition

    def serve(self, slot: SlotName, _journal: Journal) -> None:
        self.call("serve", slot)


@dataclass
class Device:
    """An executor whose long work ends before `execute` returns."""

    home: StateDirectory
    parts: Parts = field(default_factory=Parts)
    posted: list[AgentEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.executor = self.made(serves=False)

    def made(self, *, serves: bool) -> ActionExecutor:
        parts: Any = self.parts
        return ActionExecutor(
            self.home,
            cast("Updater", parts),
            cast("SlotServers", parts),
            cast("Cutover", parts),
            cast("Repair", parts),
            cast("Supervisor", parts),
            FetchMeter(),
            post=self.posted.append,
            now=lambda: AT,
            serves=serves,
        )

    def execute(self, action: Action, journal: Journal = FETCHING, **options: Any) -> MachineEvent:
        """Return the event that the action ended with."""
        self.executor.execute(action, journal, **options)
        done = self.posted.pop()
        assert isinstance(done, ActionDone)
        assert self.posted == []
        return done.event

    def failure(self, action: Action, journal: Journal = FETCHING, **options: Any) -> Failed:
        event = self.execute(action, journal, **options)
        assert isinstance(event, Failed)
        assert event.at == AT
        return event


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device whose slot a serves, on a machine that lacks nothing."""
    monkeypatch.setattr(ResourceSnapshot, "lack", lambda _snapshot: "")
    home = StateDirectory(tmp_path / "state")
    home.clean()
    for slot, version in (("a", "1.0.0"), ("b", "1.1.0")):
        home.slots.set_aside(cast("SlotName", slot))
        home.slots.mark_complete(cast("SlotName", slot), manifest(version))
    home.switch("a")
    return Device(home)


def example(kind: type[Action]) -> Action:
    if kind is Wait:
        return Wait()
    return Fetch(NEW, "b") if kind is Fetch else cast("Callable[[str], Action]", kind)("b")


@pytest.mark.parametrize("kind", get_args(Action), ids=lambda one: one.__name__)
def test_each_action_ends_by_its_event_and_is_busy_until_that_is_handled(
    device: Device, kind: type[Action]
) -> None:
    for _ in range(2):  # each action may be executed twice
        device.executor.execute(example(kind), FETCHING, OFFER)
        wanted = ENDS[kind]
        assert device.posted == ([ActionDone(wanted)] if wanted else [])
        assert device.executor.busy == (wanted is not None)
        assert device.executor.starts_server == (kind in {Activate, Probe})
        device.executor.finished()
        assert not device.executor.busy
        device.posted.clear()


def test_a_fetch_stops_what_the_slot_still_runs_before_it_overwrites_it(device: Device) -> None:
    assert device.execute(Fetch(NEW, "b"), offer=OFFER) == Fetched(7, 5)
    assert device.parts.log == ["stop b", "fetch 1.1.0 b a"]


def test_a_fetch_first_points_current_to_the_slot_that_serves(device: Device) -> None:
    """A slot that `current` names is what a device without a journal starts."""
    device.home.switch("b")
    current: list[str | None] = []
    device.parts.meanwhile = lambda: current.append(device.home.current())
    device.execute(Fetch(NEW, "b"), offer=OFFER)
    assert current == ["b", "a"]  # at the stop, and at the fetch


def test_the_first_fetch_of_a_device_has_no_slot_to_point_to(device: Device) -> None:
    journal = Journal(state="fetching", target="b", candidate=NEW)
    device.execute(Fetch(NEW, "b"), journal, offer=OFFER)
    assert device.home.current() == "a"
    assert device.parts.log[-1] == "fetch 1.1.0 b None"


def test_a_fetch_that_a_request_ends_is_stopped_and_not_failed(device: Device) -> None:
    device.parts.errors["fetch"] = [CancelledError("cancelled")] * 2
    device.parts.meanwhile = device.executor.interrupt_fetch
    device.home.slots.set_aside("b")
    assert device.execute(Fetch(NEW, "b"), offer=OFFER) == Stopped(restored=True)
    assert device.home.slots.manifest("b") == manifest("1.1.0")
    device.home.slots.drop_backup("b")
    (device.home.slots.folder("b") / "manifest.json").unlink()
    assert device.execute(Fetch(NEW, "b"), offer=OFFER) == Stopped(restored=False)


def test_an_interruption_cancels_a_fetch_and_nothing_else(device: Device) -> None:
    def interrupted() -> None:
        device.executor.interrupt_fetch()
        cancellation.check()  # as whatever reads a store or waits for a process does

    device.parts.meanwhile = interrupted
    assert device.execute(Prepare("b")) == Prepared(blue_green=False)
    assert isinstance(device.execute(Fetch(NEW, "b"), offer=OFFER), Stopped)
    assert device.execute(Probe("b")) == Probed()


def test_a_fetch_that_ends_because_the_agent_does_is_not_a_stop(device: Device) -> None:
    device.parts.errors["fetch"] = [CancelledError("cancelled")] * 2
    assert not device.failure(Fetch(NEW, "b"), offer=OFFER).release_fault
    device.parts.meanwhile = device.executor.interrupt_fetch
    assert isinstance(device.execute(Fetch(NEW, "b"), offer=OFFER), Stopped)
    device.parts.meanwhile = lambda: None
    device.parts.errors["fetch"] = [CancelledError("cancelled")]
    device.failure(Fetch(NEW, "b"), offer=OFFER)  # the interruption was of the one before


@pytest.mark.parametrize(
    ("action", "call", "error", "blame"),
    [
        (Fetch(NEW, "b"), "fetch", TrustError("a proof is wrong"), True),
        (Fetch(NEW, "b"), "fetch", StoreError("the store is gone"), False),
        (Fetch(NEW, "b"), "fetch", OSError(28, "No space left on device"), False),
        (Prepare("b"), "prepare", StepFailedError("no index"), False),
        (Probe("b"), "probe", SmokeGateError("a wrong answer"), True),
    ],
)
def test_a_failure_is_an_event_with_its_reason_and_whose_fault_it_is(
    device: Device, action: Action, call: str, error: BaseException, *, blame: bool
) -> None:
    device.parts.errors[call] = [error]
    failed = device.failure(action, offer=OFFER)
    assert failed.release_fault == blame
    assert (error.args[-1] if isinstance(error, OSError) else str(error)) in failed.reason


def test_what_the_machine_lacked_is_not_the_releases_fault(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ResourceSnapshot, "lack", lambda _snapshot: "no memory")
    device.parts.errors["probe"] = [SmokeGateError("a wrong answer")]
    assert not device.failure(Probe("b")).release_fault


@pytest.mark.parametrize(("condition", "blame"), [("intact", True), ("repaired", False),
                                                   ("damaged", False)])  # fmt: skip
def test_a_slot_that_failed_is_read_before_its_release_is_judged(
    device: Device, condition: str, *, blame: bool
) -> None:
    device.parts.condition = condition
    device.parts.errors["probe"] = [SmokeGateError("a wrong answer")]
    probing = FETCHING.model_copy(update={"state": "probing"})
    assert device.failure(Probe("b"), probing).release_fault == blame
    assert device.parts.log[-1] == "check_and_repair b 1.1.0"


@pytest.mark.parametrize("action", [Prepare("b"), Activate("b"), Probe("b")])
def test_a_candidate_that_served_on_another_system_is_not_at_fault(
    device: Device, action: Action
) -> None:
    device.parts.unfit = "NVIDIA driver 590.44.01 → 580.10"
    for name in ("prepare", "make_whole", "probe"):
        device.parts.errors[name] = [BundleError("no")] * 4
    failed = device.failure(action)
    assert not failed.release_fault
    assert failed.reason == "no (not the release's fault: NVIDIA driver 590.44.01 → 580.10)"
    device.parts.unfit = ""
    assert device.failure(action).release_fault


def test_a_candidate_that_cannot_be_made_whole_is_not_started(device: Device) -> None:
    device.parts.condition = "damaged"
    device.parts.errors["make_whole"] = [BundleError("Slot b is damaged")]
    assert not device.failure(Activate("b")).release_fault
    assert device.parts.log == ["make_whole b 1.1.0", "check_and_repair b 1.1.0"]


@pytest.mark.parametrize(("action", "call"), [(Activate("b"), "start"), (Probe("b"), "probe")])
def test_what_did_not_load_or_answer_is_tried_once_more(
    device: Device, action: Action, call: str
) -> None:
    device.parts.errors[call] = [StepFailedError("busy")]
    assert device.execute(action) == ENDS[type(action)]
    device.parts.errors[call] = [StepFailedError("busy"), StepFailedError("still busy")]
    device.parts.log.clear()
    assert "still busy" in device.failure(action).reason
    assert len([one for one in device.parts.log if one.startswith(call)]) == 2


def test_a_wrong_answer_is_not_asked_for_again(device: Device) -> None:
    device.parts.errors["probe"] = [SmokeGateError("a wrong answer")]
    device.failure(Probe("b"))
    assert [one for one in device.parts.log if one.startswith("probe")] == ["probe b"]


def test_a_candidate_is_started_beside_what_serves(device: Device) -> None:
    assert device.execute(Activate("b", serving="a")) == Ready()
    assert device.parts.log == ["make_whole b 1.1.0", "start b a 1.1.0"]


def test_an_activation_without_a_candidate_is_a_failure_of_the_journal(device: Device) -> None:
    failed = device.failure(Activate("b"), Journal(active="a"))
    assert not failed.release_fault
    assert device.parts.log == []


def test_preparing_says_how_the_release_wants_to_be_activated(device: Device) -> None:
    plain = manifest("1.1.0")
    serving = plain.serving.model_copy(update={"activation": "blue-green"})
    device.home.slots.mark_complete("b", plain.model_copy(update={"serving": serving}))
    assert device.execute(Prepare("b")) == Prepared(blue_green=True)
    assert device.executor.blue_green("b")
    assert not device.executor.blue_green("a", "b")  # the other one is a swap
    (device.home.slots.folder("b") / "manifest.json").unlink()
    assert not device.executor.blue_green("b")


def test_a_commit_points_current_to_the_slot_and_prunes(device: Device) -> None:
    journal = Journal(state="committed", active="b", slots={"a": OLD, "b": NEW})
    assert device.execute(Switch("b"), journal) == Switched()
    assert device.home.current() == "b"
    assert device.parts.log == ["prune a b"]
    assert device.parts.served == ["1.1.0"]


def test_a_commit_stands_where_the_link_or_the_pruning_fails(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal decides: what was committed must not be undone by a full disk."""

    def fail(_home: StateDirectory, _slot: SlotName) -> None:
        raise StoreError("the link cannot be switched")

    monkeypatch.setattr(StateDirectory, "switch", fail)
    device.parts.errors["prune"] = [OSError(5, "Input/output error")]
    journal = Journal(state="committed", active="b", slots={"a": OLD, "b": NEW})
    assert device.execute(Switch("b"), journal) == Switched()
    assert "cannot be switched" in caplog.text
    assert "Input/output error" in caplog.text


@pytest.mark.parametrize("slot", ["a", None])
def test_going_back_stops_all_but_what_served_before(device: Device, slot: SlotName | None) -> None:
    assert device.execute(GoBack(slot)) == WentBack()
    assert device.parts.log == [f"stop_others {slot}"]


@pytest.mark.parametrize("serves", [False, True])
def test_a_slot_is_served_only_by_an_agent_that_serves(device: Device, *, serves: bool) -> None:
    executor = device.made(serves=serves)
    executor.execute(Serve("b"), Journal(active="b", slots={"b": NEW}))
    assert device.home.current() == "b"
    assert device.parts.log == (["serve b"] if serves else [])
    assert not executor.busy


def test_requests_without_a_bundle_are_refused_with_why_the_last_one_was_not_kept(
    device: Device,
) -> None:
    device.executor.execute(Wait(), Journal())
    failed = FailedRelease(release=NEW, reason="slow", at=AT)
    earlier = FailedRelease(release=OLD, reason="wrong", at=AT)
    device.executor.execute(Wait(), Journal(rollbacks=(earlier, failed)))
    first, second = device.parts.log
    assert first == "refuse no bundle is installed"
    assert str(NEW) in second
    assert "slow" in second
    assert "wrong" not in second


def test_requests_to_a_slot_that_serves_are_not_refused_by_waiting(device: Device) -> None:
    device.executor.execute(Wait(), Journal(active="a", slots={"a": OLD}))
    assert device.parts.log == []


def test_a_fetch_without_an_offer_is_a_mistake_of_forge(device: Device) -> None:
    failed = device.failure(Fetch(NEW, "b"))
    assert "bug in Forge" in failed.reason
    assert not failed.release_fault


def test_an_error_that_nothing_expects_is_posted_as_one(device: Device) -> None:
    """Not as a failure: a release would be judged for it."""
    device.parts.errors["prepare"] = [error := KeyError("a bug")]
    device.executor.execute(Prepare("b"), FETCHING)
    assert device.posted == [WorkFailed("action", error)]


def test_long_work_of_an_agent_that_serves_is_done_in_its_own_thread(device: Device) -> None:
    executor = device.made(serves=True)
    executor.execute(Prepare("b"), FETCHING)
    executor.join(30)
    assert device.posted == [ActionDone(Prepared(blue_green=False))]
