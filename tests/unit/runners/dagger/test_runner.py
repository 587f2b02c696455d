"""The dagger runner up to the moment it needs an engine, and the words when it finds none."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import graphql
import pytest

from forge.errors import EngineError, NoRunnerError
from forge.plan import Plan, Status, select
from forge.runners.base import Runner
from forge.runners.dagger.runner import DaggerRunner
from forge.runners.dagger.settings import DaggerSettings
from forge.runners.dagger.watch import Pace
from forge.runners.local import LocalRunner, host_platform
from forge.runners.schedule import Done, Scheduler
from forge.runners.view import PlainView
from forge.steps import Step
from forge.store import Store, open_store
from tests.support.fake_dagger import FakeEngine, write_cli


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    # The name of a socket has at most 107 characters, and the tests' own folder may be deep.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        listener = FakeEngine(Path(folder) / "e.sock")
        yield listener
        listener.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), cache=tmp_path / "cache")


def local(tmp_path: Path) -> LocalRunner:
    return LocalRunner(cache=tmp_path / "environments", environment={"PATH": "/usr/bin:/bin"})


def dagger(tmp_path: Path, address: str, **environment: str) -> DaggerRunner:
    settings = DaggerSettings(engines={host_platform(): address})
    return DaggerRunner(settings, {"PATH": "/usr/bin:/bin"} | environment, local(tmp_path))


def run(runner: Runner, store: Store, tmp_path: Path, *ends: Step) -> dict[str, Done]:
    plan = Plan.of("test", [], ends)
    with (tmp_path / "view.txt").open("a") as out:
        scheduler = Scheduler(
            store=store, runner=runner, view=PlainView(out), work=tmp_path / ".forge",
            keys=tmp_path / "keys", owner="test:1",
        )  # fmt: skip
        done = scheduler.run(plan, select(plan))
    return {one.step.id: one for one in done}


def a_release() -> tuple[Step, Step]:
    engine = Step(id="engine", argv=("sh", "-c", 'echo 1 > "${outputs.out}"/x'), outputs=("out",))
    publish = Step(id="publish", argv=("sh", "-c", "cat '${digests}'"), inputs={"a": engine["out"]},
                   references=frozenset({"a"}), effect=True)  # fmt: skip
    return engine, publish


def test_release_that_is_all_in_the_store_contacts_no_engine(
    tmp_path: Path, store: Store, engine: FakeEngine
) -> None:
    run(local(tmp_path), store, tmp_path, *a_release())
    done = run(dagger(tmp_path, engine.address), store, tmp_path, *a_release())
    assert (done["engine"].status, done["publish"].status) == (Status.HIT, Status.EFFECT)
    assert engine.contacts == 0


def test_step_that_is_not_in_the_store_does_contact_it(
    tmp_path: Path, store: Store, engine: FakeEngine
) -> None:
    cli = {"_EXPERIMENTAL_DAGGER_CLI_BIN": "/bin/false"}
    with pytest.raises(NoRunnerError, match="No Dagger engine at"):
        run(dagger(tmp_path, engine.address, **cli), store, tmp_path, *a_release())
    assert engine.contacts == 1


def test_what_runs_beside_is_recorded_as_run_here(tmp_path: Path, store: Store) -> None:
    step = Step(
        id="proofs", argv=("sh", "-c", "echo '${keys}' > \"${outputs.out}\"/x"), outputs=("out",)
    )
    done = run(dagger(tmp_path, "unix:///nowhere"), store, tmp_path, step)["proofs"]
    assert done.result is not None
    assert done.result.runner == f"local {host_platform()}"


def test_plan_says_which_place_carries_out_each_step(tmp_path: Path) -> None:
    engine, publish = a_release()
    runner = dagger(tmp_path, "unix:///nowhere")
    assert runner.carrier(engine) == f"dagger {host_platform()}"
    assert runner.carrier(publish) == f"local {host_platform()}"
    assert runner.local.carrier(engine) == f"local {host_platform()}"


def test_step_that_must_stay_and_needs_another_platform_is_refused(
    tmp_path: Path, store: Store
) -> None:
    settings = DaggerSettings(engines={"linux/riscv64": "unix:///nowhere"})
    runner = DaggerRunner(settings, {}, local(tmp_path))
    step = Step(id="proofs", argv=("sign", "${keys}"), platform="linux/riscv64")
    with pytest.raises(NoRunnerError, match="signing keys of this machine") as caught:
        run(runner, store, tmp_path, step)
    assert "requires linux/riscv64" in caught.value.why


def test_engine_that_is_lost_during_a_step_ends_the_run_with_4_and_stores_nothing(
    tmp_path: Path, store: Store, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_engine(*_: object) -> None:
        engine.close()
        await asyncio.Event().wait()

    schema = graphql.build_schema("type Query { version: String! }")
    monkeypatch.setattr("forge.runners.dagger.session._SCHEMAS", {engine.address: schema})
    monkeypatch.setattr("forge.runners.dagger.watch._PACE", Pace(0.0, 1.0, 0.0))
    monkeypatch.setattr("forge.runners.dagger.exec.run", lose_engine)
    cli = {"_EXPERIMENTAL_DAGGER_CLI_BIN": write_cli(tmp_path)}
    step = Step(id="engine", argv=("sh", "-c", "sleep 1h"), outputs=("out",))
    with pytest.raises(EngineError, match="Step engine was not run to its end") as caught:
        run(dagger(tmp_path, engine.address, **cli), store, tmp_path, step)
    assert caught.value.exit_code == 4
    assert list(store.objects.entries("actions/")) == []
    assert list((tmp_path / ".forge" / "running").iterdir()) == []
