"""Compute layers that ModelOpt quantised on a CPU, as TensorRT-LLM does on a GPU. Needs torch.

Weights are what the stored integers and scales mean. Inputs are rounded to the format that the
runtime's matrix units take: FP8 with the stored scale, NVFP4 in blocks of 16 whose scales are
computed from the values. Sums are float32. Results are rounded to the checkpoint's own type, so
that a value which that type cannot hold becomes infinite here, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from modelopt_format import FormatError

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1_BOUNDS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
E2M1_MAX = 6.0
E4M3_MAX = 448.0
NVFP4_BLOCK = 16
SCALES = ("weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")

Rounding = Callable[[torch.Tensor], torch.Tensor]


def weight_of(stored: dict[str, torch.Tensor], precision: str) -> torch.Tensor:
    """Return the weight in float32. Raises FormatError for a scale that is missing or not finite.

    Args:
        stored: the layer's tensors by the last part of their names.
        precision: `fp8`, `nvfp4`, `int4`, `int8`, or a floating-point type.
    """
    weight = stored["weight"]
    if precision not in _DEQUANTISE:
        return weight.float()
    names = {"weight_scale", "weight_scale_2"} if precision == "nvfp4" else {"weight_scale"}
    if missing := sorted(names - stored.keys()):
        raise FormatError(f"a {precision} layer has no {missing[0]}")
    try:
        return _DEQUANTISE[precision](stored)
    except RuntimeError as error:
        raise FormatError(f"a {precision} layer has a scale of another shape: {error}") from None


def _fp8(stored: dict[str, torch.Tensor]) -> torch.Tensor:
    return stored["weight"].float() * stored["weight_scale"].float()


def _nvfp4(stored: dict[str, torch.Tensor]) -> torch.Tensor:
    packed = stored["weight"]
    codes = torch.stack([packed & 0x0F, packed >> 4], -1).flatten(-2).long()
    values = torch.tensor([*E2M1, *(-value for value in E2M1)])[codes]
    scales = stored["weight_scale"].float() * stored["weight_scale_2"].float()
    blocks = values.reshape(values.shape[0], -1, NVFP4_BLOCK)
    return (blocks * scales.unsqueeze(-1)).reshape(values.shape)


def _int4(stored: dict[str, torch.Tensor]) -> torch.Tensor:
    packed, scales = stored["weight"], stored["weight_scale"].float()
    # Two rows a byte, the even one in the low half; the values are signed.
    rows = torch.stack([packed & 0x0F, packed >> 4], 1).flatten(0, 1).to(torch.int8)
    values = torch.where(rows > 7, rows - 16, rows).float()  # noqa: PLR2004 - the largest in 4 bits
    blocks = values.reshape(values.shape[0], scales.shape[-1], -1)
    return (blocks * scales.unsqueeze(-1)).reshape(values.shape)


def _int8(stored: dict[str, torch.Tensor]) -> torch.Tensor:
    return stored["weight"].float() * stored["weight_scale"].float().reshape(-1, 1)


_DEQUANTISE = {"fp8": _fp8, "nvfp4": _nvfp4, "int4": _int4, "int8": _int8}


def rounding_of(stored: dict[str, torch.Tensor], precision: str) -> Rounding | None:
    """Return what a layer does to its input before it multiplies; None: nothing."""
    scale = stored.get("input_scale")
    if precision in ("fp8", "nvfp4"):
        if scale is None:
            raise FormatError(f"a {precision} layer has no input_scale")
        kind = fp8_input if precision == "fp8" else nvfp4_input
        return lambda value: kind(value, scale.float())
    if (factor := stored.get("pre_quant_scale")) is not None:
        return lambda value: value * factor.float()
    return None


def fp8_input(value: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round to FP8 E4M3 with one scale; larger values are cut."""
    scaled = (value / scale).clamp(-E4M3_MAX, E4M3_MAX)
    return scaled.to(torch.float8_e4m3fn).float() * scale


def nvfp4_input(value: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Round to FP4 E2M1 in blocks of 16, whose scales are FP8 multiples of one scale."""
    blocks = value.reshape(-1, NVFP4_BLOCK)
    wanted = blocks.abs().amax(-1, keepdim=True) / (E2M1_MAX * scale)
    by_block = wanted.clamp(max=E4M3_MAX).to(torch.float8_e4m3fn).float() * scale
    scaled = torch.where(by_block > 0, blocks / by_block, torch.zeros_like(blocks))
    return (e2m1(scaled) * by_block).reshape(value.shape)


def e2m1(value: torch.Tensor) -> torch.Tensor:
    """Round to the nearest value of FP4 E2M1; halves go to the even code."""
    size = value.abs()
    code = torch.bucketize(size, torch.tensor(E2M1_BOUNDS))
    for odd in E2M1_BOUNDS[1::2]:  # between an odd code and the even one above it
        code += size == odd
    return torch.tensor(E2M1)[code].copysign(value)


def install(model: Any, roundings: dict[str, Rounding], result: torch.dtype) -> None:
    """Let a float32 model round inputs of its layers, and all results to a type.

    Raises FormatError: a quantised layer is not a linear one of the model.
    """
    modules = dict(model.named_modules())
    for name, rounding in roundings.items():
        if not isinstance(modules.get(name), torch.nn.Linear):
            raise FormatError(f"quantised layer {name} is not a linear layer of the model")
        modules[name].register_forward_pre_hook(_before(rounding))
    if result == torch.float32:
        return
    for module in modules.values():
        if not list(module.children()) or type(module).__name__.endswith("DecoderLayer"):
            module.register_forward_hook(_after(result))


def _before(rounding: Rounding) -> Any:
    return lambda _module, inputs: (rounding(inputs[0]), *inputs[1:])


def _after(result: torch.dtype) -> Any:
    def rounded(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            return value.to(result).float()
        return tuple(rounded(one) for one in value) if isinstance(value, tuple) else value

    return lambda _module, _inputs, output: rounded(output)
