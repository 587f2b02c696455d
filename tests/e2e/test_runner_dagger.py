"""The dagger runner on a real engine: containers, tools, logs, secrets, cancel, platforms."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from forge.errors import NoRunnerError, SmokeGateError, StepFailedError
from forge.plan import Plan, Status, select
from forge.runners.base import Runner
from forge.runners.local import LocalRunner, host_platform
from forge.runners.schedule import Done, Scheduler
from forge.runners.view import PlainView
from forge.steps import Step, locked, source
from forge.store import Store, open_store
from tests.support.engine import ROOT, Engine, engine

pytestmark = [pytest.mark.dagger, pytest.mark.slow, pytest.mark.timeout(1800)]

Run = Callable[..., dict[str, Done]]


@pytest.fixture(scope="module")
def dagger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine(tmp_path_factory.mktemp("engine")) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), cache=tmp_path / "cache")


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Run:
    def run_plan(runner: Runner, *ends: Step) -> dict[str, Done]:
        plan = Plan.of("test", [], ends)
        with (tmp_path / "view.txt").open("a") as out:
            scheduler = Scheduler(
                store=store, runner=runner, view=PlainView(out, verbose=True),
                work=tmp_path / ".forge", keys=tmp_path / "keys", owner="test:1",
            )  # fmt: skip
            done = scheduler.run(plan, select(plan))
        return {one.step.id: one for one in done}

    return run_plan


def local(tmp_path: Path) -> LocalRunner:
    return LocalRunner(tmp_path / "environments", {"PATH": os.environ["PATH"]})


def shell(step_id: str, script: str, **more: object) -> Step:
    values: dict[str, object] = {"id": step_id, "argv": ("sh", "-ceu", script), "outputs": ("out",)}
    return Step(**(values | more))  # type: ignore[arg-type]  # the test's own keywords


def text(store: Store, done: Done) -> str:
    assert done.result is not None
    tree = done.result.outputs["out"].digest
    return store.read_file(tree, "text", max_bytes=1_000_000).decode()


def everything_kept(tmp_path: Path) -> str:
    """All text the run left: store, logs, view, scripts."""
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in files)


def test_step_runs_in_a_container_with_its_inputs_mounted_and_its_outputs_stored(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    first = shell("first", "echo one > ${outputs.out}/text")
    script = "{ cat ${inputs.a}/text; pwd; cat ${settings}; } > ${outputs.out}/text"
    second = shell("second", script, inputs={"a": first["out"]}, settings={"precision": "fp16"})
    done = run(dagger.runner(tmp_path), second)
    assert text(store, done["second"]) == 'one\n/forge\n{"precision":"fp16"}'
    result = done["second"].result
    assert result is not None
    assert result.runner == f"dagger {host_platform()}"


def test_step_built_by_one_runner_is_a_hit_for_the_other(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    mine, theirs = (shell(name, f"echo {name} > ${{outputs.out}}/text") for name in ("a", "b"))
    run(local(tmp_path), mine)
    run(dagger.runner(tmp_path), theirs)
    by_dagger = run(dagger.runner(tmp_path), mine, theirs)
    by_local = run(local(tmp_path), mine, theirs)
    for done in (by_dagger, by_local):
        assert [one.status for one in done.values()] == [Status.HIT, Status.HIT]
        assert [text(store, one) for one in done.values()] == ["a\n", "b\n"]


def test_both_runners_make_the_same_tree_of_the_same_step(dagger: Engine, tmp_path: Path) -> None:
    script = "cd ${outputs.out}; echo x > text; mkdir d; printf '#!' > d/run; chmod +x d/run"
    digests = []
    runners: dict[str, Runner] = {"l": local(tmp_path), "d": dagger.runner(tmp_path)}
    for name, runner in runners.items():
        store = open_store(str(tmp_path / name / "store"), cache=tmp_path / name / "cache")
        with (tmp_path / "view.txt").open("a") as out:
            scheduler = Scheduler(
                store=store, runner=runner, view=PlainView(out), work=tmp_path / name / "work",
                keys=tmp_path, owner="test:1",
            )  # fmt: skip
            (done,) = scheduler.run(Plan.of("t", [], [shell("a", script)]), {"a": True})
        assert done.result is not None
        digests.append(done.result.outputs["out"].digest)
    assert digests[0] == digests[1]


def test_forge_command_runs_in_a_container(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    script = tmp_path / "where.py"
    script.write_text(
        "import sys, forge, pathlib\n"
        "pathlib.Path(sys.argv[1], 'text').write_text(f'{sys.executable} {forge.__file__}')\n"
    )
    step = Step(
        id="a",
        argv=("${python}", "${source.where}", "${outputs.out}"),
        outputs=("out",),
        sources=(source(script),),
    )
    done = run(dagger.runner(tmp_path), step)["a"]
    assert text(store, done) == "/opt/forge/bin/python /forge/source/forge/__init__.py"


def test_tool_environment_comes_from_its_lock(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "dockerfiles" / "tiny"
    folder.mkdir(parents=True)
    lock = (ROOT / "requirements.lock").read_text()
    block = lock[lock.index("\nclick==") :].split("\n\n")[0].lstrip()
    lines = block.splitlines()
    kept = [lines[0]]
    for line in lines[1:]:
        if not line.startswith(" "):
            break
        kept.append(line)
    (folder / "requirements.lock").write_text("\n".join(kept).rstrip("\\ ") + "\n")
    step = Step(
        id="a",
        argv=("${tools.tiny}/bin/python", "-c",
              "import sys, click; open(sys.argv[1] + '/text', 'w').write(click.__file__)",
              "${outputs.out}"),
        outputs=("out",),
        environments=(locked(folder),),
    )  # fmt: skip
    done = run(dagger.runner(tmp_path), step)["a"]
    assert text(store, done).startswith("/opt/tiny/lib/python3.11/site-packages/click")


def test_step_that_names_an_image_runs_in_it(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    image = dagger.settings.base.format(python="3.11")
    step = shell("a", ". /etc/os-release; echo $ID > ${outputs.out}/text", image=image)
    assert text(store, run(dagger.runner(tmp_path), step)["a"]) == "debian\n"
    with pytest.raises(NoRunnerError, match="cannot run here"):
        run(local(tmp_path), shell("b", "true", image=image))


def test_image_that_is_not_there_is_named(dagger: Engine, run: Run, tmp_path: Path) -> None:
    image = dagger.settings.base.format(python="3.11").rpartition(":")[0] + ":absent"
    with pytest.raises(StepFailedError, match="could not use the image") as caught:
        run(dagger.runner(tmp_path), shell("a", "true", image=image))
    assert image in caught.value.what


@pytest.mark.parametrize(("code", "error"), [(17, StepFailedError), (6, SmokeGateError)])
def test_failed_step_keeps_its_whole_log_and_its_exit_code(
    dagger: Engine, run: Run, store: Store, tmp_path: Path, code: int, error: type[Exception]
) -> None:
    step = shell("engine@a", f"echo compiling; seq 3000; echo broken >&2; exit {code}")
    with pytest.raises(error, match=f"failed with exit code {code}") as caught:
        run(dagger.runner(tmp_path), step)
    assert "| broken" in str(caught.value)
    (log,) = (tmp_path / ".forge" / "failed").glob("engine@a-*/log.txt")
    lines = log.read_text().splitlines()
    assert (lines[0], len(lines), "broken" in lines) == ("compiling", 3002, True)
    assert store.recent_actions() == []


def test_failed_step_leaves_a_script_that_runs_it_by_hand_in_the_same_container(
    dagger: Engine, run: Run, tmp_path: Path
) -> None:
    before = shell("before", "echo input > ${outputs.out}/x")
    script = "cat ${inputs.a}/x; hostname; test ${#TOKEN} = 17; exit 17"
    step = shell("engine@a", script, inputs={"a": before["out"]}, secrets=("TOKEN",))
    with pytest.raises(StepFailedError) as caught:
        run(dagger.runner(tmp_path, TOKEN="hunter2-is-secret"), step)
    (by_hand,) = (tmp_path / ".forge" / "failed").glob("engine@a-*/reproduce.sh")
    assert str(by_hand) in caught.value.hint
    assert "hunter2" not in by_hand.read_text()
    bare = {name: value for name, value in os.environ.items() if name != "TOKEN"}
    refused = subprocess.run([by_hand], env=bare, capture_output=True, text=True, check=False)
    assert "set it first" in refused.stderr
    again = subprocess.run(
        [by_hand], env=bare | {"TOKEN": "seventeen letters"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (again.returncode, again.stdout.splitlines()[0]) == (17, "input"), again.stderr


def test_failed_step_is_run_again_and_not_remembered_by_the_engine(
    dagger: Engine, run: Run, tmp_path: Path
) -> None:
    before = shell("before", "echo 1 > ${outputs.out}/x")
    step = shell("flaky", "date +%s%N; exit 1", inputs={"a": before["out"]})
    printed = set()
    for _ in range(2):
        with pytest.raises(StepFailedError):
            run(dagger.runner(tmp_path), step)
        (log,) = (tmp_path / ".forge" / "failed").glob("flaky-*/log.txt")
        printed.add(log.read_text())
    assert len(printed) == 2


def test_lines_reach_the_view_while_the_command_runs(
    dagger: Engine, run: Run, tmp_path: Path
) -> None:
    step = shell("slow", "echo early-line; sleep 15; echo x > ${outputs.out}/x")
    thread = threading.Thread(target=run, args=(dagger.runner(tmp_path), step))
    thread.start()
    seen_before_the_end = False
    while thread.is_alive():
        lines = (tmp_path / "view.txt").read_text() if (tmp_path / "view.txt").exists() else ""
        seen_before_the_end |= "slow | early-line" in lines and "✔ slow" not in lines
        time.sleep(0.2)
    thread.join()
    assert seen_before_the_end


def test_secret_reaches_the_command_and_nothing_that_is_kept(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    script = "test ${#TOKEN} = 17; echo got $TOKEN;env | grep -v ^TOKEN= > ${outputs.out}/text"
    step = shell("a", script, secrets=("TOKEN",), env={"MODE": "quick"})
    runner = dagger.runner(tmp_path, TOKEN="hunter2-is-secret", OTHER="not-declared")
    done = run(runner, step)["a"]
    assert "MODE=quick" in text(store, done)
    assert "not-declared" not in text(store, done)
    kept = everything_kept(tmp_path)
    assert "got ***" in kept
    assert "hunter2" not in kept


def test_ctrl_c_ends_the_container_and_leaves_nothing_half_stored(
    dagger: Engine, tmp_path: Path
) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from forge.plan import Plan
        from forge.runners.dagger.runner import DaggerRunner
        from forge.runners.dagger.settings import DaggerSettings
        from forge.runners.local import LocalRunner, host_platform
        from forge.runners.schedule import Scheduler
        from forge.runners.view import PlainView
        from forge.steps import Step
        from forge.store import open_store
        root, address, base = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
        step = Step(id="slow", argv=("sh", "-c", "echo begun; sleep 4321"), outputs=("out",))
        settings = DaggerSettings({host_platform(): address}, base)
        env = dict(os.environ)
        runner = DaggerRunner(settings, env, LocalRunner(root / "e", env))
        store = open_store(str(root / "store"), cache=root / "cache")
        Scheduler(store=store, runner=runner, view=PlainView(sys.stderr, verbose=True),
                  work=root / ".forge", keys=root, owner="t:1").run(
            Plan.of("test", [], [step]), {"slow": True})
    """
    _, address = dagger.settings.engine(None, host_platform())
    arguments = [str(tmp_path), str(address), dagger.settings.base]
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stderr=subprocess.PIPE, env=dict(dagger.environment), cwd=ROOT,
    )  # fmt: skip
    wait_until(_sleeping, 300)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    wait_until(lambda: not _sleeping(), 30)
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    assert store.recent_actions() == []
    assert [entry.name for entry in store.objects.entries("leases/")] == []
    assert list((tmp_path / ".forge" / "running").iterdir()) == []


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _sleeping() -> bool:
    """Whether the container's own command is among the processes of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\x004321\x00":
                return True
        except OSError:
            continue  # it ended while we looked
    return False


def test_engine_of_another_version_is_explained(dagger: Engine, run: Run, tmp_path: Path) -> None:
    """The real engine refuses a client that says it is of an old version."""
    runner = dagger.runner(tmp_path, _EXPERIMENTAL_DAGGER_VERSION="v0.18.0")
    with pytest.raises(NoRunnerError, match="is not compatible") as caught:
        run(runner, shell("a", "true"))
    assert "0.18.0" in caught.value.why
    assert "install CLI and engine v0.21.8" in caught.value.hint


def test_step_for_arm64_runs_on_the_engine_named_for_it(
    dagger: Engine, run: Run, store: Store, tmp_path: Path
) -> None:
    if "linux/arm64" not in dagger.settings.engines:
        pytest.skip("FORGE_DAGGER_ENGINES names no engine for linux/arm64")
    steps = [
        shell(f"arch@{arch}", "uname -m > ${outputs.out}/text", platform=f"linux/{arch}")
        for arch in ("amd64", "arm64")
    ]
    done = run(dagger.runner(tmp_path), *steps)
    assert [text(store, one) for one in done.values()] == ["x86_64\n", "aarch64\n"]
    result = done["arch@arm64"].result
    assert result is not None
    assert result.runner == "dagger linux/arm64"
