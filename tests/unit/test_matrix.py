"""The matrix: which job does which step, in which round."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge.matrix import Cell, Matrix, cut
from forge.plan import Plan, PlannedStep, Status
from forge.steps import Artifact, Step

GPU = ("self-hosted", "gpu-sm120")
DEVICE = ("self-hosted", "arm64", "jetson")


def a_step(step_id: str, *before: Step, **more: object) -> Step:
    inputs = {f"in-{number}": step["out"] for number, step in enumerate(before)}
    values = {"id": step_id, "argv": ("do",), "inputs": inputs, "outputs": ("out",)}
    return Step(**(values | more))  # type: ignore[arg-type]  # the test's own keywords


def rows(*ends: Step, hits: Sequence[str] = (), skipped: Sequence[str] = ()) -> list[PlannedStep]:
    status = dict.fromkeys(hits, Status.HIT) | dict.fromkeys(skipped, Status.SKIPPED)
    plan = Plan.of("release", [Artifact(step, "out") for step in ends])
    return [PlannedStep(step, status.get(step.id, Status.WAITS), "") for step in plan.steps]


def shown(made: Matrix) -> list[dict[str, tuple[str, ...]]]:
    """For each round: the steps of each cell by its name."""
    return [{cell.name: cell.steps for cell in cells} for cells in made.rounds]


def only(made: Matrix) -> Cell:
    ((cell,),) = made.rounds
    return cell


def hosted(profile: str, checkpoint: Step) -> Step:
    """engine on any amd64 machine → repository anywhere → smoke on any amd64 machine → gate."""
    engine = a_step(f"engine@{profile}", checkpoint, platform="linux/amd64")
    repository = a_step(f"repository@{profile}", engine)
    smoke = a_step(f"smoke@{profile}", repository, platform="linux/amd64", exclusive=True)
    return a_step(f"gate@{profile}", smoke)


def test_profile_that_any_hosted_runner_can_build_is_one_cell() -> None:
    cell = only(cut(rows(hosted("cpu", a_step("checkpoint")))))
    assert cell.runs_on == ("ubuntu-24.04",)
    assert cell.id == "gate@cpu"
    assert cell.steps == ("engine@cpu", "repository@cpu", "smoke@cpu", "gate@cpu")
    assert cell.shared == ("checkpoint",)


def test_id_of_a_cell_names_every_end_so_that_only_reaches_all_its_steps() -> None:
    repository = a_step("repository@cpu")
    ends = a_step("sbom@cpu", repository), a_step("smoke@cpu", repository)
    assert only(cut(rows(*ends))).id == "sbom@cpu,smoke@cpu"


def test_cells_that_share_a_checkpoint_run_side_by_side_and_it_is_no_cell_of_its_own() -> None:
    checkpoint = a_step("checkpoint")
    (cells,) = cut(rows(hosted("a", checkpoint), hosted("b", checkpoint))).rounds
    assert [cell.shared for cell in cells] == [("checkpoint",), ("checkpoint",)]
    assert not any("checkpoint" in cell.steps for cell in cells)


def test_scarce_runner_waits_for_a_hosted_one_to_make_what_needs_no_gpu() -> None:
    onnx = a_step("onnx@rtx", a_step("checkpoint"))
    engine = a_step("engine@rtx", onnx, labels=GPU, platform="linux/amd64")
    gate = a_step("gate@rtx", a_step("smoke@rtx", engine, labels=GPU))
    first, second = cut(rows(gate)).rounds
    assert {cell.name: cell.steps for cell in first} == {"rtx on ubuntu-24.04": ("onnx@rtx",)}
    (device,) = second
    assert device.runs_on == device.labels == GPU
    assert device.steps == ("engine@rtx", "smoke@rtx", "gate@rtx")


def test_shared_step_that_only_labelled_runners_need_is_a_hosted_cell_before_them() -> None:
    checkpoint = a_step("checkpoint")
    ends = [a_step(f"engine@{name}", checkpoint, labels=GPU) for name in ("a", "b")]
    assert shown(cut(rows(*ends))) == [
        {"checkpoint on ubuntu-24.04": ("checkpoint",)},
        {"a on gpu-sm120": ("engine@a",), "b on gpu-sm120": ("engine@b",)},
    ]


def test_stored_step_holds_nobody_up() -> None:
    checkpoint = a_step("checkpoint")
    engine = a_step("engine@a", checkpoint, labels=GPU)
    made = cut(rows(engine, hits=["checkpoint"]))
    assert shown(made) == [{}, {"a on gpu-sm120": ("engine@a",)}]


def test_own_runners_never_work_in_the_round_of_hosted_ones() -> None:
    """Its job has the role and the key of the hosted builder: see release.yml."""
    made = cut(rows(a_step("smoke@a", labels=GPU), a_step("image@b", labels=("ubuntu-24.04-arm",))))
    assert shown(made) == [
        {"b on ubuntu-24.04-arm": ("image@b",)}, {"a on gpu-sm120": ("smoke@a",)},
    ]  # fmt: skip
    only_own = cut(rows(a_step("smoke@a", labels=GPU))).as_json()["rounds"]
    assert isinstance(only_own, list)
    assert only_own[0] is None  # GitHub refuses a matrix without jobs


def test_other_architecture_makes_what_runs_anywhere_itself_in_the_same_round() -> None:
    checkpoint = a_step("checkpoint")
    arm = a_step("engine@arm", a_step("huggingface", checkpoint), platform="linux/arm64")
    cell = only(cut(rows(arm)))
    assert cell.runs_on == ("ubuntu-24.04-arm",)
    assert cell.shared == ("checkpoint", "huggingface")


def test_other_architecture_waits_for_what_it_cannot_make() -> None:
    export = a_step("export@thor", a_step("checkpoint"), platform="linux/amd64")
    engine = a_step("engine@thor", export, platform="linux/arm64", labels=DEVICE)
    after = a_step("repository@thor", engine)
    assert shown(cut(rows(after))) == [
        {"thor on ubuntu-24.04": ("export@thor",)},
        {"thor on jetson": ("engine@thor", "repository@thor")},
    ]


def test_free_step_after_a_bound_one_is_not_made_by_a_runner_that_lacks_its_input() -> None:
    bound = a_step("quantise", platform="linux/amd64")
    free = a_step("export@thor", bound)
    engine = a_step("engine@thor", free, platform="linux/arm64")
    assert [list(one) for one in shown(cut(rows(engine)))] == [
        ["thor on ubuntu-24.04"],
        ["thor on ubuntu-24.04-arm"],
    ]


def test_step_that_joins_two_kinds_of_runner_comes_a_round_later_on_a_hosted_one() -> None:
    left, right = a_step("a@x", platform="linux/amd64"), a_step("b@x", platform="linux/arm64")
    first, second = cut(rows(a_step("index@x", left, right))).rounds
    assert len(first) == 2
    assert [cell.steps for cell in second] == [("index@x",)]


def test_step_after_a_labelled_one_is_in_its_cell_whatever_its_profile() -> None:
    """As the index of an image that is built for one platform, on a runner with a label."""
    image = a_step("image@edge-amd64", platform="linux/amd64", labels=("ubuntu-24.04",))
    cell = only(cut(rows(a_step("index@edge", image))))
    assert cell.steps == ("image@edge-amd64", "index@edge")
    assert cell.labels == ("ubuntu-24.04",)


PLACES = (
    (None, ()), ("linux/amd64", ()), ("linux/arm64", ()), ("linux/amd64", GPU),
    ("linux/arm64", DEVICE),
)  # fmt: skip


@st.composite
def steps_of_a_plan(draw: st.DrawFn) -> list[Step]:
    made: list[Step] = []
    for number in range(draw(st.integers(2, 8))):
        profile = draw(st.sampled_from(["", "@a", "@b"]))
        platform, labels = draw(st.sampled_from(PLACES))
        before = draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
        made.append(a_step(f"{number}{profile}", *before, platform=platform, labels=labels))
    return made


@given(steps_of_a_plan())
def test_a_cell_can_make_all_it_needs_or_it_is_made_a_round_before(steps: list[Step]) -> None:
    """A runner refuses a step whose labels it does not have, and cells of a round do not wait."""
    known = {step.id: step for step in steps}
    earlier: set[str] = set()
    for cells in cut(rows(*steps)).rounds:
        for cell in cells:
            own = {*cell.steps, *cell.shared}
            needs = {one for name in cell.steps for one in _before(known[name])} - earlier
            labelled = {one for one in needs if known[one].labels}
            assert labelled <= own
            assert {known[one].labels for one in labelled} <= {cell.labels}
        earlier |= {one for cell in cells for one in (*cell.steps, *cell.shared)}
    assert earlier == set(known)


def _before(step: Step) -> set[str]:
    inputs = [artifact.step for artifact in step.inputs.values()]
    return {one.id for one in inputs}.union(*(_before(one) for one in inputs))


def test_signing_and_all_after_it_is_left_to_the_job_with_the_keys() -> None:
    gate = hosted("cpu", a_step("checkpoint"))
    proofs = a_step("proofs@cpu", gate, argv=("prove", "${keys}"))
    publish = a_step("publish", proofs, effect=True)
    made = cut(rows(a_step("report", publish)))
    assert made.finish == ("proofs@cpu", "publish", "report")
    assert only(made).id == "gate@cpu"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"planned_only": "nobody can"}, "nobody can"),
        ({"platform": "linux/riscv64"}, "no hosted runner has platform linux/riscv64"),
    ],
)
def test_step_no_runner_can_run_stops_what_needs_it_and_nothing_else(
    more: dict[str, object], reason: str
) -> None:
    checkpoint = a_step("checkpoint")
    bad = a_step("engine@bad", checkpoint, **more)
    made = cut(rows(a_step("smoke@bad", bad), hosted("good", checkpoint)))
    assert [one.step for one in made.refused] == ["engine@bad", "smoke@bad"]
    assert made.refused[0].reason.startswith(reason)
    assert made.refused[1].reason == "needs engine@bad"
    assert only(made).id == "gate@good"


def test_nothing_left_to_do_is_no_round() -> None:
    steps = rows(a_step("a@x"), a_step("b@x"), hits=["a@x"], skipped=["b@x"])
    assert cut(steps) == Matrix(rounds=(), finish=(), refused=())
