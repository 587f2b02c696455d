from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.bundle import Fit, Manifest, ServingSettings, SmokeSummary, TreeReference
from forge.cli.device.settings import provision
from forge.device import upkeep
from forge.device.journal import Journal, Release, Verdict
from forge.device.slots import Home, Provisioned
from forge.errors import ConfigurationError, StoreError, UsageError
from forge.profiles import Match

HOLD = """
import sys, time
from pathlib import Path
from forge.device.slots import Home
with Home(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "state")
    made.clean()
    return made


def manifest(version: str) -> Manifest:
    reference = TreeReference(digest="0" * 64, size=1, files=1)
    return Manifest(
        name="llm",
        version=version,
        profile="development",
        created="2026-11-24T00:00:00Z",
        tree=reference,
        proofs=reference,
        fit=Fit(
            platform="linux/amd64",
            match=Match.model_validate({}),
            compute_capability=None,
            memory_mib=1,
            free_disk_mib=1,
            driver_min=None,
            jetpack=(),
            runtime={},
            power_mode=None,
        ),
        serving=ServingSettings(activation="swap", start_timeout_s=60, environments={}, images={}),
        smoke=SmokeSummary(
            concurrency=1,
            ttft_ms_p50=1,
            inter_token_ms_p50=1,
            output_tokens_per_s=1,
            error_rate=0,
            peak_rss_mib=1,
            machine="none",
        ),
        chain=(),
    )


def test_journal_comes_back_as_written(home: Home) -> None:
    written = Journal(active="b", slots={"b": Release.of(manifest("1.0.0"))})
    home.write_journal(written)
    assert home.journal() == written


def test_a_new_state_folder_has_an_empty_journal(home: Home) -> None:
    assert home.journal() == Journal()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"state": "probing"}', b'{"schema_version": 9}', b"\xff" * 99]
)
def test_a_damaged_journal_is_made_again_from_current(home: Home, damage: bytes) -> None:
    home.empty("b")
    home.seal("b", manifest("1.0.0"))
    home.switch("b")
    (home.path / "state.json").write_bytes(damage)
    recovered = home.journal()
    assert (recovered.state, recovered.active) == ("idle", "b")
    assert recovered.active_release == Release.of(manifest("1.0.0"))


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
def test_a_journal_that_cannot_be_read_is_an_error_and_not_a_new_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    home.write_journal(Journal(active="b", slots={"b": Release.of(manifest("1.0.0"))}))
    real = Path.open

    def failing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "state.json":
            raise OSError(error, os.strerror(error))
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", failing)
    kind = StoreError if error == errno.EIO else ConfigurationError
    with pytest.raises(kind, match="cannot be read") as caught:
        home.journal()
    assert "nothing was changed" in caught.value.hint


@pytest.mark.parametrize("moment", ["made", "moved away"])
def test_a_replacement_that_a_kill_left_is_adopted_at_the_next_start(
    home: Home, moment: str
) -> None:
    home.empty("a")
    home.tree("a").mkdir()
    (home.tree("a") / "file").write_bytes(b"damaged")
    home.replacement("a").mkdir()
    (home.replacement("a") / "file").write_bytes(b"whole")
    if moment == "moved away":
        shutil.rmtree(home.tree("a"))
    home.clean()
    assert (home.tree("a") / "file").read_bytes() == b"whole"
    assert not home.replacement("a").exists()
    assert not list(home.tmp.iterdir())


def test_current_never_names_a_slot_that_is_not_sealed_after_recovery(home: Home) -> None:
    home.empty("a")
    home.switch("a")
    assert home.journal() == Journal()


def test_switch_replaces_the_link_and_leaves_nothing_beside_it(home: Home) -> None:
    home.switch("a")
    home.switch("b")
    assert home.current() == "b"
    assert (home.path / "current").readlink() == Path("slots/b")
    assert not list(home.path.glob(".current*"))


@pytest.mark.parametrize("target", ["slots/c", "/etc", ""])
def test_current_that_points_elsewhere_is_no_slot(home: Home, target: str) -> None:
    if target:
        (home.path / "current").symlink_to(target)
    assert home.current() is None


def test_empty_keeps_the_old_content_as_a_seed_only(home: Home) -> None:
    home.empty("a")
    home.tree("a").mkdir()
    (home.tree("a") / "file").write_bytes(b"old")
    home.seal("a", manifest("1.0.0"))
    [seed] = home.empty("a")
    assert (seed / "file").read_bytes() == b"old"
    assert home.manifest("a") is None
    assert not home.tree("a").exists()
    home.clean()
    assert not seed.exists()


def test_a_slot_that_was_emptied_is_restored_whole_and_what_was_fetched_stays(home: Home) -> None:
    home.empty("a")
    for name in ("tree", "proofs", "engine"):
        (home.slot("a") / name).mkdir()
        (home.slot("a") / name / "file").write_text(f"old {name}")
    home.seal("a", manifest("1.0.0"), b"digests")
    home.empty("a")
    for name in ("tree", "proofs", ".tree.parts"):
        (home.slot("a") / name).mkdir()
        (home.slot("a") / name / "file").write_text("new")
    assert home.restore("a")
    assert home.manifest("a") == manifest("1.0.0")
    assert home.tree_document("a") == b"digests"
    for name in ("tree", "proofs", "engine"):
        assert (home.slot("a") / name / "file").read_text() == f"old {name}"
    assert not list(home.tmp.iterdir())
    home.empty("b")  # the slot that the next fetch fills, once the device went back to a
    assert (home.slot("b") / ".tree.parts" / "file").read_text() == "new"
    assert not (home.slot("a") / ".tree.parts").exists()


def test_what_was_not_complete_or_is_gone_is_not_restored(home: Home) -> None:
    home.empty("a")
    home.tree("a").mkdir()
    home.empty("a")
    assert not home.restore("a")
    home.seal("a", manifest("1.0.0"))
    home.empty("a")
    home.forget("a")
    assert not home.restore("a")
    assert home.manifest("a") is None


def test_a_damaged_manifest_makes_a_slot_incomplete(home: Home) -> None:
    home.empty("a")
    (home.slot("a") / "manifest.json").write_bytes(b"{}")
    assert home.manifest("a") is None


def test_a_second_agent_is_refused_and_told_who_the_first_is(home: Home) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert home.holder() == other.pid
        with pytest.raises(UsageError, match=rf"process {other.pid}") as caught, home.locked():
            pass
        assert caught.value.exit_code == 2
    finally:
        other.kill()
        other.communicate()
    assert home.holder() is None
    with home.locked():
        assert home.holder() == os.getpid()


def test_a_device_that_is_not_set_up_says_how(home: Home) -> None:
    with pytest.raises(ConfigurationError, match="is not set up") as caught:
        home.provisioned()
    assert caught.value.exit_code == 3
    needed = {option.opts[0] for option in provision.params if option.required}
    assert {*needed, "--state"} <= set(caught.value.hint.split())


def test_provisioned_comes_back_as_written(home: Home) -> None:
    device = Provisioned(store_url="file:///s", name="llm", channel="stable")
    home.provision(device, b"root")
    assert home.provisioned() == (device, b"root")


def test_a_state_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    home = Home(tmp_path / "file" / "state")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        home.write_journal(Journal())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root in somebody's folder")
def test_root_leaves_nothing_in_a_folder_of_somebody_else(home: Home) -> None:
    with home.locked():
        pass  # root in its own folder
    os.chown(home.path, 65532, 65532)
    (home.path / "lock").unlink()
    with pytest.raises(UsageError, match="belongs to") as caught, home.locked():
        pass
    assert "sudo -u '#65532' forge device …" in caught.value.hint
    assert caught.value.exit_code == 2
    assert not (home.path / "lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root in somebody's folder")
def test_root_asks_nothing_of_the_device_of_somebody_else(home: Home) -> None:
    held = Release.of(manifest("1.1.0"))
    why = Verdict(release=held, reason="slow", at="2026-11-24T00:00:00Z")
    home.write_journal(Journal(held=why))
    os.chown(home.path, 65532, 65532)
    with pytest.raises(UsageError, match="belongs to"):
        upkeep.release(home.path, say=lambda _text: None)
    assert not (home.path / "asked.json").exists()
