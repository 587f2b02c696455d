"""Keys and passphrase: asked for before the work, and only when something will be signed."""

from pathlib import Path

import pytest

from forge.cli.signing import refuse_unsigned, signing_environment, signing_only
from forge.errors import NoRunnerError, UsageError
from forge.plan import PlannedStep, Status
from forge.release.keys.keyring import Keyring
from forge.steps import Step
from tests.support.release_world import World

PASSPHRASE = "words"


def row(status: Status, *, effect: bool = False, secrets: tuple[str, ...] = ()) -> PlannedStep:
    step = Step(id="proofs@x", argv=("sign",), effect=effect, secrets=secrets)
    return PlannedStep(step, status, "")


SIGNS = ("FORGE_PASSPHRASE",)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return World(tmp_path).keys


def never() -> list[PlannedStep]:
    raise AssertionError("the plan was resolved though nothing is missing")


def not_asked() -> bool:
    raise AssertionError("the store was read though no keys are missing")


def test_nothing_is_looked_up_when_keys_and_passphrase_are_there(keys: Path) -> None:
    given = {"FORGE_PASSPHRASE": PASSPHRASE}
    assert signing_environment(given, keys, never, not_asked) == given


def test_relative_passphrase_file_is_made_absolute(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys)
    made = signing_environment({"FORGE_PASSPHRASE_FILE": "secret"}, keys, never, not_asked)
    assert made["FORGE_PASSPHRASE_FILE"] == str(keys / "secret")


@pytest.mark.parametrize("status", [Status.HIT, Status.SKIPPED])
def test_stored_steps_need_no_keys(tmp_path: Path, status: Status) -> None:
    assert signing_environment({}, tmp_path, lambda: [row(status, secrets=SIGNS)], not_asked) == {}


@pytest.mark.parametrize("published", [False, True])
def test_missing_keys_are_made_for_a_new_store_and_fetched_for_a_signed_one(
    tmp_path: Path, *, published: bool
) -> None:
    rows = [row(Status.WAITS, secrets=SIGNS)]
    with pytest.raises(UsageError, match=f"There are no keys in {tmp_path}") as caught:
        signing_environment({}, tmp_path, lambda: rows, lambda: published)
    assert ("forge keys init" in str(caught.value)) is not published
    assert f"forge keys restore FILE --keys {tmp_path}" in caught.value.hint


@pytest.mark.parametrize("name", ["keys/bundles.pem", "passphrase", "own"])
def test_file_that_others_may_open_stops_a_run_before_its_first_step(
    tmp_path: Path, keys: Path, name: str
) -> None:
    for file in ("passphrase", "own"):
        (tmp_path / file).write_text(PASSPHRASE)
        (tmp_path / file).chmod(0o600)
    given = {
        "FORGE_PASSPHRASE_FILE": str(tmp_path / "passphrase"),
        "FORGE_KEY_PASSPHRASE_FILES": f"model={tmp_path}/own",
    }
    assert signing_environment(given, keys, never, not_asked) == given
    (tmp_path / name).chmod(0o644)
    with pytest.raises(UsageError, match=f"Other users can open {tmp_path}/{name}"):
        signing_environment(given, keys, never, not_asked)


def test_offline_key_on_a_medium_without_modes_stops_no_run(keys: Path) -> None:
    (keys / "root-1.pem").chmod(0o755)
    given = {"FORGE_PASSPHRASE": PASSPHRASE}
    assert signing_environment(given, keys, never, not_asked) == given


def test_relative_files_of_single_keys_are_made_absolute(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys)
    given = {"FORGE_PASSPHRASE": PASSPHRASE, "FORGE_KEY_PASSPHRASE_FILES": "model=secret"}
    made = signing_environment(given, keys, never, not_asked)
    assert made["FORGE_KEY_PASSPHRASE_FILES"] == f"model={keys}/secret"


