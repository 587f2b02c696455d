"""Memory by batch and length: what grows, what fits, what would fit instead."""

from hypothesis import assume, given
from hypothesis import strategies as st

from forge.memory import CacheTerm, MemoryFormula

MIB = 2**20
SIZES = st.integers(0, 2**20)
FORMULAS = st.builds(
    MemoryFormula,
    weights_mib=st.integers(0, 9000),
    runtime_mib=st.integers(0, 900),
    workspace_mib=st.integers(0, 900),
    caches=st.lists(
        st.builds(CacheTerm, bytes_per_token=SIZES, window=st.none() | st.integers(1, 9000)),
        max_size=3,
    ).map(tuple),
    block_tokens=st.sampled_from([1, 32, 128]),
    copies=st.integers(1, 2),
    spare=st.integers(0, 1),
    cache_share=st.floats(0.05, 1),
    sequence_bytes=SIZES,
    token_bytes=SIZES,
    system_mib=st.sampled_from([0, 2048]),
    compile_mib=st.integers(0, 9000),
)
BATCHES, LENGTHS = st.integers(1, 64), st.integers(2, 20_000)


def plain(**changed: object) -> MemoryFormula:
    base: dict[str, object] = {
        "weights_mib": 1000,
        "runtime_mib": 100,
        "workspace_mib": 10,
        "caches": (CacheTerm(bytes_per_token=MIB),),
    }
    return MemoryFormula.model_validate({**base, **changed})


def test_each_term_is_counted_once() -> None:
    need = plain().need(2, 100)
    assert (need.weights, need.cache, need.workspace, need.runtime) == (1000, 200, 10, 100)
    assert need.total == 1310
    assert str(need) == "weights 1000, KV cache 200, workspace 10, runtime 100"


def test_sequences_take_whole_blocks() -> None:
    assert plain(block_tokens=32).need(1, 33).cache == 64


def test_window_bounds_the_cache_of_its_layers_alone() -> None:
    layers = (CacheTerm(bytes_per_token=MIB, window=40), CacheTerm(bytes_per_token=MIB))
    assert plain(caches=layers).need(1, 100).cache == 140


def test_spare_caches_and_copies_are_added() -> None:
    assert plain(copies=2, spare=1).need(3, 10).cache == 70


def test_cache_that_gets_a_share_needs_the_rest_to_be_free_too() -> None:
    assert plain(cache_share=0.25).need(1, 100).cache == 400


def test_compiling_counts_where_it_takes_more_than_serving() -> None:
    assert plain(compile_mib=9000).total(1, 100) == 9000
    assert plain(compile_mib=9).total(1, 100) == 1210


def test_largest_batch_and_length_are_those_of_the_arithmetic() -> None:
    formula = plain()  # 1110 MiB and one for each token
    assert formula.largest_batch(100, 1610) == 5
    assert formula.largest_length(2, 1610) == 250
    assert formula.suggestion(8, 100, 1610) == (
        "max_batch_size 5 with max_seq_len 100 or max_seq_len 62 with max_batch_size 8"
    )


def test_what_cannot_fit_has_no_suggestion() -> None:
    assert plain().largest_batch(100, 1110) == 0
    assert plain().suggestion(1, 100, 1111) == ""


def test_system_keeps_its_part() -> None:
    assert plain(system_mib=500).largest_batch(100, 1610) == 0
    assert plain(system_mib=500).largest_batch(100, 2110) == 5


@given(FORMULAS, BATCHES, LENGTHS)
def test_more_of_anything_never_takes_less(formula: MemoryFormula, batch: int, length: int) -> None:
    here = formula.total(batch, length)
    assert formula.total(batch + 1, length) >= here
    assert formula.total(batch, length + 1) >= here
    for name in ("weights_mib", "runtime_mib", "workspace_mib", "sequence_bytes", "token_bytes"):
        more = formula.model_copy(update={name: getattr(formula, name) + MIB})
        assert more.total(batch, length) >= here


@given(FORMULAS, BATCHES, LENGTHS, st.integers(0, 60_000))
def test_largest_fits_and_one_more_does_not(
    formula: MemoryFormula, batch: int, length: int, have: int
) -> None:
    sequences = formula.largest_batch(length, have)
    tokens = formula.largest_length(batch, have)
    assert sequences == 0 or formula.fits(sequences, length, have)
    assert tokens == 0 or formula.fits(batch, tokens, have)
    assert not formula.fits(max(1, sequences + 1), length, have) or sequences == 1024
    assert not formula.fits(batch, max(2, tokens + 1), have) or tokens == 2**24


@given(FORMULAS, BATCHES, LENGTHS)
def test_what_it_takes_fits_exactly(formula: MemoryFormula, batch: int, length: int) -> None:
    exactly = formula.total(batch, length) + formula.system_mib
    assume(exactly > 0)
    assert formula.fits(batch, length, exactly)
    assert not formula.fits(batch, length, exactly - 1)
