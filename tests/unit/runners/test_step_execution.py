"""One step: its folder, its inputs and outputs, its result. The runner is a function."""

import datetime as dt
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from forge.errors import ForgeError, NoRunnerError, SmokeGateError, StepFailedError, StoreError
from forge.runners.base import Cancelled, Execution, Job
from forge.runners.step_execution import DamagedInputError, Workshop
from forge.runners.view import PlainView
from forge.steps import Environment, Step, key_of
from forge.store import ActionResult, Store
from forge.store.backends.memory import MemoryObjects

NOW = dt.datetime(2026, 11, 24, 4, 0, tzinfo=dt.UTC)


def write_one(job: Job) -> int:
    """Write the bytes of all inputs, or the step's id, into every output."""
    read = [(folder / "file").read_text() for folder in job.inputs.values()]
    for folder in job.outputs.values():
        (folder / "file").write_text("".join(read) or job.step.id)
    return 0


@dataclass
class Fake:
    """A runner whose command is a function."""

    command: Callable[[Job], int] = write_one
    labels: frozenset[str] = frozenset()
    containers: bool = False
    images: frozenset[str] = frozenset()
    log: str = "one\ntwo\n"
    recorded: str = ""
    jobs: list[Job] = field(default_factory=list)

    name = "fake linux/amd64"
    platforms = frozenset({"linux/amd64"})

    def runs_in(self, image: str) -> bool:
        return image in self.images

    def carrier(self, step: Step) -> str:
        return f"{self.name} {step.id}"

    def execute(self, job: Job) -> Execution:
        self.jobs.append(job)
        (job.folder / "log.txt").write_text(self.log)
        (job.folder / "reproduce.sh").write_text(f"cd {job.folder}\n")
        return Execution(self.command(job), 1.23456, job.folder / "log.txt", self.recorded)


@dataclass
class Place:
    """A store, a work folder and a runner."""

    work: Path
    store: Store
    runner: Fake = field(default_factory=Fake)
    out: io.StringIO = field(default_factory=io.StringIO)
    results: dict[str, ActionResult] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def workshop(self) -> Workshop:
        view = PlainView(self.out)
        return Workshop(self.store, self.runner, view, self.work, Path("/keys"), lambda: NOW)

    def carry_out(self, step: Step) -> ActionResult:
        digests = {
            name: self.results[one.step.id].outputs[one.output].digest
            for name, one in step.inputs.items()
        }
        result = self.workshop.carry_out(step, key_of(step, digests), self.results, self.cancelled)
        self.results[step.id] = result
        return result

    def contents(self, result: ActionResult, name: str) -> str:
        digest = result.outputs[name].digest
        return self.store.read_file(digest, "file", max_bytes=1000).decode()

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.work / "running").glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "work", Store(MemoryObjects(), cache=tmp_path / "cache"))


FIRST = Step("first", ("x",), outputs=("out",))
SECOND = Step("second", ("x",), inputs={"a": FIRST["out"]}, outputs=("out", "more"))
THIRD = Step("third", ("x",), inputs={"b": SECOND["more"], "a": FIRST["out"]}, outputs=("out",))


def test_result_records_key_inputs_outputs_time_and_runner(place: Place) -> None:
    first, result = place.carry_out(FIRST), place.carry_out(SECOND)
    key = key_of(SECOND, {"a": first.outputs["out"].digest})
    assert (result.step, result.key, result.fields) == ("second", key.digest, dict(key.fields))
    assert result.inputs == {"a": first.outputs["out"].digest}
    assert set(result.outputs) == {"out", "more"}
    assert (result.seconds, result.started) == (1.235, "2026-11-24T04:00:00Z")
    assert (result.runner, result.log_tail) == ("fake linux/amd64", "one\ntwo\n")
    assert place.store.action(key.digest) == result


