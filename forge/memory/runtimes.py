"""What each builder's runtime takes of memory: its formula, with the source of every number.

    weights     parameters x bits of the precision, times the copies that the runtime holds
    KV cache    tokens x bytes x sum over layers of heads x (key + value); ModelShape.cache_elements
    workspace   activations of the tokens that one step computes, logits, buffers of sequences
    runtime     the server, its libraries, a GPU's context

Measured here: openvino (docs/results/memory.md). Computed from documents and from the code of our
Triton models, and not yet measured: tensorrt-llm, tensorrt-rtx, edge-llm, onnx-runtime.

Sources: "Memory Usage of TensorRT-LLM" (nvidia.github.io/TensorRT-LLM/reference/memory.html);
openvino.genai's SchedulerConfig and cache_manager.hpp; docs/reference/builders.md. vLLM and ONNX
Runtime GenAI compute the same KV cache; neither is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from forge.memory.formula import LEAST_CACHE_SHARE, CacheTerm, MemoryFormula
from forge.memory.shape import CacheLayers, ModelShape
from forge.profiles import Profile

__all__ = ["formula_of"]

_MIB: Final = 2**20
_FP32, _FP16 = 4, 2  # bytes

# Bits of one weight of a layer, with scales and zero points.
#   fp8    ModelOpt: one scale a tensor
#   nvfp4  16 weights share a scale in fp8: 4 + 8/16. SmolLM2's checkpoint: 116.5 MB, computed 116.4
#   int4   AWQ, 128 weights share a scale in fp16: 4 + 16/128
#   int8   weight only, one scale a channel
_BITS: Final[Mapping[str, float]] = {
    "fp32": 32,
    "fp16": 16,
    "bf16": 16,
    "fp8": 8,
    "int8": 8,
    "int4": 4.125,
    "nvfp4": 4.5,
}
_SYSTEM_MIB: Final = 2048
"""Left to the system where it shares the memory: Linux, the agent, page cache of the update. An
assumption; not yet measured on a Jetson, whose MemTotal already lacks what the firmware took."""
_COMPILE_TIMES_WEIGHTS: Final = 4  # edge_llm_engine.MEMORY_TIMES_WEIGHTS


def formula_of(
    shape: ModelShape, profile: Profile, quantisation: Sequence[str] | None = None
) -> MemoryFormula | None:
    """Return what serving a model takes by a profile's builder; None for a builder of a project.

    Args:
        shape: the model's sizes.
        profile: with its builder and limits.
        quantisation: types of a GGUF file's tensors, in lower case; None: not known.
    """
    found = _RUNTIMES.get(profile.engine.builder)
    if found is None:
        return None
    shared = profile.hardware.memory_kind != "discrete"
    system = _SYSTEM_MIB if profile.hardware.memory_kind == "unified" else 0
    formula = found(shape, profile, quantisation)
    return formula.model_copy(update={"system_mib": system}) if shared else formula


def _caches(shape: ModelShape, bytes_of: Callable[[CacheLayers], float]) -> tuple[CacheTerm, ...]:
    """Return the cache of each group of layers.

    Windows are left out: every runtime here holds whole sequences for all layers. TensorRT-LLM can
    hold less (KvCacheConfig.max_attention_window), which our Triton model does not ask for.
    """
    return tuple(CacheTerm(bytes_per_token=_up(bytes_of(one))) for one in shape.caches)


def _up(size: float) -> int:
    return -int(-size // 1)


def _mib(size: float) -> int:
    return -int(-size // _MIB)


def _weights(shape: ModelShape, precision: str, table_bytes: float, tables: int) -> float:
    """Return the bytes of the weights.

    Args:
        shape: of the model.
        precision: engine.precision, of the layers' weights.
        table_bytes: of one element of a table, which quantisers leave in more bits.
        tables: how many there are, where the tied one counts twice if it is stored twice.
    """
    return shape.inner_parameters * _BITS[precision] / 8 + tables * shape.table * table_bytes


def _tables(shape: ModelShape) -> int:
    """Return how many tables are stored, a tied one once."""
    return 1 if shape.tied else 2


# OpenVINO on a CPU, 2026.4.1. Measured; docs/results/memory.md.
_OV_SERVER_MIB: Final = 250
"""Triton, its stub with Python, OpenVINO and GenAI; 115 MiB of it are mapped libraries."""
_OV_WORD_BYTES: Final = 1130
"""Of a word of the vocabulary in Python, where the engine has no tokenizer.json: of a GGUF file."""
_OV_STEP_TOKENS: Final = 256  # of prompts in a step: SchedulerConfig.max_num_batched_tokens
_OV_BLOCK_TOKENS: Final = 32  # cache_manager.hpp; templates/openvino/model.py
_OV_SCALE_BYTES: Final = 8  # a scale and a zero point in fp32
# Bits of the tables in the IR: NNCF keeps them in 8 bits where layers have 4.
_OV_TABLE_BITS: Final[Mapping[str, float]] = {"fp16": 16, "bf16": 16, "int8": 8, "int4": 8}
# Bits of a matrix of a GGUF file in the IR: those types that the reader keeps (openvino_gguf.KEPT),
# and bf16 and f32, which the builder writes as F16. It writes every other type as Q8_0.
#   q4_0, q8_0  4 or 8 bits, a scale in fp16 for 32 weights. SmolLM2's IR: 144.0 MB, computed 142.9
#   q6_k        the reader unpacks it to 8 bits, a scale in fp16 for 16 weights; not measured
_OV_GGUF_BITS: Final[Mapping[str, float]] = {
    "f16": 16,
    "bf16": 16,
    "f32": 16,
    "q4_0": 4.5,
    "q6_k": 9,
    "q8_0": 8.5,
}
_OV_REWRITTEN_BITS: Final = 8.5  # Q8_0


def _openvino_gguf_bits(quantisation: Sequence[str] | None) -> tuple[float, float]:
    """Return the bits of a weight of a GGUF file's layers and of its tables.

    A URL names the types but not which tensors have them, so the largest counts. A file in Q4_0 as
    llama.cpp writes it is known: it has Q6_K for the output's table alone.
    """
    # F32 with other types is that of vectors, which do not count.
    kinds = set(quantisation or ()) - {"f32"} or set(quantisation or ())
    bits = [_OV_GGUF_BITS.get(kind, _OV_REWRITTEN_BITS) for kind in kinds]
    most = max(bits, default=_OV_REWRITTEN_BITS)
    return (_OV_GGUF_BITS["q4_0"] if kinds == {"q4_0", "q6_k"} else most), most


def _openvino(
    shape: ModelShape, profile: Profile, quantisation: Sequence[str] | None
) -> MemoryFormula:
    """Return the formula of OpenVINO GenAI's continuous batching on a CPU.

    Weights: the mapped file, and what the CPU's kernels read of all but an embedding's table.

    KV cache: KV_CACHE_PRECISION is u8 by default. A block of 32 tokens has for each key channel,
    and each token has for its value, a scale and a zero point in fp32: compiled inputs
    `key_cache.N [?, heads, 32 + 8, size]` and `value_cache.N [?, heads, 32, size + 8]` in u8. The
    scheduler is given blocks for every sequence at its longest.
    """
    precision, engine = profile.engine.precision, profile.engine
    # Other values than those of _BITS: a GGUF file as it is.
    layer_bits, gguf_table_bits = _openvino_gguf_bits(quantisation)
    table_bits = _OV_TABLE_BITS.get(precision, gguf_table_bits)
    bits = _BITS.get(precision, layer_bits)
    table = shape.table * table_bits / 8
    inner = shape.inner_parameters * bits / 8
    file, kernels = inner + _tables(shape) * table, inner + table
    words = shape.vocabulary * _OV_WORD_BYTES if precision not in _BITS else 0
    tokens = max(profile.serving.max_num_batched_tokens or _OV_STEP_TOKENS, engine.max_batch_size)
    return MemoryFormula(
        weights_mib=_mib(file + kernels),
        runtime_mib=_OV_SERVER_MIB + _mib(words),
        workspace_mib=_mib(tokens * _activations(shape) * _FP32),
        caches=_caches(shape, _openvino_cache),
        block_tokens=_OV_BLOCK_TOKENS,
        sequence_bytes=2 * shape.vocabulary * _FP32,  # logits, and the sampler's copy
    )


def _openvino_cache(one: CacheLayers) -> float:
    """Return the bytes of a token in the u8 cache of some layers."""
    scales = _OV_SCALE_BYTES / _OV_BLOCK_TOKENS * one.key_size + _OV_SCALE_BYTES
    return one.elements + one.layers * one.heads * scales


def _activations(shape: ModelShape) -> int:
    """Return the elements of one token's activations that live at the same time.

    The residual stream and its normalised copy, query, key and value, or gate, up and their
    product, whichever are more; buffers of layers are used again.
    """
    attention = shape.cache_elements // max(1, shape.layers) + 2 * shape.hidden
    return 2 * shape.hidden + max(attention, 3 * shape.intermediate)


# GPUs. Assumptions until a GPU is measured: what CUDA's context, kernels and libraries take of the
# GPU's memory, and what Triton with a Python model takes of the system's where both are one.
_CUDA_MIB: Final = 512
_TORCH_MIB: Final = 512  # TensorRT-LLM 1.2.1 computes with PyTorch: its caches and workspaces
_HOST_MIB: Final = 320  # more than was measured with OpenVINO, whose libraries count in it


def _gpu_runtime_mib(profile: Profile) -> int:
    """Return the runtime's part: on a discrete GPU, memory of the system does not count."""
    return _CUDA_MIB + (0 if profile.hardware.memory_kind == "discrete" else _HOST_MIB)


