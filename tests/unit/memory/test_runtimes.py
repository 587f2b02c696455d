"""Memory by builder, against files and figures that were measured (docs/results/memory.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forge import profiles
from forge.builders import names
from forge.builders.tools import edge_llm_engine, openvino_gguf, tensorrt_rtx_compile
from forge.memory import CacheLayers, ModelShape, parse_shape, runtimes
from forge.memory.runtimes import formula_of
from forge.profiles import Profile

PROFILES = Path(__file__).resolve().parents[3] / "profiles"
SMOLLM2 = parse_shape("p134515008.e28311552.v49152.h576.i1536.a9.t1.c30x3x64x64")
LLAMA_8B = parse_shape("p8030261248.e1050673152.v128256.h4096.i14336.a32.t0.c32x8x128x128")
BUILDERS = {
    "openvino": "development",
    "onnx-runtime": "tesla-p40",
    "tensorrt-llm": "rtx-pro-4000",
    "tensorrt-rtx": "rtx-pro-4000-aot",
    "edge-llm": "jetson-agx-thor",
}
KIB, MIB = 1024, 2**20


def load(name: str, *overrides: str) -> Profile:
    return profiles.load(name, PROFILES, overrides=overrides).profile


def test_every_builder_of_forge_has_a_formula() -> None:
    assert sorted(BUILDERS) == names()
    for builder, name in BUILDERS.items():
        profile = load(name)
        assert profile.engine.builder == builder
        assert formula_of(SMOLLM2, profile) is not None


def test_builder_of_a_project_has_none() -> None:
    profile = load("development")
    own = profile.model_copy(
        update={"engine": profile.engine.model_copy(update={"builder": "own"})}
    )
    assert formula_of(SMOLLM2, own) is None


def test_cache_of_a_model_of_the_field_is_the_published_one() -> None:
    """128 KiB a token: Llama 3.1 8B in 16 bits."""
    formula = formula_of(LLAMA_8B, load("jetson-agx-thor"))
    assert formula is not None
    assert [one.bytes_per_token for one in formula.caches] == [128 * KIB]
    assert formula.need(4, 4096).cache == 4 * 4096 * 128 * KIB // MIB


def test_openvino_cache_has_the_shapes_of_the_compiled_inputs() -> None:
    """key_cache.N [?, 3, 40, 64] and value_cache.N [?, 3, 32, 72] in u8, 32 tokens a block."""
    formula = formula_of(SMOLLM2, load("development"))
    assert formula is not None
    block = 30 * 3 * (40 * 64 + 32 * 72)
    assert formula.cache_bytes(1) == formula.cache_bytes(32) == block


@pytest.mark.parametrize(
    ("name", "precision", "megabytes"),
    [
        # what NVIDIA's tools wrote for SmolLM2: docs/reference/nvidia-facts.md, section 9
        ("jetson-agx-orin", "fp16", 325.6),
        ("jetson-agx-thor", "nvfp4", 173.0),
        ("rtx-pro-4000", "nvfp4", 116.5),
        ("rtx-pro-4000-aot", "fp16", 310.8),
    ],
)
def test_weights_are_those_of_the_files_that_tools_wrote(
    name: str, precision: str, megabytes: float
) -> None:
    formula = formula_of(SMOLLM2, load(name, f"engine.precision={precision}"))
    assert formula is not None
    assert formula.weights_mib == pytest.approx(megabytes * 1e6 / MIB, rel=0.02)


def test_constants_are_those_of_the_tools() -> None:
    thor = load("jetson-agx-thor")
    formula = formula_of(SMOLLM2, thor)
    assert formula is not None
    assert formula.compile_mib == edge_llm_engine.MEMORY_TIMES_WEIGHTS * formula.weights_mib
    short = load("rtx-pro-4000-aot", f"engine.max_input_len={tensorrt_rtx_compile.PROMPT_PIECE}")
    longer = load("rtx-pro-4000-aot")
    assert formula_of(SMOLLM2, short) == formula_of(SMOLLM2, longer)


def test_engine_that_a_runner_compiles_needs_no_memory_for_it_on_the_device() -> None:
    formula = formula_of(SMOLLM2, load("jetson-agx-thor", "engine.build_on=runner"))
    assert formula is not None
    assert formula.compile_mib == 0


def test_fraction_of_tensorrt_llm_leaves_the_rest_free() -> None:
    small, large = (
        formula_of(SMOLLM2, load("rtx-pro-4000", f"serving.kv_cache_fraction={fraction}"))
        for fraction in (0.3, 0.9)
    )
    assert small
    assert large
    assert small.need(8, 4096).cache == pytest.approx(3 * large.need(8, 4096).cache, abs=3)


@pytest.mark.parametrize(("name", "system"), [("jetson-agx-thor", True), ("rtx-pro-4000", False)])
def test_system_has_its_part_where_memory_is_unified(name: str, *, system: bool) -> None:
    formula = formula_of(SMOLLM2, load(name))
    assert formula is not None
    assert bool(formula.system_mib) is system


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(BUILDERS.values())),
    st.sampled_from(["inner", "vocabulary", "hidden", "intermediate", "heads", "layers", "kv"]),
    st.integers(1, 8),
)
def test_larger_model_never_takes_less(name: str, what: str, times: int) -> None:
    profile = _LOADED[name]
    small, large = _model(), _model(**{what: 1 + times})
    before, after = formula_of(small, profile), formula_of(large, profile)
    assert before
    assert after
    assert after.total(4, 2048) >= before.total(4, 2048)
    assert after.largest_batch(2048, 30_000) <= before.largest_batch(2048, 30_000)


_LOADED = {name: load(name) for name in BUILDERS.values()}


def _model(**times: int) -> ModelShape:
    """A model whose sizes are multiples of a small one's."""
    sizes = {"inner": 10**7, "vocabulary": 32000, "hidden": 512, "intermediate": 2048,
             "heads": 8, "layers": 12, "kv": 2}  # fmt: skip
    of = {name: size * times.get(name, 1) for name, size in sizes.items()}
    table = of["vocabulary"] * of["hidden"]
    return ModelShape(
        parameters=of["inner"] + table,
        table_parameters=table,
        vocabulary=of["vocabulary"],
        hidden=of["hidden"],
        intermediate=of["intermediate"],
        heads=of["heads"],
        tied=True,
        caches=(CacheLayers(of["layers"], of["kv"], 64, 64),),
    )


