"""The operators of exported graphs in numpy. Runs in the environment `edge-llm`.

Each function takes the attributes of a node and its inputs. A float16 value is computed in float32
and then rounded to float16, as a kernel with a float32 accumulator does; so what exceeds 65,504
becomes infinite, as on the device.

Sources: https://onnx.ai/onnx/operators/ for those without a domain; for the domains `trt` and
`trt_edgellm`, the schemas in onnx/onnx_custom_schemas.py and the docstrings of models/ops.py in the
tensorrt-edgellm 0.11.0 wheel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import edge_llm_attention
import edge_llm_formats as formats
import ml_dtypes
import numpy as np

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]

# TensorProto.DataType → numpy: https://onnx.ai/onnx/api/classes.html#tensorproto
TYPES: dict[int, Any] = {
    1: np.float32,
    6: np.int32,
    7: np.int64,
    9: np.bool_,
    10: np.float16,
    16: ml_dtypes.bfloat16,
}
_E4M3 = 17


class OperatorError(Exception):
    """A node is not known here, or has an attribute that is not."""


def _wide(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float16 else value


def _elementwise(compute: Operator) -> Operator:
    def operator(_: Attributes, *inputs: np.ndarray) -> np.ndarray:
        result = compute(*(_wide(value) for value in inputs))
        return np.asarray(result, dtype=inputs[0].dtype)

    return operator


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-value)))


def _cast(attributes: Attributes, value: np.ndarray) -> np.ndarray:
    number = int(attributes["to"])
    if number not in TYPES:
        raise OperatorError(f"Cast to ONNX type {number} is not known")
    return value.astype(TYPES[number], copy=False)


def _matmul(_: Attributes, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if right.shape[:-2]:
        return np.matmul(_wide(left), _wide(right)).astype(left.dtype, copy=False)
    flat = _wide(left).reshape(-1, left.shape[-1]) @ _wide(right)  # not one for each token
    return flat.reshape(*left.shape[:-1], right.shape[-1]).astype(left.dtype, copy=False)


def _gemm(
    attributes: Attributes, left: np.ndarray, right: np.ndarray, bias: np.ndarray | None = None
) -> np.ndarray:
    first, second = _wide(left), _wide(right)
    if attributes.get("transA"):
        first = first.T
    if attributes.get("transB"):
        second = second.T
    result = first @ second
    if (alpha := attributes.get("alpha", 1.0)) != 1.0:
        result *= np.float32(alpha)
    if bias is not None:
        result += _wide(bias) * np.float32(attributes.get("beta", 1.0))
    return result.astype(left.dtype, copy=False)


def _reduce_mean(
    attributes: Attributes, value: np.ndarray, axes: np.ndarray | None = None
) -> np.ndarray:
    chosen = tuple(int(axis) for axis in axes) if axes is not None and axes.size else None
    if chosen is None and attributes.get("noop_with_empty_axes"):
        return value
    keep = bool(attributes.get("keepdims", 1))
    return np.asarray(_wide(value).mean(axis=chosen, keepdims=keep), dtype=value.dtype)


def _reshape(attributes: Attributes, value: np.ndarray, shape: np.ndarray) -> np.ndarray:
    wanted = [int(size) for size in shape]
    if not attributes.get("allowzero"):
        wanted = [value.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    return value.reshape(wanted)


def _shape(attributes: Attributes, value: np.ndarray) -> np.ndarray:
    return np.array(value.shape[attributes.get("start", 0) : attributes.get("end")], dtype=np.int64)


def _unsqueeze(_: Attributes, value: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return np.expand_dims(value, tuple(int(axis) for axis in axes.reshape(-1)))


def _squeeze(_: Attributes, value: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(value, None if axes is None else tuple(int(axis) for axis in axes))


def _concat(attributes: Attributes, *inputs: np.ndarray) -> np.ndarray:
    return np.concatenate(inputs, axis=int(attributes["axis"]))


def _gather(attributes: Attributes, value: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.take(value, indices, axis=int(attributes.get("axis", 0)))


def _transpose(attributes: Attributes, value: np.ndarray) -> np.ndarray:
    return value.transpose(attributes.get("perm"))


def _identity(_: Attributes, value: np.ndarray) -> np.ndarray:
    return value


def _softmax(attributes: Attributes, value: np.ndarray) -> np.ndarray:
    axis = int(attributes.get("axis", -1))
    powers = np.exp(_wide(value) - _wide(value).max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True), dtype=value.dtype)


def _quantise(
    attributes: Attributes, value: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
    found = attributes.get("output_dtype", _E4M3 if zero is None else None)
    if found != _E4M3 or scale.size != 1 or zero is not None:
        raise OperatorError("QuantizeLinear is known only to E4M3 with one scale")
    return formats.quantise_e4m3(value, scale)


def _dequantise(
    attributes: Attributes, codes: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
    if zero is not None and np.any(zero.astype(np.float32)):
        raise OperatorError("DequantizeLinear with a zero point is not known")
    axis, block = int(attributes.get("axis", 1)), int(attributes.get("block_size", 0))
    return formats.dequantise(codes, scale, axis, block)


def _fp4_dynamic_quantise(
    attributes: Attributes, value: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    axis = int(attributes.get("axis", -1))
    if attributes.get("scale_type") != _E4M3 or axis not in (-1, value.ndim - 1):
        raise OperatorError(
            "TRT_FP4DynamicQuantize is known only with E4M3 scales of the last axis"
        )
    return formats.quantise_e2m1(value, scale, int(attributes["block_size"]))


def _int4_gemm(
    attributes: Attributes, value: np.ndarray, words: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    return _matmul(attributes, value, int4_weight(attributes, words, scales))


def int4_weight(attributes: Attributes, words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the weight [K, N] in float32 of a node Int4GroupwiseGemmPluginV2."""
    rows, group = int(attributes["gemm_n"]), int(attributes["group_size"])
    if scales.shape != (int(attributes["gemm_k"]) // group, rows):
        raise OperatorError(f"Int4GroupwiseGemmPluginV2 has scales of shape {scales.shape}")
    return formats.dequantise_int4(words, scales, rows, group)


def _qkv_concat(_: Attributes, *inputs: np.ndarray) -> np.ndarray:
    return np.concatenate(inputs, axis=-1)


def _attention(
    attributes: Attributes,
    qkv: np.ndarray,
    pool: np.ndarray,
    query_lengths: np.ndarray,
    rotation: np.ndarray,
    past_lengths: np.ndarray,
    page_table: np.ndarray,
    *more: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute AttentionPlugin; of the optional inputs, those of the norm come first."""
    try:
        head = edge_llm_attention.heads(dict(attributes))
    except edge_llm_attention.AttentionError as error:
        raise OperatorError(str(error)) from None
    gammas = (more[0], more[1]) if head.norm else None
    batch = edge_llm_attention.Batch(query_lengths, past_lengths, page_table, rotation)
    return edge_llm_attention.attend(head, qkv, pool, batch, gammas), pool


OPERATORS: dict[str, Operator] = {
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(np.divide),
    "Pow": _elementwise(np.power),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(np.reciprocal),
    "Neg": _elementwise(np.negative),
    "Tanh": _elementwise(np.tanh),
    "Sigmoid": _elementwise(_sigmoid),
    "Cast": _cast,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "ReduceMean": _reduce_mean,
    "Reshape": _reshape,
    "Shape": _shape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Gather": _gather,
    "Transpose": _transpose,
    "Identity": _identity,
    "Softmax": _softmax,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
    "trt::DequantizeLinear": _dequantise,
    "trt::TRT_FP4DynamicQuantize": _fp4_dynamic_quantise,
    "trt_edgellm::Int4GroupwiseGemmPluginV2": _int4_gemm,
    "trt_edgellm::QkvConcatPlugin": _qkv_concat,
    "trt_edgellm::AttentionPlugin": _attention,
}
