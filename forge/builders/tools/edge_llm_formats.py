"""The number formats of exported graphs in numpy: E2M1, E4M3 and INT4 weights.

Runs in the environment `edge-llm`, whose ml_dtypes has the two floating-point types.

Sources, all of the tensorrt-edgellm 0.11.0 wheel: the schemas in onnx/onnx_custom_schemas.py, and
the layouts that the docstrings of models/ops.py and checkpoint/repacking.py describe. A value is
E2M1 * E4M3 scale of its block of 16 * scale of the tensor; INT4 is (nibble - 8) * scale of its
group. Both operators of ONNX itself: https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

E2M1_MAX = 6.0
E4M3_MAX = 448.0

# Int4GroupwiseGemmPluginV2: a tile of 128 rows (N) and 64 columns (K) is 8 * 128 words of 32 bits.
TILE_N, TILE_K, WORDS = 128, 64, 128
# For each nibble of a word, from the lowest: whether it is 32 rows further, and its column offset.
NIBBLES = ((0, 0), (0, 8), (1, 0), (1, 8), (0, 1), (0, 9), (1, 1), (1, 9))


def quantise_e4m3(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return values / scale in E4M3; what is too large becomes the largest value."""
    ratio = np.clip(values.astype(np.float32) / scale.astype(np.float32), -E4M3_MAX, E4M3_MAX)
    return ratio.astype(ml_dtypes.float8_e4m3fn)


def quantise_e2m1(
    values: np.ndarray, scale: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the last axis in E2M1, and the E4M3 scale of each block.

    The scale of a block is its largest magnitude / 6, in units of `scale`. A tie between two
    values of E2M1 becomes the even one.
    """
    shape = (*values.shape[:-1], values.shape[-1] // block, block)
    blocks = values.astype(np.float32).reshape(shape)
    unit = np.float32(scale.reshape(()))
    wanted = np.abs(blocks).max(axis=-1) / E2M1_MAX
    scales = np.minimum(wanted / unit, E4M3_MAX).astype(ml_dtypes.float8_e4m3fn)
    step = scales.astype(np.float32) * unit
    step[step == 0] = 1
    codes = np.clip(blocks / step[..., None], -E2M1_MAX, E2M1_MAX)
    return codes.astype(ml_dtypes.float4_e2m1fn).reshape(values.shape), scales


def dequantise(codes: np.ndarray, scale: np.ndarray, axis: int = 1, block: int = 0) -> np.ndarray:
    """Return codes * scale in the type of `scale`: one scale, one an index of `axis`, or blocks.

    Raises ValueError if the shape of `scale` fits neither.
    """
    factor = scale.astype(np.float32)
    if block:
        factor = np.repeat(factor, block, axis=axis)
    elif factor.size == 1:
        factor = factor.reshape(())
    elif factor.ndim == 1:
        shape = [1] * codes.ndim
        shape[axis] = factor.size
        factor = factor.reshape(shape)
    return (codes.astype(np.float32) * factor).astype(scale.dtype)


def unpack_int4(words: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the values -8 … 7 of a weight [rows, columns] from the layout of the V2 plugin.

    Word t of line 2·k + p of a tile holds the rows t//4 + 64·p, and 32 further, and the columns
    16·k + 2·(t%4) and further as NIBBLES says.

    Raises ValueError if the buffer has another size.
    """
    across, down = -(-columns // TILE_K), -(-rows // TILE_N)
    lines = words.reshape(-1).view(np.uint32).reshape(down, across, 4, 2, 32, 4)
    values = np.empty((down, across, 4, 2, 32, 4, 8), dtype=np.int8)
    for place in range(8):
        values[..., place] = (lines >> (4 * place)) & 0xF
    weight = np.empty((down, TILE_N, across, TILE_K), dtype=np.int8)
    for place, (further, column) in enumerate(NIBBLES):
        for half in range(2):
            first = 64 * half + 32 * further
            for group in range(4):
                target = weight[:, first : first + 32, :, 16 * group + column :: 2]
                # (down, across, row, 2·(t%4)) → (down, row, across, …)
                target[..., :4] = values[:, :, group, half, :, :, place].transpose(0, 2, 1, 3)
    return weight.reshape(down * TILE_N, across * TILE_K)[:rows, :columns] - 8


def dequantise_int4(words: np.ndarray, scales: np.ndarray, rows: int, group: int) -> np.ndarray:
    """Return the weight [K, N] in float32 of packed words and scales [K / group, N]."""
    columns = scales.shape[0] * group
    factors = np.repeat(scales.astype(np.float32), group, axis=0)
    return unpack_int4(words, rows, columns).T.astype(np.float32) * factors
