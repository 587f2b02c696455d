# ruff: noqa: INP001 - Triton's stub imports this file from the folder of model.py
"""Whether this machine has a GPU that CUDA can use, asked of the driver itself.

ONNX Runtime only logs why its CUDA provider cannot be used, and continues on the CPU.
"""

from __future__ import annotations

import ctypes

DRIVER = "libcuda.so.1"


def require(driver: str = DRIVER) -> None:
    """Raise RuntimeError if there is no driver or it has no GPU."""
    try:
        cuda = ctypes.CDLL(driver)
    except OSError as error:
        raise RuntimeError(
            f"This model requires an NVIDIA GPU, and no driver is installed: {error}"
        ) from None
    if code := cuda.cuInit(0):
        raise RuntimeError(
            f"This model requires an NVIDIA GPU, and the driver has none (cuInit: error {code})"
        )
    count = ctypes.c_int(0)
    if (code := cuda.cuDeviceGetCount(ctypes.byref(count))) or not count.value:
        raise RuntimeError(
            "This model requires an NVIDIA GPU, and the driver has none"
            f" (cuDeviceGetCount: error {code}, {count.value} devices)"
        )
