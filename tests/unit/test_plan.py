"""Plans: what runs, what is a hit, what waits, and why."""

from collections.abc import Sequence
from typing import Any

import pytest

from forge.bundle import TreeReference
from forge.canonical import Json
from forge.errors import UsageError
from forge.plan import (
    Plan,
    PlannedStep,
    Status,
    StepMatch,
    compare_published,
    explain,
    resolve,
    select,
)
from forge.steps import Step, key_of
from forge.store import ActionResult

A = "a" * 64


def chain(**engine: Json) -> Plan:
    """checkpoint → engine@a, engine@b → smoke@a, smoke@b → publish (an effect)."""
    weights = Step(id="checkpoint", argv=("fetch",), outputs=("weights",))
    measured = {}
    for name in ("a", "b"):
        settings: dict[str, Json] = {"precision": "fp16", **engine}
        compiled = Step(
            id=f"engine@{name}",
            argv=("compile", "${inputs.weights}"),
            inputs={"weights": weights["weights"]},
            outputs=("engine",),
            settings={"engine": settings, "profile": name},
        )
        smoke = Step(
            id=f"smoke@{name}",
            argv=("smoke", "${inputs.engine}"),
            inputs={"engine": compiled["engine"]},
            outputs=("result",),
        )
        measured[name] = smoke["result"]
    publish = Step(
        id="publish",
        argv=("publish",),
        inputs=measured,
        references=frozenset(measured),
        effect=True,
    )
    return Plan.of("release", [], [publish])


def result(key: str, step: str, output: str, digest: str, **fields: str) -> ActionResult:
    return ActionResult(
        key=key,
        step=step,
        fields=fields,
        inputs={},
        outputs={output: TreeReference(digest=digest, size=1, files=1)},
        parents=(),
        log_tail="",
        seconds=1.0,
        started="2026-11-24T04:00:00Z",
        runner="local linux/amd64",
    )


def statuses(plan: Plan, stored: dict[str, ActionResult], **chosen: object) -> dict[str, Status]:
    selected = select(plan, **chosen) if chosen else None  # type: ignore[arg-type]
    return {
        row.step.id: row.status for row in resolve(plan, lambda _, key: stored.get(key), selected)
    }


def stored_up_to(plan: Plan, *ids: str) -> dict[str, ActionResult]:
    """Results as a run would have stored them, outputs named after the step."""
    stored: dict[str, ActionResult] = {}
    digests: dict[str, str] = {}
    for step in plan.steps:
        if step.id not in ids:
            continue
        key = key_of(step, {n: digests[a.step.id] for n, a in step.inputs.items()})
        digests[step.id] = key.digest
        fields = dict(key.fields)
        stored[key.digest] = result(key.digest, step.id, step.outputs[0], key.digest).model_copy(
            update={"fields": fields}
        )
    return stored


def test_empty_store_runs_the_first_step_and_the_rest_waits_for_it() -> None:
    found = statuses(chain(), {})
    assert found["checkpoint"] is Status.RUN
    assert found["engine@a"] is Status.WAITS
    assert found["publish"] is Status.WAITS


def test_step_that_waits_for_many_names_the_first_and_counts_the_others() -> None:
    first = [Step(f"engine@{number}", ("x",), outputs=("engine",)) for number in range(200)]
    inputs = {f"i{number}": step["engine"] for number, step in enumerate(first)}
    plan = Plan.of("many", [], [Step("publish", ("x",), inputs=inputs, effect=True)])
    assert resolve(plan, lambda *_: None)[-1].reason == (
        "after engine@0, engine@1, engine@2, engine@3 and 196 more"
    )


def test_stored_results_are_hits_and_the_step_behind_them_runs() -> None:
    plan = chain()
    found = statuses(plan, stored_up_to(plan, "checkpoint", "engine@a"))
    assert found == {
        "checkpoint": Status.HIT,
        "engine@a": Status.HIT,
        "smoke@a": Status.RUN,
        "engine@b": Status.RUN,
        "smoke@b": Status.WAITS,
        "publish": Status.WAITS,
    }


def test_effect_is_never_a_hit() -> None:
    plan = chain()
    ids = [step.id for step in plan.steps]
    stored = stored_up_to(plan, *ids[:-1])
    assert statuses(plan, stored)["publish"] is Status.EFFECT


def test_store_is_asked_once_for_each_step_that_has_a_key() -> None:
    plan = chain()
    stored = stored_up_to(plan, *[step.id for step in plan.steps[:-1]])
    asked: list[str] = []

    def look_up(_step: Step, key: str) -> ActionResult | None:
        asked.append(key)
        return stored.get(key)

    resolve(plan, look_up)
    assert len(asked) == len(set(asked)) == len(plan.steps) - 1