def test_person_is_asked_once(keys: Path) -> None:
    made = signing_environment(
        {}, keys, lambda: [row(Status.RUN, secrets=SIGNS)], not_asked, prompt=lambda: PASSPHRASE
    )
    assert made == {"FORGE_PASSPHRASE": PASSPHRASE}


def test_missing_passphrase_is_an_error_where_nobody_can_be_asked(keys: Path) -> None:
    with pytest.raises(UsageError, match="No passphrase"):
        signing_environment({}, keys, lambda: [row(Status.RUN, secrets=SIGNS)], not_asked)


def test_effect_without_a_passphrase_is_let_go_on(keys: Path) -> None:
    """It may find everything published already, and then signs nothing."""
    rows = [row(Status.EFFECT, effect=True, secrets=SIGNS)]
    assert signing_environment({}, keys, lambda: rows, not_asked) == {}


def test_keys_of_a_kms_need_no_passphrase(keys: Path) -> None:
    """As on a runner that has the public side of the folder only."""
    ring = Keyring(keys, str)
    for path in keys.glob("*.pem"):
        path.unlink()
    offline = [entry for entry in ring.file.keys if entry.role in ("root", "targets")]
    moved = [
        entry.model_copy(update={"uri": f"awskms:alias/{entry.name}"})
        for entry in ring.file.keys
        if entry not in offline
    ]
    ring.save(ring.file.model_copy(update={"keys": (*offline, *moved)}))
    assert signing_environment({}, keys, never, not_asked) == {}


def plan(*statuses: Status) -> list[PlannedStep]:
    """An engine, its proofs, and their publication."""
    steps = (
        Step(id="engine@x", argv=("compile",)),
        Step(id="proofs@x", argv=("sign",), secrets=SIGNS),
        Step(id="publish", argv=("publish",), secrets=SIGNS, effect=True),
    )
    return [
        PlannedStep(step, status, "its input changed")
        for step, status in zip(steps, statuses, strict=True)
    ]


ALL = {"engine@x": True, "proofs@x": True, "publish": True}


def test_sign_only_lets_no_other_step_run() -> None:
    rows = plan(Status.HIT, Status.RUN, Status.WAITS)
    assert signing_only(rows, ALL) == {**ALL, "engine@x": False}
    assert signing_only(rows, {**ALL, "publish": False})["publish"] is False


@pytest.mark.parametrize("status", [Status.RUN, Status.WAITS, Status.EFFECT])
def test_sign_only_refuses_what_is_not_built_before_anything_is_signed(status: Status) -> None:
    rows = plan(status, Status.WAITS, Status.WAITS)
    with pytest.raises(NoRunnerError, match=r"engine@x has no stored result") as caught:
        signing_only(rows, ALL)
    assert caught.value.exit_code == 4
    assert "--only 'engine@x'" in caught.value.hint
    assert not signing_only(rows, {**ALL, "engine@x": False})["engine@x"]  # --skip


def test_sign_only_names_the_job_that_should_have_made_a_result() -> None:
    step = Step(
        id="smoke@x", argv=("x",), platform="linux/arm64", labels=("self-hosted", "gpu-sm110")
    )
    with pytest.raises(NoRunnerError) as caught:
        signing_only([PlannedStep(step, Status.RUN, "no stored result")], {"smoke@x": True})
    assert "in a job on linux/arm64 with the labels self-hosted, gpu-sm110" in caught.value.hint


def test_sign_only_fails_if_a_result_was_deleted_meanwhile() -> None:
    rows = plan(Status.SKIPPED, Status.SKIPPED, Status.SKIPPED)
    done = [(row.step, row.status, "needs engine@x") for row in rows]
    with pytest.raises(NoRunnerError, match=r"proofs@x has no stored result: needs engine@x"):
        refuse_unsigned(done, {**ALL, "engine@x": False})
    refuse_unsigned(done[:1], {**ALL, "engine@x": False})
