"""What an update needs beside what the device holds already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from forge.bundle import Channel, ChannelProfile, Manifest
from forge.device.hardware.inventory import Hardware
from forge.device.hardware.profile_match import ProfileRequest
from forge.device.hardware.watch import HardwareWatch
from forge.device.shared.release import Release, SlotName
from forge.device.state.directory import StateDirectory
from forge.device.state.settings import DeviceSettings
from forge.device.update.updater import Updater
from forge.profiles import MatchSection
from forge.trust.client import TrustedStore
from forge.trust.proof_keys import ProofKeys
from tests.support.manifests import manifest


@pytest.fixture
def home(tmp_path: Path) -> StateDirectory:
    made = StateDirectory(tmp_path / "state")
    made.clean()
    return made


def updater(home: StateDirectory) -> Updater:
    device = DeviceSettings(store_url=str(home.path / "store"), name="llm", channel="stable")
    return Updater(home, device, b"{}", HardwareWatch())


def needing(version: str, memory_mib: int) -> Manifest:
    plain = manifest(version)
    return plain.model_copy(
        update={
            "fit": plain.fit.model_copy(update={"memory_mib": memory_mib}),
            "serving": plain.serving.model_copy(update={"activation": "blue-green"}),
        }
    )


def hold(home: StateDirectory, slot: SlotName, held: Manifest) -> None:
    home.slots.set_aside(slot)
    home.slots.mark_complete(slot, held)


def test_memory_beside_is_that_of_what_serves_and_not_of_the_slot_that_is_replaced(
    home: StateDirectory,
) -> None:
    hold(home, "a", needing("1.0.0", 4000))
    hold(home, "b", needing("0.9.0", 12_000))
    home.switch("a")
    assert updater(home)._serving_mib(needing("1.1.0", 4000)) == 4000
    home.switch("b")
    assert updater(home)._serving_mib(needing("1.1.0", 4000)) == 12_000


def test_memory_beside_is_its_own_again_where_nothing_serves(home: StateDirectory) -> None:
    assert updater(home)._serving_mib(needing("1.0.0", 4000)) == 4000


RULES = MatchSection.model_validate({"gpu_name": "*Tesla P40"})
SERVES = "tesla-p40"


class Published:
    """A channel whose profiles have a bundle each; one that is asked for is noted."""

    def __init__(self, *manifests: Manifest) -> None:
        self.manifests = {one.profile: one for one in manifests}
        self.asked: list[str] = []
        entry = ChannelProfile(platform="linux/amd64", match=RULES)
        profiles = dict.fromkeys(self.manifests, entry)
        self.channel = Channel(name="llm", channel="stable", version="1.0.0", profiles=profiles)

    def channel_manifest(self, _channel: Channel, profile: str) -> Manifest:
        self.asked.append(profile)
        return self.manifests[profile]

    def served_memory(self, _manifest: Manifest) -> None:
        """As of a publisher that did not compute it."""

    def proof_keys(self) -> ProofKeys:
        return ProofKeys(build=(), model=())


def of_profile(profile: str, driver_min: str | None) -> Manifest:
    plain = manifest("1.0.0")
    fit = plain.fit.model_copy(update={"driver_min": driver_min, "free_disk_mib": 0})
    serving = plain.serving.model_copy(update={"environments": {"serving": "0" * 64}})
    return plain.model_copy(update={"profile": profile, "fit": fit, "serving": serving})


def instead(
    home: StateDirectory, hardware: Hardware, published: Published, by_hand: str | None = None
) -> tuple[str | None, list[str]]:
    """The profile that is taken instead of the one that serves, and the decisions told."""
    decided: list[str] = []
    device = DeviceSettings(store_url="/gone", name="llm", channel="stable")
    one = Updater(home, device, b"{}", HardwareWatch(lambda: hardware), decided=decided.append)
    request = ProfileRequest(profile=by_hand, serving=SERVES)
    installed = Release.of(published.manifests[SERVES])
    hold(home, "a", published.manifests[SERVES])
    trusted = cast("TrustedStore", published)
    unfit = one.system.check(installed, hardware)
    found = one._fitting(trusted, published.channel, request, hardware, installed, unfit)
    return (found.release.profile if found else None), decided


def test_another_profile_of_the_machine_is_taken_where_its_bundle_fits(
    home: StateDirectory, machine: Callable[[str], Hardware]
) -> None:
    card = machine("tesla-p40")
    needs, too_new = of_profile(SERVES, "999"), of_profile("p40-r998", "998")
    published = Published(needs, too_new, of_profile("p40-r580", "1"), of_profile("p40-x", None))
    profile, decided = instead(home, card, published)
    assert profile == "p40-r580"  # the first that fits, by name
    [told] = decided
    assert f"it needs NVIDIA driver 999 or newer, this is {card.driver}" in told
    assert SERVES not in published.asked


def test_nothing_is_taken_instead_of_what_fits_or_is_not_known_not_to_fit(
    home: StateDirectory, machine: Callable[[str], Hardware]
) -> None:
    card = machine("tesla-p40")
    other = of_profile("p40-r580", None)
    assert instead(home, card, Published(of_profile(SERVES, "1"), other)) == (None, [])
    needs = Published(of_profile(SERVES, "999"), other)
    ill = card.model_copy(update={"driver": None, "gpus": (), "nvidia": "unknown"})
    assert instead(home, ill, needs) == (None, [])
    assert instead(home, card, needs, SERVES) == (None, [])  # a person's word
    assert needs.asked == []
    assert instead(home, card, Published(of_profile(SERVES, "999"))) == (None, [])
