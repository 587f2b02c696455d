"""The scheduler with the real local runner, real commands and a real store."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from forge.errors import (
    ConfigurationError,
    NoRunnerError,
    SmokeGateError,
    StepFailedError,
)
from forge.plan import Plan, Status, select
from forge.runners.local import LocalRunner
from forge.runners.schedule import Done, Scheduler
from forge.runners.view import PlainView
from forge.steps import WARNING, Artifact, Step
from forge.store import Store, open_store
from forge.store.maintenance.check import check_store
from tests.support.spawn import Spawn


def shell(
    step_id: str, script: str, inputs: dict[str, Artifact] | None = None, **more: object
) -> Step:
    """A step whose command is a shell script; it writes into ${outputs.out}.

    What stands for a path is quoted: the temporary folder may have a space in its name.
    """
    script = re.sub(r"\$\{[a-z.]+\}", r'"\g<0>"', script)
    values: dict[str, object] = {
        "id": step_id,
        "argv": ("sh", "-ceu", script),
        "inputs": inputs or {},
        "outputs": ("out",),
    }
    return Step(**(values | more))  # type: ignore[arg-type]  # the test's own keywords


Run = Callable[..., dict[str, Done]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), cache=tmp_path / "cache")


@pytest.fixture
def scheduler(store: Store, tmp_path: Path) -> Iterator[Scheduler]:
    runner = LocalRunner(
        cache=tmp_path / "environments",
        environment={
            "PATH": os.environ["PATH"],
            "TOKEN": "s3cr3t",
            "PIP_INDEX_URL": "http://me:s3cr3t@127.0.0.1/simple",
            "OTHER": "x",
        },
        labels=frozenset({"gpu-sm120"}),
    )
    with (tmp_path / "log.txt").open("w") as log:
        yield Scheduler(
            store=store,
            runner=runner,
            view=PlainView(log, verbose=True),
            work=tmp_path / ".forge",
            keys=tmp_path / "keys",
            owner="test:1",
        )


@pytest.fixture
def run(scheduler: Scheduler) -> Run:
    def run_plan(*ends: Step, **chosen: object) -> dict[str, Done]:
        plan = Plan.of("test", [], ends)
        done = scheduler.run(plan, select(plan, **chosen))  # type: ignore[arg-type]
        return {one.step.id: one for one in done}

    return run_plan


def text(store: Store, done: Done) -> str:
    assert done.result is not None
    tree = done.result.outputs["out"].digest
    return store.read_file(tree, "text", max_bytes=1000).decode()


def test_steps_run_in_order_and_their_outputs_are_stored(run: Run, store: Store) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    second = shell("second", "cat ${inputs.a}/text ${inputs.a}/text > ${outputs.out}/text",
                   {"a": first["out"]})  # fmt: skip
    done = run(second)
    assert text(store, done["second"]) == "one\none\n"
    assert [one.status for one in done.values()] == [Status.RUN, Status.RUN]


def test_second_run_takes_everything_from_the_store(run: Run, tmp_path: Path) -> None:
    step = shell("first", f"echo x >> '{tmp_path}'/ran; echo one > ${{outputs.out}}/text")
    run(step)
    assert run(step)["first"].status is Status.HIT
    assert (tmp_path / "ran").read_text() == "x\n"


def test_result_is_not_believed_when_its_output_is_gone(run: Run, store: Store) -> None:
    step = shell("first", "echo one > ${outputs.out}/text")
    done = run(step)["first"]
    assert done.result is not None
    store.objects.delete(f"trees/{done.result.outputs['out'].digest}.json")
    assert run(step)["first"].status is Status.RUN


def test_rebuild_stops_where_the_bytes_are_the_same(run: Run) -> None:
    def two(comment: str) -> Step:
        first = shell("first", f": {comment}; echo same > ${{outputs.out}}/text")
        return shell("second", "cp ${inputs.a}/text ${outputs.out}/", {"a": first["out"]})

    run(two("before"))
    done = run(two("after"))
    assert (done["first"].status, done["second"].status) == (Status.RUN, Status.HIT)


def test_equal_work_for_two_profiles_runs_once(run: Run, tmp_path: Path) -> None:
    script = f"echo x >> '{tmp_path}'/ran; echo one > ${{outputs.out}}/text"
    done = run(shell("sbom@a", script), shell("sbom@b", script))
    assert sorted(one.status.value for one in done.values()) == ["hit", "run"]
    assert (tmp_path / "ran").read_text() == "x\n"


def test_effect_runs_every_time(run: Run, tmp_path: Path) -> None:
    step = shell("publish", f"echo x >> '{tmp_path}'/ran", outputs=(), effect=True)
    run(step)
    assert run(step)["publish"].status is Status.EFFECT
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def test_command_sees_its_settings_its_secrets_and_nothing_else(run: Run, store: Store) -> None:
    step = shell(
        "first",
        "{ cat ${settings}; echo; env; } > ${outputs.out}/text",
        settings={"engine": {"precision": "fp16"}},
        env={"MODE": "quick"},
        secrets=("TOKEN",),
    )
    seen = text(store, run(step)["first"])
    assert '{"engine":{"precision":"fp16"}}' in seen
    assert "TOKEN=s3cr3t" in seen
    assert "MODE=quick" in seen
    assert "OTHER=" not in seen


def test_chain_lists_the_stored_ancestors_with_their_digests(run: Run, store: Store) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    second = shell("second", "cp ${inputs.a}/text ${outputs.out}/text2", {"a": first["out"]})
    third = shell("third", "cp ${chain} ${outputs.out}/text", {"b": second["out"]})
    done = run(third)
    chain = text(store, done["third"])
    for name in ("first", "second"):
        result = done[name].result
        assert result is not None
        assert result.key in chain
        assert result.outputs["out"].digest in chain


def test_referenced_input_comes_as_a_digest_and_is_not_unpacked(run: Run, store: Store) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    second = shell(
        "second",
        "cp ${digests} ${outputs.out}/text; test ! -e inputs",
        {"a": first["out"]},
        references=frozenset({"a"}),
    )
    done = run(second)
    result = done["first"].result
    assert result is not None
    assert text(store, done["second"]) == f'{{"a":"{result.outputs["out"].digest}"}}'


def test_failed_step_keeps_its_log_and_a_script_that_runs_it_by_hand(
    run: Run, scheduler: Scheduler, tmp_path: Path
) -> None:
    step = shell("engine@a", "echo compiling; echo broken >&2; exit 17", secrets=("TOKEN",))
    with pytest.raises(StepFailedError, match="Step engine@a failed with exit code 17") as caught:
        run(step)
    assert caught.value.why == ""  # the view of this test is verbose: it has shown the log
    quiet = replace(scheduler, view=PlainView(io.StringIO()))
    plan = Plan.of("test", [], [step])
    with pytest.raises(StepFailedError) as caught:
        quiet.run(plan, select(plan))
    assert "| broken" in caught.value.why
    script = next((tmp_path / ".forge" / "failed").glob("engine@a-*/reproduce.sh"))
    assert str(script) in caught.value.hint
    assert "s3cr3t" not in script.read_text()
    assert "PIP_INDEX_URL" in script.read_text()
    assert script.stat().st_mode & 0o777 == 0o700
    by_hand = subprocess.run(
        [script], env={"TOKEN": "x", "PATH": os.environ["PATH"]}, capture_output=True, check=False
    )
    assert (by_hand.returncode, by_hand.stdout) == (17, b"compiling\n")


def test_failed_step_stores_no_result_and_leaves_nothing_running(
    run: Run, store: Store, tmp_path: Path
) -> None:
    script = f"echo half > ${{outputs.out}}/text; sleep 600 & echo $! > '{tmp_path}'/pid; exit 1"
    step = shell("first", script)
    with pytest.raises(StepFailedError):
        run(step)
    assert store.recent_actions() == []
    assert list((tmp_path / ".forge" / "running").iterdir()) == []
    assert not lives(tmp_path / "pid")


def test_command_that_is_killed_half_way_stores_nothing_and_the_next_run_builds_it(
    run: Run, store: Store, tmp_path: Path
) -> None:
    script = f"echo half > ${{outputs.out}}/text; test -e '{tmp_path}'/again || kill -9 $$"
    with pytest.raises(StepFailedError, match="killed by signal 9"):
        run(shell("engine@a", script))
    assert store.recent_actions() == []
    (tmp_path / "again").touch()
    assert run(shell("engine@a", script))["engine@a"].status is Status.RUN


@pytest.mark.parametrize(
    ("code", "error"), [(6, SmokeGateError), (3, ConfigurationError), (1, StepFailedError)]
)
def test_exit_code_of_a_forge_command_is_kept(run: Run, code: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(shell("gate@a", f"exit {code}"))


def test_step_that_runs_beside_a_failing_one_is_finished_and_stored(run: Run, store: Store) -> None:
    slow = shell("slow", "sleep 0.5; echo done > ${outputs.out}/text")
    with pytest.raises(StepFailedError, match="quick"):
        run(slow, shell("quick", "exit 1"))
    assert [result.step for result in store.recent_actions()] == ["slow"]


def test_exclusive_step_runs_alone(run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "busy"
    steps = [shell(f"build@{n}", f"touch '{mark}{n}'; sleep 0.3; rm '{mark}{n}'", outputs=())
             for n in range(3)]  # fmt: skip
    alone = shell("smoke@a", f"! ls '{mark}'* 2>/dev/null; sleep 0.1; ! ls '{mark}'*", outputs=(),
                  exclusive=True)  # fmt: skip
    assert run(*steps[:2], alone, steps[2])["smoke@a"].status is Status.RUN


NOT_HERE = {
    "label": ({"labels": ("gpu-sm110",)}, "label gpu-sm110"),
    "platform": ({"platform": "linux/riscv64"}, "requires linux/riscv64"),
    "image": ({"image": "example.org/triton:1"}, "requires the image example.org/triton:1"),
    "planned only": ({"planned_only": "nobody has run it yet"}, "nobody has run it yet"),
}


@pytest.mark.parametrize(("change", "reason"), NOT_HERE.values(), ids=NOT_HERE)
def test_step_that_cannot_run_here_is_refused_before_anything_runs(
    run: Run, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    first = shell("first", f"touch '{tmp_path}'/ran; echo x > ${{outputs.out}}/x")
    second = shell("second", "true", {"a": first["out"]}, **change)
    with pytest.raises(NoRunnerError) as caught:
        run(second)
    assert reason in caught.value.why
    assert "--skip 'second'" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_step_that_cannot_run_here_is_no_matter_when_it_is_stored(run: Run) -> None:
    run(shell("engine@a", "echo x > ${outputs.out}/x", labels=("gpu-sm120",)))
    done = run(shell("engine@b", "echo x > ${outputs.out}/x", labels=("gpu-sm110",)))
    assert done["engine@b"].status is Status.HIT


def test_two_runs_do_not_build_one_key_twice(scheduler: Scheduler, tmp_path: Path) -> None:
    step = shell("engine@a", f"echo x >> '{tmp_path}'/ran; sleep 0.5; echo y > ${{outputs.out}}/y")
    plan = Plan.of("test", [], [step])
    done: list[Done] = []
    threads = [
        threading.Thread(target=lambda: done.extend(scheduler.run(plan, {"engine@a": True})))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.status.value for one in done) == ["hit", "run"]
    assert (tmp_path / "ran").read_text() == "x\n"


def test_kept_tree_that_lost_a_file_is_unpacked_anew(
    run: Run, store: Store, tmp_path: Path
) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    run(first)
    kept(tmp_path).unlink()
    second = shell("second", "cat ${inputs.a}/text > ${outputs.out}/text", {"a": first["out"]})
    assert text(store, run(second)["second"]) == "one\n"


def test_kept_tree_whose_bytes_changed_is_never_used(
    run: Run, store: Store, tmp_path: Path
) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    run(first)
    kept(tmp_path).write_text("ONE\n")  # as long as before
    second = shell("second", "cat ${inputs.a}/text > ${outputs.out}/text", {"a": first["out"]})
    assert text(store, run(second)["second"]) == "one\n"
    assert kept(tmp_path, "one\n").read_text() == "one\n"


def test_tool_that_writes_into_its_input_does_not_spoil_it_for_the_next(
    run: Run, store: Store
) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    rude = shell("rude", "echo two > ${inputs.a}/text; touch ${outputs.out}/x", {"a": first["out"]})
    run(rude)
    next_one = shell("next", "cat ${inputs.a}/text > ${outputs.out}/text", {"a": first["out"]})
    assert text(store, run(next_one)["next"]) == "one\n"


def test_damaged_result_is_made_again_and_never_served(
    run: Run, store: Store, tmp_path: Path
) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    run(first)
    shutil.rmtree(tmp_path / ".forge" / "trees")
    for pack in (tmp_path / "store" / "packs").glob("*/*"):
        pack.write_bytes(b"ONE\n")
    second = shell("second", "cat ${inputs.a}/text > ${outputs.out}/text", {"a": first["out"]})
    done = run(second)
    assert text(store, done["second"]) == "one\n"
    assert done["first"].status is Status.RUN
    assert "damaged and made again" in (tmp_path / "log.txt").read_text()
    assert check_store(store).ok


def test_wait_for_another_run_is_said_and_ends_with_ctrl_c(spawn: Spawn, tmp_path: Path) -> None:
    first = _start(spawn, tmp_path)
    second = _start(spawn, tmp_path)
    assert second.stderr is not None
    said = iter(second.stderr.readline, b"")
    assert next(line for line in said if b"waiting for t:1" in line)
    second.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in second.communicate(timeout=30)[1]
    first.kill()
    first.communicate(timeout=30)


def test_what_killed_runs_and_long_ago_runs_left_is_deleted(run: Run, tmp_path: Path) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    run(first)
    os.utime(kept(tmp_path).parent, (0, 0))
    running = tmp_path / ".forge" / "running"
    (running / "engine@x-0123456789ab-abc-4194305").mkdir()  # above the highest process id
    (running / f"engine@x-0123456789ab-abc-{os.getpid()}").mkdir()
    run(first)
    assert [path.name[-3:] for path in running.iterdir()] == [str(os.getpid())[-3:]]
    assert not [one for one in (tmp_path / ".forge" / "trees").iterdir() if one.is_dir()]


def kept(tmp_path: Path, content: str = "") -> Path:
    """The one file `text` of the trees kept unpacked (with this content)."""
    files = (tmp_path / ".forge" / "trees").glob("*/text")
    (found,) = [path for path in files if content in path.read_text()]
    return found


CTRL_C = """
    import os, sys
    from pathlib import Path
    from forge.plan import Plan
    from forge.runners.local import LocalRunner
    from forge.runners.schedule import Scheduler
    from forge.runners.view import PlainView
    from forge.steps import Step
    from forge.store import open_store
    root = Path(sys.argv[1])
    script = 'cd "$0"; echo half > "$1"/half; sleep 600 & echo $! > pid; touch started; wait'
    argv = ("sh", "-c", script, str(root), "${outputs.out}")
    step = Step(id="slow", argv=argv, outputs=("out",))
    plan = Plan.of("test", [], [step])
    runner = LocalRunner(cache=root / "e", environment=dict(os.environ))
    store = open_store(str(root / "store"), cache=root / "cache")
    Scheduler(store=store, runner=runner, view=PlainView(sys.stderr), work=root / ".forge",
              keys=root, owner="t:1").run(plan, {"slow": True})