def test_outputs_are_stored_and_are_the_inputs_of_the_next_step(place: Place) -> None:
    place.carry_out(FIRST)
    result = place.carry_out(SECOND)
    assert place.contents(result, "out") == place.contents(result, "more") == "first"


def test_chain_holds_every_ancestor_once_and_makers_before_users(place: Place) -> None:
    for step in (FIRST, SECOND, THIRD):
        place.carry_out(step)
    chain = place.runner.jobs[-1].chain
    assert [link.step for link in chain] == ["first", "second"]
    made: set[str] = set()
    for link in chain:
        assert set(link.inputs.values()) <= made
        made |= set(link.outputs.values())
    assert place.results["third"].parents == tuple(link.key for link in chain)


def test_input_by_reference_is_passed_by_digest_and_not_unpacked(place: Place) -> None:
    first = place.carry_out(FIRST)
    step = Step("by", ("x",), inputs={"a": FIRST["out"]}, references=frozenset({"a"}))
    place.carry_out(step)
    job = place.runner.jobs[-1]
    assert job.inputs == {}
    assert job.digests == {"a": first.outputs["out"].digest}


def test_command_gets_a_folder_of_its_own_that_is_gone_afterwards(place: Place) -> None:
    place.carry_out(FIRST)
    (job,) = place.runner.jobs
    assert job.folder.name.startswith("first-")
    assert job.folder.name.endswith(f"-{os.getpid()}")
    assert not job.folder.exists()
    assert place.left() == []


def test_effect_is_not_stored_as_a_result(place: Place) -> None:
    step = Step("publish", ("x",), effect=True)
    result = place.carry_out(step)
    assert place.store.action(result.key) is None


def test_name_of_the_execution_is_recorded_where_it_has_one(place: Place) -> None:
    place.runner.recorded = "local linux/amd64"
    assert place.carry_out(FIRST).runner == "local linux/amd64"


@pytest.mark.parametrize(
    ("code", "kind", "how"),
    [
        (1, ForgeError, "failed with exit code 1"),
        (5, StepFailedError, "failed with exit code 5"),
        (6, SmokeGateError, "failed with exit code 6"),
        (9, StoreError, "failed with exit code 9"),
        (137, StepFailedError, "was killed by signal 9"),
        (-15, StepFailedError, "was killed by signal 15"),
        (255, StepFailedError, "failed with exit code 255"),
    ],
)
def test_failure_is_the_error_of_its_exit_code(
    place: Place, code: int, kind: type[ForgeError], how: str
) -> None:
    place.runner.command = lambda _: code
    with pytest.raises(ForgeError, match=f"Step first {how}") as caught:
        place.carry_out(FIRST)
    assert isinstance(caught.value, kind)
    assert caught.value.why.endswith("  | one\n  | two")
    assert f"✘ first 1.2 s {how}" in place.out.getvalue()


def test_failed_step_leaves_its_log_and_a_script_that_finds_its_folder(place: Place) -> None:
    place.runner.command = lambda _: 5
    for _ in range(2):  # the second failure replaces the first
        with pytest.raises(StepFailedError):
            place.carry_out(FIRST)
    (kept,) = (place.work / "failed").iterdir()
    assert kept.name == f"first-{key_of(FIRST, {}).digest[:12]}"
    assert (kept / "log.txt").read_text() == "one\ntwo\n"
    assert (kept / "reproduce.sh").read_text() == f"cd {kept}\n"
    assert place.left() == []
    assert place.store.action(key_of(FIRST, {}).digest) is None


def test_long_log_is_cut_to_its_end(place: Place) -> None:
    place.runner.log = "".join(f"{number}\n" for number in range(100_000))
    result = place.carry_out(FIRST)
    assert result.log_tail == place.runner.log[-16 * 1024 :]
    place.runner.command = lambda _: 5
    with pytest.raises(StepFailedError) as caught:
        place.carry_out(SECOND)
    assert caught.value.why.splitlines()[1:] == [f"  | {n}" for n in range(99_975, 100_000)]


