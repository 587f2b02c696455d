"""What a device says about itself, and which agent's report is believed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

import forge
from forge.bundle import Manifest
from forge.device.hardware.compute_target import CPU
from forge.device.hardware.fit import Refusal
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_match import Detection
from forge.device.power.control import PowerControl
from forge.device.power.plan import PowerReport
from forge.device.shared.concurrency import ConcurrencyLimit
from forge.device.shared.release import Release
from forge.device.shared.upstream import ActiveServer
from forge.device.state.directory import StateDirectory
from forge.device.state_machine.journal import Journal
from forge.device.telemetry.status import (
    AgentReport,
    ChannelCheck,
    Detected,
    DeviceStatus,
    HardwareReport,
    read_agent,
    write_agent,
)
from forge.device.thermal.monitor import ThermalMonitor, ThermalReport
from forge.device.update.updater import Offer
from forge.trust.proof_keys import ProofKeys
from tests.support.manifests import manifest
from tests.support.receipts import receipt

OLD, NEW = Release.of(manifest("1.0.0")), Release.of(manifest("1.1.0"))
AT = "2026-11-28T00:00:00Z"
FOUND = Detection("thor", ("gpu_name is NVIDIA Thor",), ("the driver is old",))
HARDWARE = Hardware(
    platform="linux/amd64", gpus=(), memory_mib=1024, driver=None, cuda=None,
    model=None, compatible=(), tnspec=None, l4t=None, jetpack=None, runtime={}, power_modes=(),
    system="", kernel="6.8", notes=("nvidia-smi: no answer",),
)  # fmt: skip
SERVING = ActiveServer(
    url="http://127.0.0.1:9", model="llm", slot="a", release=OLD, triton="2.51.0",
    runtime={"openvino": "2026.4"}, default_max_tokens=16, max_seq_len=64,
)  # fmt: skip
ACTIVE = Journal(active="a", slots={"a": OLD})


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


@pytest.fixture
def condition() -> tuple[PowerReport, ThermalReport]:
    return PowerControl().report(None, CPU), ThermalMonitor(ConcurrencyLimit()).report()


def report(pid: int, look: ChannelCheck | None = None) -> AgentReport:
    return AgentReport(pid=pid, url="http://h:1", started=AT, hardware=HARDWARE, look=look)


def offer(offered: Manifest, *refusals: Refusal) -> Offer:
    keys = ProofKeys(build=(), model=())
    return Offer(offered, Release.of(offered), FOUND, refusals, keys)


def test_a_detection_is_reported_with_its_machine() -> None:
    found = Detected.of(HARDWARE, FOUND)
    assert (found.hardware, found.profile) == (HARDWARE, "thor")
    assert (found.reasons, found.warnings) == (FOUND.reasons, FOUND.warnings)


def test_an_offer_fits_if_nothing_refuses_it() -> None:
    look = ChannelCheck.of(offer(manifest("1.1.0")), AT)
    assert (look.at, look.offered, look.profile) == (AT, NEW, "thor")
    assert (look.fits, look.refusals, look.error) == (True, (), None)
    refused = ChannelCheck.of(offer(manifest("1.1.0"), Refusal("Too small", "buy more")), AT)
    assert (refused.fits, refused.refusals) == (False, ("Too small; buy more",))


def test_hardware_is_reported_with_the_accuracy_of_what_serves(
    condition: tuple[PowerReport, ThermalReport],
) -> None:
    measured = receipt(precision="u8", only="long", kl_mean=0.3)
    for serving, shown in (
        (replace(SERVING, accuracy=measured), ("u8", 0.3, 0.98, 1.001)),
        (SERVING, None),  # a bundle of version 0.1
        (None, None),
    ):
        found = HardwareReport.of(HARDWARE, ACTIVE, None, serving, condition).accuracy
        assert (
            found and (found.precision, found.kl_mean, found.same_top, found.perplexity_ratio)
        ) == shown


def test_hardware_is_reported_with_what_serves(
    condition: tuple[PowerReport, ThermalReport],
) -> None:
    look = ChannelCheck.of(offer(manifest("1.1.0"), Refusal("Too small", "buy more")), AT)
    made = HardwareReport.of(HARDWARE, ACTIVE, look, SERVING, condition)
    assert made.versions == {
        "forge": forge.__version__,
        "bundle": "1.0.0",
        "triton": "2.51.0",
        "openvino": "2026.4",
    }
    assert (made.slot, made.state, made.release) == ("a", "idle", OLD)
    assert (made.fit.release, made.fit.fits) == (NEW, False)
    assert made.fit.refusals == ("Too small; buy more",)
    assert (made.profile, made.warnings) == ("thor", FOUND.warnings)
    assert (made.power, made.heat) == condition


def test_before_the_first_look_the_profile_is_that_of_the_bundle(
    condition: tuple[PowerReport, ThermalReport],
) -> None:
    made = HardwareReport.of(HARDWARE, ACTIVE, None, None, condition)
    assert (made.profile, made.fit.fits) == ("development", None)
    assert made.versions == {"forge": forge.__version__}
    assert made.warnings == HARDWARE.notes
    nothing = HardwareReport.of(HARDWARE, Journal(), None, None, condition)
    assert (nothing.profile, nothing.release, nothing.slot) == (None, None, None)


def test_the_report_of_the_running_agent_comes_back(home: StateDirectory) -> None:
    written = report(os.getpid(), ChannelCheck.of(offer(manifest("1.1.0")), AT))
    with home.locked():
        write_agent(home, written)
        assert read_agent(home) == written


def test_the_report_of_an_agent_that_has_ended_is_not_shown(home: StateDirectory) -> None:
    write_agent(home, report(os.getpid()))
    assert read_agent(home) is None  # nothing holds the lock
    with home.locked():
        write_agent(home, report(os.getpid() + 1))  # of the agent before, until this one's first
        assert read_agent(home) is None


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"pid": 1}', b" " * 2_000_000])
def test_a_report_that_cannot_be_read_is_none(home: StateDirectory, content: bytes | None) -> None:
    if content is not None:
        (home.path / "agent.json").write_bytes(content)
    with home.locked():
        assert read_agent(home) is None


def test_fields_of_a_later_version_are_ignored(home: StateDirectory) -> None:
    """`forge device status` may be older than the agent that runs."""
    with home.locked():
        write_agent(home, report(os.getpid()))
        path = home.path / "agent.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"later": 1}))
        assert read_agent(home) == report(os.getpid())


def test_the_last_look_is_the_agents() -> None:
    look = ChannelCheck(at=AT)
    plain = DeviceStatus(
        store_url="s3://b/p", name="llm", channel="stable", state="idle", slot=None, release=None,
        candidate=None, agent=None, bad=(), held=None, previous=None, rollbacks=(),
    )  # fmt: skip
    assert plain.look is None
    assert plain.model_copy(update={"agent": report(1)}).look is None
    assert plain.model_copy(update={"agent": report(1, look)}).look == look