@pytest.mark.parametrize(
    ("kinds", "bits"),
    [
        (("f32", "q4_1"), 8.5),  # written as Q8_0; the engine's file has 143,952,092 bytes
        (("f32", "q8_0"), 8.5),
        (("f32", "q4_k", "q5_0"), 8.5),
        (("f32", "q4_0"), 4.5),
        (("f32", "q6_k"), 9),
        (("f16", "f32"), 16),
        (("bf16", "f32"), 16),
        (("f32",), 16),
        (None, 8.5),
    ],
)
def test_openvino_holds_a_gguf_file_in_the_types_that_its_reader_gets(
    kinds: tuple[str, ...] | None, bits: float
) -> None:
    formula = formula_of(SMOLLM2, load("development", "engine.precision=as-is"), kinds)
    assert formula is not None
    assert formula.weights_mib == pytest.approx(2 * 134_515_008 * bits / 8 / MIB, abs=1)


def test_openvino_holds_the_table_of_a_q4_0_file_in_its_own_type() -> None:
    formula = formula_of(SMOLLM2, load("development"), ("f32", "q4_0", "q6_k"))
    assert formula is not None
    inner, table = 106_203_456 * 4.5, 28_311_552 * 9
    assert formula.weights_mib == pytest.approx(2 * (inner + table) / 8 / MIB, abs=1)


def test_every_type_that_openvinos_reader_keeps_has_bits() -> None:
    assert {kind.lower() for kind in openvino_gguf.KEPT} <= runtimes._OV_GGUF_BITS.keys()