def test_changed_setting_rebuilds_the_engine_but_not_the_checkpoint() -> None:
    stored = stored_up_to(chain(), "checkpoint", "engine@a", "engine@b", "smoke@a", "smoke@b")
    found = statuses(chain(precision="fp8"), stored)
    assert (found["checkpoint"], found["engine@a"]) == (Status.HIT, Status.RUN)


def test_equal_output_of_a_rebuilt_step_stops_the_rebuild_there() -> None:
    before, after = chain(), chain(precision="fp8")
    stored = stored_up_to(before, "checkpoint", "engine@a", "smoke@a")
    old = next(one for one in stored.values() if one.step == "engine@a")
    checkpoint = next(one for one in stored.values() if one.step == "checkpoint")
    rebuilt = key_of(after.step("engine@a"), {"weights": checkpoint.outputs["weights"].digest})
    # It ran again under its new key and wrote the same bytes as before.
    stored[rebuilt.digest] = old.model_copy(update={"key": rebuilt.digest})
    assert statuses(after, stored)["smoke@a"] is Status.HIT


def test_only_takes_what_matches_and_what_that_needs() -> None:
    assert [i for i, may_run in select(chain(), only=["engine@*"]).items() if may_run] == [
        "checkpoint",
        "engine@a",
        "engine@b",
    ]


def test_skip_leaves_out_what_matches_and_what_needs_it_when_it_is_not_stored() -> None:
    found = statuses(chain(), {}, skip=["engine@b"])
    assert found["engine@b"] is Status.SKIPPED
    assert found["smoke@b"] is Status.SKIPPED
    assert found["publish"] is Status.SKIPPED
    assert found["engine@a"] is Status.WAITS


def test_skipped_step_that_is_stored_blocks_nothing() -> None:
    plan = chain()
    stored = stored_up_to(plan, "checkpoint", "engine@a")
    assert statuses(plan, stored, skip=["engine@a"])["smoke@a"] is Status.RUN


def test_glob_that_matches_no_step_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="No step matches 'engin@a'") as caught:
        select(chain(), only=["engin@a"])
    assert "'engine@a'" in caught.value.hint


def test_unknown_step_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError) as caught:
        chain().step("smoke@c")
    assert "did you mean 'smoke@" in caught.value.hint


def test_explain_names_the_fields_that_differ_from_the_nearest_result() -> None:
    stored = stored_up_to(chain(), "checkpoint", "engine@a", "engine@b").values()
    after = chain(precision="fp8")
    checkpoint = next(one for one in stored if one.step == "checkpoint")
    key = key_of(after.step("engine@a"), {"weights": checkpoint.outputs["weights"].digest})
    explanation = explain(key, "engine@a", stored)
    assert [(one.field, one.stored, one.wanted) for one in explanation.differences] == [
        ("setting engine.precision", '"fp16"', '"fp8"')
    ]


def test_explain_has_nothing_to_compare_when_the_step_never_ran() -> None:
    key = key_of(chain().step("checkpoint"), {})
    assert explain(key, "checkpoint", []).nearest is None


def compared(rows: Sequence[PlannedStep], published: dict[str, str], *stored: ActionResult) -> Any:
    results = {one.key: one for one in stored}
    found = compare_published(rows, published, results.get)
    return {one.step: (one.match, one.differences, one.reason) for one in found}


def test_a_step_with_the_published_key_is_the_same_and_another_names_its_fields() -> None:
    step = Step(id="a", argv=("true",), outputs=("out",), settings={"x": 1})
    (row,) = resolve(Plan.of("p", [step["out"]]), lambda *_: None)
    assert row.key is not None
    assert compared([row], {"a": row.key.digest})["a"] == (StepMatch.SAME, (), "")
    fields = {name: value for name, value in row.key.fields.items() if "argv" not in name}
    old = result("0" * 64, "a", "out", "1" * 64, **fields)
    match, differences, _ = compared([row], {"a": "0" * 64}, old)["a"]
    assert match is StepMatch.REBUILT
    assert {one.field for one in differences} == set(row.key.fields) - set(fields)
    assert all(one.stored is None for one in differences)


def test_steps_are_new_gone_or_depend_on_a_result_that_is_not_known() -> None:
    first = Step(id="a", argv=("true",), outputs=("out",))
    second = Step(id="b", argv=("true",), inputs={"in": first["out"]}, outputs=("out",))
    third = Step(id="c", argv=("false",), outputs=("out",))
    effect = Step(id="d", argv=("true",), effect=True)
    plan = Plan.of("p", [second["out"], third["out"]], [effect])
    rows = resolve(plan, lambda *_: None)
    found = compared(rows, {"a": "0" * 64, "b": "1" * 64, "old": "2" * 64})
    assert {step: one[0] for step, one in found.items()} == {
        "a": StepMatch.REBUILT, "b": StepMatch.DEPENDS, "c": StepMatch.NEW, "old": StepMatch.GONE
    }  # fmt: skip
    assert "deleted" in found["a"][2], "its stored result is not there"
    assert found["b"][2] == "after a"
