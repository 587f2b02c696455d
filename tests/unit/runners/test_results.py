"""Which results a run uses, stores and refuses, where results are signed and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.plan import NotUsed
from forge.runners.results import SignedResults, StoredResults
from forge.steps import Step
from forge.store import ActionResult, Store
from forge.store.backends.memory import MemoryObjects
from forge.store.formats.signed_result import MAX_SIGNED_BYTES, result_statement
from tests.support.trusted_builders import KEY, OTHER_KEY, builders, made, signer

ENGINE = Step("engine@a", ("x",), outputs=("engine",))
SMOKE = Step("smoke@a", ("x",), outputs=("engine",))
PROOFS = Step("proofs@a", ("sign", "${keys}"), outputs=("engine",))
PUBLISH = Step("publish", ("x", "${keys}"), effect=True)
NAMED = builders(hosted=["checkpoint", "engine@*"], gpu=["engine@*", "smoke@*"])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(MemoryObjects(), cache=tmp_path / "cache")


@pytest.fixture
def result(store: Store, tmp_path: Path) -> ActionResult:
    """A result whose tree is in the store."""
    return built(store, tmp_path, "good")


def built(store: Store, folder: Path, text: str, key: str = KEY) -> ActionResult:
    (folder / text).mkdir()
    (folder / text / "engine.bin").write_text(text)
    return made(key, outputs={"engine": store.put_tree(folder / text)})


def as_builder(store: Store, name: str, *, key: str = "") -> SignedResults:
    return SignedResults(store, NAMED, signer(name, key=key))


def reason(found: object) -> str:
    assert isinstance(found, NotUsed), found
    return found.reason


def test_result_of_a_builder_is_used_by_each_other_machine(
    store: Store, result: ActionResult
) -> None:
    put = as_builder(store, "hosted").put(ENGINE, result)
    found = SignedResults(store, NAMED).find(ENGINE, KEY)
    assert found == put == result.model_copy(update={"builder": "hosted"})


def test_record_that_nobody_signed_is_not_used_and_the_reason_is_named(
    store: Store, result: ActionResult
) -> None:
    StoredResults(store).put(ENGINE, result)
    found = SignedResults(store, NAMED).find(ENGINE, KEY)
    expected = "the stored result is not used: no trusted builder signed it; may make it: "
    assert reason(found) == f"{expected}hosted, gpu"
    assert reason(SignedResults(store, NAMED).find(PUBLISH, KEY)) == f"{expected}no builder"
    assert SignedResults(store, NAMED).find(ENGINE, OTHER_KEY) is None


def test_record_that_was_replaced_does_not_matter(
    store: Store, result: ActionResult, tmp_path: Path
) -> None:
    as_builder(store, "hosted").put(ENGINE, result)
    store.put_action(built(store, tmp_path, "evil"))
    found = SignedResults(store, NAMED).find(ENGINE, KEY)
    assert isinstance(found, ActionResult)
    assert found.outputs == result.outputs


def test_record_cannot_state_a_builder(store: Store, result: ActionResult) -> None:
    name = f"actions/{KEY}.json"
    store.put_action(result)
    data = store.objects.read(name, max_bytes=10_000).data
    store.objects.write(name, data.replace(b"{", b'{"builder":"hosted",', 1))
    found = StoredResults(store).find(ENGINE, KEY)
    assert isinstance(found, ActionResult)
    assert found.builder == ""


def test_stolen_key_of_another_step_signs_no_engine(store: Store, result: ActionResult) -> None:
    named = builders(hosted=["engine@*"], gpu=["smoke@*"])
    envelope = signer("gpu").sign(result_statement(result, "gpu"))
    store.put_signed_result("gpu", KEY, envelope)
    found = SignedResults(store, named).find(ENGINE, KEY)
    assert reason(found) == "the stored result is not used: builder gpu may not make it"
    # Below the prefix of the builder that may:
    store.put_signed_result("hosted", KEY, envelope)
    found = SignedResults(store, named).find(ENGINE, KEY)
    assert "not signed by a key of builder hosted" in reason(found)


def test_signed_result_is_not_used_under_another_key(store: Store, result: ActionResult) -> None:
    as_builder(store, "hosted").put(ENGINE, result)
    envelope = store.signed_result("hosted", KEY)
    assert envelope is not None
    store.put_signed_result("hosted", OTHER_KEY, envelope)
    found = SignedResults(store, NAMED).find(ENGINE, OTHER_KEY)
    assert "it is signed for the key aaaaaaaaaaaa, not bbbbbbbbbbbb" in reason(found)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 100, b"x" * (MAX_SIGNED_BYTES + 1)])
def test_damaged_envelope_makes_the_step_run_again(
    store: Store, result: ActionResult, data: bytes
) -> None:
    hosted = as_builder(store, "hosted")
    hosted.put(ENGINE, result)
    store.put_signed_result("hosted", KEY, data)
    assert "the stored result is not used" in reason(hosted.find(ENGINE, KEY))
    hosted.put(ENGINE, result)
    assert isinstance(hosted.find(ENGINE, KEY), ActionResult)


def test_bad_envelope_of_one_builder_does_not_hide_the_result_of_another(
    store: Store, result: ActionResult
) -> None:
    as_builder(store, "hosted").put(ENGINE, result)
    store.put_signed_result("gpu", KEY, b"garbage")
    found = SignedResults(store, NAMED).find(ENGINE, KEY)
    assert isinstance(found, ActionResult)
    assert found.builder == "hosted"


def test_result_whose_tree_is_gone_is_none(store: Store) -> None:
    as_builder(store, "hosted").put(ENGINE, made())
    assert not isinstance(SignedResults(store, NAMED).find(ENGINE, KEY), ActionResult)


def test_two_builders_of_one_key_do_not_replace_each_others_result(
    store: Store, result: ActionResult, tmp_path: Path
) -> None:
    other = built(store, tmp_path, "other")
    hosted, gpu = as_builder(store, "hosted"), as_builder(store, "gpu")
    hosted.put(ENGINE, result)
    gpu.put(ENGINE, other)
    for results, outputs in ((hosted, result.outputs), (gpu, other.outputs)):
        found = results.find(ENGINE, KEY)
        assert isinstance(found, ActionResult)
        assert found.outputs == outputs


def test_machine_refuses_what_nobody_would_use(store: Store) -> None:
    without, hosted = SignedResults(store, NAMED), as_builder(store, "hosted")
    assert "FORGE_BUILDER_KEY" in without.refuse(ENGINE)
    assert hosted.refuse(ENGINE) == ""
    assert hosted.refuse(SMOKE) == "forge.yaml does not allow builder hosted to make it"
    for step in (PROOFS, PUBLISH):  # the keys of the release verify what they make
        assert without.refuse(step) == hosted.refuse(step) == ""
    assert StoredResults(store).refuse(ENGINE) == ""


def test_signing_step_of_a_machine_without_a_builders_key_is_made_again(
    store: Store, result: ActionResult
) -> None:
    results = SignedResults(store, NAMED)
    assert results.put(PROOFS, result) == result
    assert isinstance(results.find(PROOFS, KEY), NotUsed)


def test_damaged_result_of_another_builder_is_ignored_and_stays(
    store: Store, result: ActionResult
) -> None:
    as_builder(store, "hosted").put(ENGINE, result)
    gpu = as_builder(store, "gpu")
    found = gpu.find(ENGINE, KEY)
    assert isinstance(found, ActionResult)
    gpu.forget(found)
    assert not isinstance(gpu.find(ENGINE, KEY), ActionResult)
    assert store.signed_result("hosted", KEY) is not None
    assert isinstance(SignedResults(store, NAMED).find(ENGINE, KEY), ActionResult)


def test_unsigned_results_need_no_set_up(store: Store, result: ActionResult) -> None:
    results = StoredResults(store)
    assert results.find(ENGINE, KEY) is None
    assert results.put(ENGINE, result) == result == results.find(ENGINE, KEY)
    results.forget(result)
    assert results.find(ENGINE, KEY) is None