def _fp16_cache(one: CacheLayers) -> float:
    return one.elements * _FP16


_TRTLLM_TOKENS: Final = 8192  # of a step: max_num_tokens of the LLM API
_TRTLLM_BLOCK_TOKENS: Final = 32  # KvCacheConfig.tokens_per_block


def _tensorrt_llm(shape: ModelShape, profile: Profile, _: Sequence[str] | None) -> MemoryFormula:
    """Return the formula of TensorRT-LLM. Not yet measured on hardware.

    "Memory Usage of TensorRT-LLM": weights + activations of max_num_tokens + KV cache, which gets
    `free_gpu_memory_fraction` of what is left then. So that a full batch of full length has a
    cache, KV cache / kv_cache_fraction must be left. ModelOpt leaves tables in 16 bits.
    """
    tables = _tables(shape)
    return MemoryFormula(
        weights_mib=_mib(_weights(shape, profile.engine.precision, _FP16, tables)),
        runtime_mib=_gpu_runtime_mib(profile) + _TORCH_MIB,
        workspace_mib=_mib(_TRTLLM_TOKENS * _activations(shape) * _FP16),
        caches=_caches(shape, _fp16_cache),
        block_tokens=_TRTLLM_BLOCK_TOKENS,
        cache_share=max(LEAST_CACHE_SHARE, profile.serving.kv_cache_fraction),
        sequence_bytes=shape.vocabulary * _FP32,
    )