def test_step_with_secrets_keeps_nothing_of_its_log_in_the_store(place: Place) -> None:
    place.runner.log = "aHVudGVyMg== 68756e74657232 2retnuh\n"  # no masking knows all forms
    result = place.carry_out(Step("pull", ("x",), outputs=("out",), secrets=("HF_TOKEN",)))
    assert result.log_tail == ""
    assert place.carry_out(FIRST).log_tail == place.runner.log


def test_step_that_the_runner_refuses_is_not_run(place: Place) -> None:
    with pytest.raises(NoRunnerError, match="Step a cannot run here") as caught:
        place.carry_out(Step("a", ("x",), platform="linux/arm64"))
    assert caught.value.exit_code == 4
    assert place.runner.jobs == []


def test_cancelled_run_executes_and_stores_nothing(place: Place) -> None:
    place.cancelled.set()
    with pytest.raises(Cancelled):
        place.carry_out(FIRST)
    assert place.runner.jobs == []
    assert place.left() == []


def test_run_cancelled_during_the_command_stores_nothing(place: Place) -> None:
    def command(job: Job) -> int:
        job.cancelled.set()
        return write_one(job)

    place.runner.command = command
    with pytest.raises(Cancelled):
        place.carry_out(FIRST)
    assert place.store.action(key_of(FIRST, {}).digest) is None
    assert place.left() == []


def test_input_whose_bytes_are_gone_names_the_result_that_made_it(
    place: Place, tmp_path: Path
) -> None:
    first = place.carry_out(FIRST)
    for entry in list(place.store.objects.entries("")):
        if not entry.name.startswith("actions/"):
            place.store.objects.delete(entry.name)
    place.work = tmp_path / "another machine"
    place.store = Store(place.store.objects, cache=tmp_path / "another cache")
    with pytest.raises(DamagedInputError) as caught:
        place.carry_out(SECOND)
    assert caught.value.maker == first
    assert len(place.runner.jobs) == 1


def test_folders_of_dead_runs_are_deleted_and_of_live_ones_kept(place: Place) -> None:
    running = place.work / "running"
    names = {"a-0-4194305", "b-0-1", f"c-0-{os.getpid()}", "d"}
    for name in names:
        (running / name).mkdir(parents=True)
    place.workshop.clean()
    assert set(place.left()) == names - {"a-0-4194305"}  # above the highest process id of Linux


def test_cleaning_before_the_first_run_does_nothing(place: Place) -> None:
    place.workshop.clean()
    assert place.left() == []


def test_chain_names_locks_images_and_downloads_without_paths_of_this_machine(
    place: Place, tmp_path: Path
) -> None:
    sha, lock = "5" * 64, "6" * 64
    url = f"pypi:llm==0.1?path=x.gguf#sha256={sha}&architecture=llama"
    tools = (Environment("openvino", tmp_path / "requirements.lock", lock, "3.11"),)
    place.runner.images = frozenset({"host/image@sha256:1"})
    place.runner.containers = True
    first = Step("download", ("fetch", url), outputs=("out",))
    local = Step("local", ("fetch", f"file:/home/me/m.gguf#sha256={sha}"), outputs=("out",))
    compiled = Step(
        "compile", ("x",), inputs={"a": first["out"], "b": local["out"]}, outputs=("out",),
        environments=tools, image="host/image@sha256:1",
    )  # fmt: skip
    last = Step("last", ("x",), inputs={"c": compiled["out"]}, outputs=("out",))
    for step in (first, local, compiled, last):
        place.carry_out(step)
    found = {link.step: link.materials for link in place.runner.jobs[-1].chain}
    assert found == {
        "download": {"download of download": url},
        "local": {"download of local": f"file:m.gguf#sha256={sha}"},
        "compile": {
            "dockerfiles/openvino/requirements.lock": lock,
            "image of compile": "host/image@sha256:1",
        },
    }
