"""What nvidia-smi lists: whole GPUs, integrated ones, slices, and those of a hypervisor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.device.hardware.gpus import Gpu, GpuKind, bare_name, named, parse_gpus

A100 = "NVIDIA A100-SXM4-40GB, 40960, 590.44.01, 8.0, GPU-aa, Enabled\n"
HIDDEN = "NVIDIA A100-SXM4-40GB, [Insufficient Permissions], 590.44.01, 8.0, GPU-aa, Enabled\n"
LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)
  MIG 1g.5gb      Device  0: (UUID: MIG-11)
  MIG 3g.20gb     Device  1: (UUID: MIG-33)
"""
TABLE = """\
| GPU  GI  CI  MIG |                     Memory-Usage |        Vol|
|==================+==================================+===========|
|  0    7   0   0  |              12MiB /  4864MiB    | 14      0 |
|                  |               0MiB /  8191MiB    |           |
|  0    2   0   1  |              12MiB / 19968MiB    | 42      0 |
"""


def only(row: str) -> Gpu:
    [gpu], _ = parse_gpus(row)
    return gpu


@pytest.mark.parametrize(
    ("row", "kind", "memory"),
    [
        ("Tesla P40, 24576, 580.126.09, 6.1", "discrete", 24576),
        ("Tesla P40, 24576, 470.1", "discrete", 24576),
        ("NVIDIA Thor, [N/A], 595.78, 11.0", "integrated", None),
        ("Orin (nvgpu), [N/A], [N/A], 8.7", "integrated", None),
        ("NVIDIA GB10, [N/A], 580.95.05, 12.1", "integrated", None),
        ("NVIDIA GB10, Not Supported, 580.95.05, 12.1", "integrated", None),
        ("RTX, [GPU requires reset], 590.44.01, 12.0", "discrete", None),
        ("RTX, [Unknown Error], 590.44.01, 12.0", "discrete", None),
        ("RTX, ERR!, 590.44.01, 12.0", "discrete", None),
        ("GRID P40-24Q, 24576, 580.1, 6.1", "vgpu", 24576),
        ("GRID RTX6000P, 24576, 580.1, 6.1", "vgpu", 24576),
        ("NVIDIA RTX PRO 6000 Blackwell DC-24Q, 24576, 590.1, 12.0", "vgpu", 24576),
        ("NVIDIA A16-4C, 4096, 590.1, 8.6", "vgpu", 4096),
    ],
)
def test_each_gpu_is_of_a_kind(row: str, kind: GpuKind, memory: int | None) -> None:
    assert (only(row).kind, only(row).memory_mib) == (kind, memory)


def test_cells_that_are_not_known_are_none_and_the_row_counts() -> None:
    gpu = only("[Unknown Error], ERR!, [N/A], [N/A], [Unknown Error], [N/A]")
    assert gpu == Gpu(name=None, memory_mib=None, compute_capability=None, index=0)
    gpus, driver = parse_gpus("ERR!, 1, [Unknown Error], 6.1\nTesla P40, 1, 580.1, 6.1")
    assert [gpu.name for gpu in gpus] == [None, "Tesla P40"]
    assert driver == "580.1"


@pytest.mark.parametrize(
    "line",
    [
        "Warning: persistence mode is disabled, see nvidia-persistenced, or pass -pm 1, now",
        "Failed to initialize NVML: Driver/library version mismatch",
        "NVML library version: 590.48",
        "No devices were found",
        "a, b, c, d",
        "Tesla P40, 24576",
        "Tesla P40, much, 580.1, 6.1",
        ", 24576, 580.1, 6.1",
    ],
)
def test_a_sentence_is_no_gpu(line: str) -> None:
    assert parse_gpus(line) == ((), None)


def test_the_uuid_is_kept_in_whatever_column_an_old_driver_has_it() -> None:
    for row in ("P40, 1, 470.1, GPU-1", "P40, 1, 580.1, 6.1, GPU-1, [N/A]"):
        gpu = only(row)
        assert (gpu.uuid, gpu.board) == ("GPU-1", "GPU-1")
    assert only("P40, 1, 470.1, GPU-1").compute_capability is None


@pytest.mark.parametrize("row", [A100, HIDDEN])
def test_a_gpu_in_mig_mode_is_its_slices(row: str) -> None:
    gpus, driver = parse_gpus(row, LISTED, TABLE)
    assert driver == "590.44.01"
    assert [(gpu.kind, gpu.name, gpu.uuid, gpu.board, gpu.memory_mib) for gpu in gpus] == [
        ("mig", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "MIG-11", "GPU-aa", 4864),
        ("mig", "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-33", "GPU-aa", 19968),
    ]
    assert [gpu.compute_capability for gpu in gpus] == ["8.0", "8.0"]


def test_slices_without_a_table_have_no_known_memory() -> None:
    gpus, _ = parse_gpus(A100, LISTED)
    assert [gpu.memory_mib for gpu in gpus] == [None, None]


def test_a_gpu_that_is_not_in_mig_mode_stays_whole() -> None:
    gpus, _ = parse_gpus(A100.replace("Enabled", "Disabled"), LISTED, TABLE)
    assert [gpu.kind for gpu in gpus] == ["discrete"]


def test_slices_belong_to_their_own_gpu() -> None:
    rows = "P40, 1, 590.1, 6.1, GPU-p, [N/A]\n" + A100
    gpus, _ = parse_gpus(rows, "GPU 0: P40 (UUID: GPU-p)\n" + LISTED.replace("GPU 0", "GPU 1"))
    assert [gpu.kind for gpu in gpus] == ["discrete", "mig", "mig"]
    assert [gpu.index for gpu in gpus] == [0, 1, 1]


def test_the_bare_name_is_that_of_the_whole_gpu() -> None:
    names = ("GRID P40-24Q", "NVIDIA A100 MIG 1g.5gb", "Tesla P40", None)
    bare = [bare_name(Gpu(name=one, memory_mib=1, compute_capability="1.0")) for one in names]
    assert bare == ["GRID P40", "NVIDIA A100", "Tesla P40", None]


def test_a_gpu_is_named_by_its_uuid_or_number() -> None:
    gpu = only("P40, 1, 580.1, 6.1, GPU-abc")
    assert [named(gpu, one) for one in (None, "GPU-abc", "GPU-a", "0")] == [True] * 4
    assert [named(gpu, one) for one in ("GPU-b", "1", "abc")] == [False] * 3
    assert not named(only("P40, 1, 580.1, 6.1"), "GPU-a")


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_the_parser(rows: str, listed: str, table: str) -> None:
    parse_gpus(rows, listed, table)
    parse_gpus(A100, listed, table)