"""


def _start(spawn: Spawn, tmp_path: Path) -> subprocess.Popen[bytes]:
    """A run of its own process, in the middle of its one step."""
    child: subprocess.Popen[bytes] = spawn(
        [sys.executable, "-c", textwrap.dedent(CTRL_C), str(tmp_path)], stderr=subprocess.PIPE
    )
    wait_for((tmp_path / "started").exists)
    return child


def test_ctrl_c_ends_the_children_and_leaves_nothing_half_stored(
    spawn: Spawn, tmp_path: Path
) -> None:
    child = _start(spawn, tmp_path)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert not lives(tmp_path / "pid")
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    assert store.recent_actions() == []
    assert [entry.name for entry in store.objects.entries("leases/")] == []
    assert list((tmp_path / ".forge" / "running").iterdir()) == []


def test_run_that_is_killed_takes_its_step_with_it(spawn: Spawn, tmp_path: Path) -> None:
    child = _start(spawn, tmp_path)
    child.kill()
    child.communicate(timeout=30)
    wait_for(lambda: not lives(tmp_path / "pid"))


def lives(file: Path) -> bool:
    """Whether the process whose id is in the file runs."""
    status = Path("/proc", file.read_text().strip(), "stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in a minute"
        time.sleep(0.05)


def test_warning_of_a_command_is_shown_without_verbose(store: Store, tmp_path: Path) -> None:
    step = shell("first", f"echo hidden; echo '{WARNING}slow here'; echo x > ${{outputs.out}}/text")
    shown = io.StringIO()
    scheduler = Scheduler(
        store=store,
        runner=LocalRunner(cache=tmp_path, environment={"PATH": os.environ["PATH"]}),
        view=PlainView(shown),
        work=tmp_path / ".forge",
        keys=tmp_path / "keys",
        owner="test:1",
    )
    plan = Plan.of("test", [], [step])
    scheduler.run(plan, select(plan))
    lines = shown.getvalue().splitlines()
    assert "  first: slow here" in lines
    assert not [line for line in lines if line.strip().endswith("| hidden")]
