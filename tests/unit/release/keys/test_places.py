"""Where the keys of a project are, and which folders are refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from forge.errors import ConfigurationError, ForgeError, UsageError
from forge.release.keys import places
from forge.release.keys.places import check_folder, default_folder, find_folder, missing_keys


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HOME": "/h"}, "/h/.config/forge/keys/my-release"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/c"}, "/c/forge/keys/my-release"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": ""}, "/h/.config/forge/keys/my-release"),
        # The XDG specification: a relative path is to be ignored.
        ({"HOME": "/h", "XDG_CONFIG_HOME": "c"}, "/h/.config/forge/keys/my-release"),
    ],
)
def test_default_folder_is_in_the_configuration_of_the_user(
    environment: dict[str, str], expected: str
) -> None:
    assert default_folder(Path("/work/my-release"), environment) == Path(expected)


def test_user_without_a_home_is_told_which_variable_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigurationError, match="no home folder") as caught:
        default_folder(Path("/work/p"), {})
    assert "FORGE_KEYS" in caught.value.hint


def test_folder_in_the_checkout_is_used_as_long_as_it_has_keys(tmp_path: Path) -> None:
    project, environment = tmp_path / "p", {"HOME": str(tmp_path / "home")}
    old, new = project / ".forge/keys", tmp_path / "home/.config/forge/keys/p"
    old.mkdir(parents=True)
    assert find_folder(project, environment) == places.KeysPlace(new, in_checkout=False)
    (old / "keys.json").write_text("{}")
    assert find_folder(project, environment) == places.KeysPlace(old, in_checkout=True)
    new.mkdir(parents=True)
    (new / "keys.json").write_text("{}")  # of another project with this name
    assert find_folder(project, environment).folder == old


def test_machine_without_keys_is_told_to_get_them_where_the_store_is_signed(tmp_path: Path) -> None:
    error = missing_keys(tmp_path, published=True)
    assert "keys init" not in str(error)
    assert "forge keys backup FILE" in error.hint
    assert f"forge keys restore FILE --keys {tmp_path}" in error.hint
    assert f"forge keys init --keys {tmp_path}" in missing_keys(tmp_path, published=False).hint


@pytest.mark.parametrize("folder", ["store", "store/keys", "store/a/b", "link"])
def test_folder_inside_the_store_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with pytest.raises(UsageError, match="Keys must not be inside the store") as caught:
        check_folder(tmp_path / folder, str(tmp_path / "store"))
    assert "outside" in caught.value.hint


@pytest.mark.parametrize("folder", ["keys", "store-keys", "a/b/c"])
def test_folder_outside_the_store_is_accepted(tmp_path: Path, folder: str) -> None:
    check_folder(tmp_path / folder, str(tmp_path / "store"))
    check_folder(tmp_path / folder)


def test_machine_without_git_tracks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check_folder(tmp_path / "keys")


def test_git_that_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(places, "_GIT_TIMEOUT_S", 0.01)
    with pytest.raises(ForgeError, match="git did not answer"):
        check_folder(tmp_path / "keys")


def checkout(folder: Path, ignored: str = "") -> Path:
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True, timeout=30)
    (folder / ".gitignore").write_text(ignored)
    return folder


@pytest.mark.parametrize("disposable", [False, True])
def test_folder_that_git_would_track_is_always_refused(tmp_path: Path, *, disposable: bool) -> None:
    folder = checkout(tmp_path / "p") / "deep/keys"
    with pytest.raises(UsageError, match="must not be tracked by git") as caught:
        check_folder(folder, disposable=disposable)
    assert "~/.config/forge/keys" in caught.value.hint
    assert not folder.exists()


def test_ignored_folder_of_a_checkout_is_for_keys_that_may_be_lost(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "p", "/deep/\n") / "deep/keys"
    with pytest.raises(UsageError, match="must not be in a checkout") as caught:
        check_folder(folder)
    assert "git clean" in caught.value.why
    assert "--disposable" in caught.value.hint
    check_folder(folder, disposable=True)
    folder.mkdir(parents=True)
    (folder / "online.pem").write_text("what the rule is about")
    subprocess.run(["git", "-C", str(tmp_path / "p"), "clean", "-qdfx"], check=True, timeout=30)
    assert not folder.exists()


def test_working_folder_of_forge_is_refused_without_git_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must not be in a checkout"):
        check_folder(tmp_path / ".forge/keys")
    check_folder(tmp_path / ".forge/keys", disposable=True)
    check_folder(tmp_path / ".forge-keys")


def test_home_folder_that_is_a_checkout_is_not_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = checkout(tmp_path / "home", "*\n")
    monkeypatch.setenv("HOME", str(home))
    check_folder(home / ".config/forge/keys/p")
    (home / ".gitignore").write_text("")
    with pytest.raises(UsageError, match="must not be tracked by git"):
        check_folder(home / ".config/forge/keys/p")
