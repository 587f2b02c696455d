"""What of a machine's versions has changed, where both are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from forge.device.hardware.inventory import Hardware
from forge.device.hardware.system_versions import SystemVersions, differences

BEFORE = SystemVersions(
    driver="590.44.01",
    l4t="38.4.0",
    runtime={"tensorrt": "10.13.3"},
    gpus=("NVIDIA Thor",),
    system="Ubuntu 24.04.3 LTS",
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ()),
        ({"driver": "595.78"}, ("NVIDIA driver 590.44.01 → 595.78",)),
        ({"l4t": "39.2.0"}, ("L4T 38.4.0 → 39.2.0",)),
        ({"runtime": {"tensorrt": "10.14.1"}}, ("TensorRT 10.13.3 → 10.14.1",)),
        ({"runtime": {"tensorrt": "10.13.3", "other": "1"}}, ()),
        ({"system": "Ubuntu 26.04 LTS"}, ("system Ubuntu 24.04.3 LTS → Ubuntu 26.04 LTS",)),
        ({"gpus": ()}, ("GPU NVIDIA Thor → none",)),
        ({"gpus": ("Tesla P40", "Tesla P40")}, ("GPU NVIDIA Thor → Tesla P40, Tesla P40",)),
        ({"driver": "595.78", "l4t": "39.2.0"},
         ("NVIDIA driver 590.44.01 → 595.78", "L4T 38.4.0 → 39.2.0")),
        # Not known now is not a change.
        ({"driver": None, "l4t": None, "runtime": {}, "gpus": None, "system": None}, ()),
    ],
)  # fmt: skip
def test_each_version_that_is_another_one_is_told_old_and_new(
    changes: dict[str, Any], told: tuple[str, ...]
) -> None:
    assert differences(BEFORE, BEFORE.model_copy(update=changes)) == told


def test_what_was_not_known_before_has_not_changed() -> None:
    assert differences(SystemVersions(), BEFORE) == ()


def test_the_same_gpus_in_another_order_are_the_same() -> None:
    two = SystemVersions(gpus=("A", "B"))
    assert differences(two, SystemVersions(gpus=("B", "A"))) == ()
    assert differences(two, SystemVersions(gpus=("A", "A"))) == ("GPU A, B → A, A",)


def test_what_is_not_known_now_is_as_it_was() -> None:
    assert SystemVersions().known_since(BEFORE) == BEFORE
    assert BEFORE.known_since(SystemVersions()) == BEFORE
    newer = SystemVersions(driver="595.78", runtime={"other": "1"}, gpus=())
    known = newer.known_since(BEFORE)
    assert (known.driver, known.l4t, known.gpus) == ("595.78", "38.4.0", ())
    assert known.runtime == {"tensorrt": "10.13.3", "other": "1"}


def test_the_versions_of_captured_machines(machine: Callable[[str], Hardware]) -> None:
    card = SystemVersions.of(machine("rtx-pro-4000"))
    assert card.gpus == ("NVIDIA RTX PRO 4000 Blackwell",)
    assert card.driver is not None
    assert SystemVersions.of(machine("no-gpu")).gpus == ()
    ill = SystemVersions.of(machine("broken-driver"))
    assert ill.gpus is None
    assert differences(card, ill.model_copy(update={"system": card.system})) == ()
    older, newer = (SystemVersions.of(machine(f"thor-jetpack-7.{n}")) for n in (1, 2))
    assert f"L4T {older.l4t} → {newer.l4t}" in differences(older, newer)
