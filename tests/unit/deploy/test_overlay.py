"""What of a pod a profile decides."""

from __future__ import annotations

import pytest

from tests.support.overlays import of


@pytest.mark.parametrize(
    ("name", "gpus", "runtime_class", "image"),
    [
        ("development", 0, "", "device"),
        ("rtx-pro-4000", 1, "", "serving-triton-26.07-trtllm"),
        ("rtx-pro-4000-aot", 1, "", "device"),
        ("tesla-p40", 1, "", "device"),
        ("jetson-agx-thor", 0, "nvidia", "serving-triton-25.09"),
        ("jetson-agx-orin", 0, "nvidia", "serving-triton-25.09"),
    ],
)
def test_gpu_and_image_are_those_of_the_profile(
    name: str, gpus: int, runtime_class: str, image: str
) -> None:
    made = of(name)
    assert (made.gpus, made.runtime_class, made.image) == (gpus, runtime_class, image)


def test_a_jetson_shows_what_it_is_recognised_by() -> None:
    assert [(one.path, one.inside) for one in of("jetson-agx-thor").host_files] == [
        ("/etc/nv_tegra_release", "/etc/nv_tegra_release"),
        ("/etc/nvpmodel.conf", "/etc/nvpmodel.conf"),
        ("/sys/firmware/devicetree/base", "/run/forge/device-tree"),
    ]
    assert of("rtx-pro-4000").host_files == ()


def test_an_image_that_is_no_base_is_taken_as_the_profile_names_it() -> None:
    image = f"registry.example/serving@sha256:{'a' * 64}"
    made = of("rtx-pro-4000", f"serving.image={image}")
    assert made.pinned
    assert made.image == image
    assert not of("rtx-pro-4000").pinned


def test_the_volume_holds_three_bundles_beside_the_free_disk_that_is_asked_for() -> None:
    made = of("jetson-agx-thor", "requires.free_disk_mib=20480", "requires.bundle_mib=14336")
    assert made.storage_gib == 20 + 3 * 14
    made = of("jetson-agx-thor", "requires.free_disk_mib=20481", "requires.bundle_mib=14336")
    assert made.storage_gib == 20 + 3 * 14 + 1


def test_unified_memory_is_the_nodes() -> None:
    made = of("jetson-agx-thor", "requires.memory_mib=10000")
    assert made.memory_mib == 10512
    # A discrete GPU's memory is not asked of the node.
    assert of("rtx-pro-4000", "requires.memory_mib=10000").memory_mib == 2048
