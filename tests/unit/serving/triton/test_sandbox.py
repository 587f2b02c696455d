"""The sandbox's own program; what it refuses is in tests/faults/test_containment.py."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.serving.triton import sandbox


def run(options: dict[str, object], *program: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-I", sandbox.__file__, json.dumps(options), "--", *program]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_everything_but_the_hidden_is_allowed_and_what_is_above_is_only_listed(
    tmp_path: Path,
) -> None:
    for name in ("a/keys/old", "a/other", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "a" / "keys")
    above, rest = sandbox._all_but([str(tmp_path / "a" / "keys")])
    assert {"/", str(tmp_path), str(tmp_path / "a")} <= set(above)
    below = {one for one in rest if one.startswith(str(tmp_path))}
    assert below == {str(tmp_path / "a" / "other"), str(tmp_path / "b")}


def test_a_hidden_folder_below_a_hidden_one_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys" / "old").mkdir(parents=True)
    (tmp_path / "keys" / "root.pem").touch()
    hidden = [str(tmp_path / "keys"), str(tmp_path / "keys" / "old")]
    above, rest = sandbox._all_but(hidden)
    assert not [one for one in (*above, *rest) if one.startswith(str(tmp_path / "keys"))]


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_programs(code: int) -> None:
    assert run({}, "sh", "-c", f"exit {code}").returncode == code


def test_a_program_that_is_missing_is_named() -> None:
    done = run({}, "forge-no-such-program")
    assert done.returncode == sandbox.NOT_FOUND
    assert "forge-no-such-program cannot be started" in done.stderr


def test_an_option_that_cannot_be_put_on_ends_with_its_own_code() -> None:
    done = run({"network": True, "listen": "x" * 200}, "true")  # too long for a socket's name
    assert done.returncode == sandbox.FAILED
    assert "The sandbox cannot be put on" in done.stderr


def test_the_probe_prints_what_this_machine_allows() -> None:
    argv = [sys.executable, "-I", sandbox.__file__, "--probe"]
    found = json.loads(subprocess.check_output(argv))
    assert set(found) == {"landlock", "network", "processes"}
    assert found["landlock"] == max(0, sandbox.landlock_abi())


def failing(number: int) -> Callable[[], None]:
    def work() -> None:
        raise OSError(number, os.strerror(number))

    return work


NOT_ALLOWED = ("ENOSYS", "EPERM", "EACCES", "EOPNOTSUPP", "EINVAL")


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_what_the_kernel_forbids_or_does_not_have_is_missing(name: str) -> None:
    number = getattr(errno, name)
    assert sandbox._tried(failing(number)) == os.strerror(number)


def test_what_works_is_there() -> None:
    assert sandbox._tried(lambda: None) == ""


@pytest.mark.parametrize("name", ["EAGAIN", "ENOMEM", "EMFILE", "ENOSPC", "EIO", "EBUSY"])
def test_what_failed_for_another_reason_is_not_missing_but_unknown(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max_user_namespaces").write_text("10\n")  # reached now, not none at all
    monkeypatch.setattr(sandbox, "LIMITS", str(tmp_path))
    with pytest.raises(OSError, match=r".") as caught:
        sandbox._tried(failing(getattr(errno, name)))
    assert caught.value.errno == getattr(errno, name)


def test_a_limit_of_no_namespaces_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max_user_namespaces").write_text("10\n")
    (tmp_path / "max_net_namespaces").write_text("0\n")
    monkeypatch.setattr(sandbox, "LIMITS", str(tmp_path))
    assert sandbox._tried(failing(errno.ENOSPC)) == os.strerror(errno.ENOSPC)


def test_a_process_of_the_probe_that_was_killed_says_nothing() -> None:
    with pytest.raises(OSError, match="was killed"):
        sandbox._tried(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_a_probe_that_failed_prints_no_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sandbox, "isolate", lambda **_: failing(errno.ENOMEM)())
    assert sandbox.main(["--probe"]) == sandbox.FAILED
    found = capsys.readouterr()
    assert found.out == ""
    assert os.strerror(errno.ENOMEM) in found.err


def test_the_user_as_whom_the_kernel_shows_unknown_users_has_no_network_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else any local user could ask the sandbox for a connection."""
    monkeypatch.setattr(sandbox, "isolate", lambda **_: None)
    monkeypatch.setattr(sandbox, "_isolate_with_proc", lambda: None)
    (tmp_path / "overflowuid").write_text(f"{os.geteuid()}\n")
    assert (sandbox.probe()["network"], sandbox.probe()["processes"]) == ("", "")
    monkeypatch.setattr(sandbox, "OVERFLOW_USER", str(tmp_path / "overflowuid"))
    found = sandbox.probe()
    assert f"this is user {os.geteuid()}" in str(found["network"])
    assert found["processes"] == found["network"]
    monkeypatch.setattr(sandbox, "OVERFLOW_USER", str(tmp_path / "none"))
    assert sandbox.probe()["network"] == ""
