"""Nodes are chosen by labels that GPU feature discovery writes, as it writes them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from forge.deploy.labels import Rule, product, rules
from forge.profiles import Profile, load, names

PROFILES = Path(__file__).resolve().parents[3] / "profiles"
# What GPU feature discovery writes (its resource labels, and those of the kubelet).
EXISTING = {
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "nvidia.com/gpu.compute.major",
    "nvidia.com/gpu.compute.minor",
    "nvidia.com/gpu.product",
    "nvidia.com/gpu.memory",
    "forge-release.github.io/sku",
}


def profile(name: str) -> Profile:
    return load(name, PROFILES).profile


def holds(rule: Rule, labels: dict[str, str]) -> bool:
    """As the scheduler decides."""
    value = labels.get(rule.key)
    if value is None:
        return False
    if rule.operator == "In":
        return value in rule.values
    [limit] = map(int, rule.values)
    return int(value) > limit if rule.operator == "Gt" else int(value) < limit


def chosen(name: str, labels: dict[str, str]) -> bool:
    return all(holds(rule, labels) for rule in rules(profile(name)))


def node(gpu: str, memory: int, capability: str) -> dict[str, str]:
    major, minor = capability.split(".")
    return {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.product": gpu,
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
    }


RTX = node("NVIDIA-RTX-PRO-4000-Blackwell", 24467, "12.0")
P40 = node("Tesla-P40", 23040, "6.1")
LAPTOP = node("NVIDIA-RTX-PRO-4000-Blackwell-Generation-Laptop-GPU", 16303, "12.0")
GEFORCE = node("NVIDIA-GeForce-RTX-5090", 32607, "12.0")
SHARED = RTX | {"nvidia.com/gpu.product": "NVIDIA-RTX-PRO-4000-Blackwell-SHARED"}


@pytest.mark.parametrize("name", names(PROFILES))
def test_rules_name_only_labels_that_exist(name: str) -> None:
    assert {rule.key for rule in rules(profile(name))} <= EXISTING


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("rtx-pro-4000", RTX, P40),
        ("rtx-pro-4000", RTX, LAPTOP),
        ("rtx-pro-4000", RTX, GEFORCE),
        ("rtx-pro-4000", RTX, SHARED),
        ("rtx-pro-4000-aot", RTX, GEFORCE),
        ("tesla-p40", P40, RTX),
    ],
)
def test_the_sku_is_chosen_and_a_like_one_is_not(
    name: str, right: dict[str, str], wrong: dict[str, str]
) -> None:
    assert chosen(name, right)
    assert not chosen(name, wrong)


def test_a_jetson_is_chosen_by_our_own_label_and_not_because_it_is_arm64() -> None:
    arm = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    assert not chosen("jetson-agx-thor", arm)
    assert chosen("jetson-agx-thor", arm | {"forge-release.github.io/sku": "jetson-agx-thor"})
    assert not chosen("jetson-agx-orin", arm | {"forge-release.github.io/sku": "jetson-agx-thor"})


@pytest.mark.parametrize("name", names(PROFILES))
def test_names_written_out_are_those_the_pattern_means(name: str) -> None:
    hardware = profile(name).hardware
    pattern = hardware.match.gpu_name
    if pattern is not None:
        assert hardware.gpu_names
        assert [one for one in hardware.gpu_names if not fnmatchcase(one, pattern)] == []


@pytest.mark.parametrize("name", names(PROFILES))
def test_values_are_valid_as_labels(name: str) -> None:
    for rule in rules(profile(name)):
        for value in rule.values:
            assert len(value) <= 63
            assert value.replace("-", "").replace(".", "").isalnum()


def test_spaces_are_dashes_in_a_product() -> None:
    # From NVIDIA's own label of a node: no other character is changed.
    assert product("NVIDIA RTX PRO 6000 Blackwell Server Edition") == (
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"
    )
