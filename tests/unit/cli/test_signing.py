"""Keys and passphrase: asked for before the work, and only when something will be signed."""

from pathlib import Path

import pytest

from forge.cli.signing import signing_environment
from forge.errors import UsageError
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


def test_nothing_is_looked_up_when_keys_and_passphrase_are_there(keys: Path) -> None:
    given = {"FORGE_PASSPHRASE": PASSPHRASE}
    assert signing_environment(given, keys, never) == given


def test_relative_passphrase_file_is_made_absolute(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(keys)
    made = signing_environment({"FORGE_PASSPHRASE_FILE": "secret"}, keys, never)
    assert made["FORGE_PASSPHRASE_FILE"] == str(keys / "secret")


@pytest.mark.parametrize("status", [Status.HIT, Status.SKIPPED])
def test_stored_steps_need_no_keys(tmp_path: Path, status: Status) -> None:
    assert signing_environment({}, tmp_path, lambda: [row(status, secrets=SIGNS)]) == {}


def test_missing_keys_are_an_error_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No signing keys") as caught:
        signing_environment({}, tmp_path, lambda: [row(Status.WAITS, secrets=SIGNS)])
    assert f"forge keys init --keys {tmp_path}" in caught.value.hint


def test_person_is_asked_once(keys: Path) -> None:
    made = signing_environment(
        {}, keys, lambda: [row(Status.RUN, secrets=SIGNS)], prompt=lambda: PASSPHRASE
    )
    assert made == {"FORGE_PASSPHRASE": PASSPHRASE}


def test_missing_passphrase_is_an_error_where_nobody_can_be_asked(keys: Path) -> None:
    with pytest.raises(UsageError, match="No passphrase"):
        signing_environment({}, keys, lambda: [row(Status.RUN, secrets=SIGNS)])


def test_effect_without_a_passphrase_is_let_go_on(keys: Path) -> None:
    """It may find everything published already, and then signs nothing."""
    rows = [row(Status.EFFECT, effect=True, secrets=SIGNS)]
    assert signing_environment({}, keys, lambda: rows) == {}


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
    assert signing_environment({}, keys, never) == {}