_RTX_PIECE: Final = 512  # tensorrt_rtx_compile.PROMPT_PIECE
_RTX_ENGINE: Final = 1.16  # SmolLM2's engine: 310.8 MB for 269.0 MB of weights


def _tensorrt_rtx(shape: ModelShape, profile: Profile, _: Sequence[str] | None) -> MemoryFormula:
    """Return the formula of TensorRT for RTX. Not yet measured on hardware.

    From templates/tensorrt-rtx/gpu.py: two caches for each sequence, logits of a piece of a prompt.
    The attention of the exported graph is not fused in the worst case: for each token of the
    sequence, scores and their softmax in fp32 for every head and token of the piece.
    """
    piece = min(_RTX_PIECE, profile.engine.max_input_len)
    logits = piece * shape.vocabulary * _FP32
    return MemoryFormula(
        weights_mib=_mib(_RTX_ENGINE * _weights(shape, "fp16", _FP16, _tables(shape))),
        runtime_mib=_gpu_runtime_mib(profile),
        workspace_mib=_mib(logits + piece * _activations(shape) * _FP16),
        caches=_caches(shape, _fp16_cache),
        copies=2,
        token_bytes=2 * shape.heads * piece * _FP32,
    )


_EDGE_PAGE_TOKENS: Final = 128  # past_key_values_N [2, pages, 128, heads, size] of the export


def _edge_llm(shape: ModelShape, profile: Profile, _: Sequence[str] | None) -> MemoryFormula:
    """Return the formula of TensorRT Edge-LLM. Not yet measured on hardware.

    The export holds the embedding in a file of its own, so a tied table is there twice, in fp16:
    SmolLM2's has 326 MB in fp16 and 173 MB in nvfp4, computed 325.6 and 173.0. The engine has room
    for a batch of the longest prompts. `engine.build_on: device` compiles in four times the weights
    (NVIDIA says three to four).
    """
    engine = profile.engine
    weights = _mib(_weights(shape, engine.precision, _FP16, 2))
    prompt = engine.max_input_len * _activations(shape) * _FP16
    return MemoryFormula(
        weights_mib=weights,
        runtime_mib=_gpu_runtime_mib(profile),
        workspace_mib=0,
        caches=_caches(shape, _fp16_cache),
        block_tokens=_EDGE_PAGE_TOKENS,
        sequence_bytes=prompt + shape.vocabulary * _FP32,
        compile_mib=_COMPILE_TIMES_WEIGHTS * weights if engine.build_on == "device" else 0,
    )


_ORT_PIECE: Final = 128  # templates/onnx-runtime/session.py
_ORT_ARENA: Final = 2  # arena_extend_strategy kNextPowerOfTwo: up to twice of what is used


def _onnx_runtime(shape: ModelShape, profile: Profile, _: Sequence[str] | None) -> MemoryFormula:
    """Return the formula of ONNX Runtime. Not yet measured.

    From templates/onnx-runtime/session.py: one cache for each sequence and a spare one, in the
    graph's type; logits of a piece of a prompt. The attention of the exported graph is not fused:
    scores, mask and softmax for every head and token of the piece, for each token of the sequence.
    """
    size = _FP32 if profile.engine.precision == "fp32" else _FP16
    host = profile.hardware.memory_kind == "host"
    logits = _ORT_PIECE * shape.vocabulary * size
    activations = _ORT_PIECE * _activations(shape) * size
    weights = _weights(shape, profile.engine.precision, size, _tables(shape))
    return MemoryFormula(
        weights_mib=_mib(weights * (_ORT_CPU_COPIES if host else 1)),
        runtime_mib=_ORT_SERVER_MIB if host else _gpu_runtime_mib(profile),
        workspace_mib=_mib(_ORT_ARENA * (logits + activations)),
        caches=_caches(shape, lambda one: one.elements * size),
        spare=1,
        token_bytes=_ORT_ARENA * 3 * shape.heads * _ORT_PIECE * size,
    )


# On a CPU, assumed: OpenVINO's figures.
_ORT_SERVER_MIB: Final = 320
_ORT_CPU_COPIES: Final = 2.0

_Formula: TypeAlias = Callable[[ModelShape, Profile, Sequence[str] | None], MemoryFormula]
_RUNTIMES: Final[Mapping[str, _Formula]] = {
    "openvino": _openvino,
    "onnx-runtime": _onnx_runtime,
    "tensorrt-llm": _tensorrt_llm,
    "tensorrt-rtx": _tensorrt_rtx,
    "edge-llm": _edge_llm,
}
