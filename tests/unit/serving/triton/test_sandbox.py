"""The sandbox's own program; what it refuses is in tests/faults/test_containment.py."""

from __future__ import annotations

import json
import subprocess
import sys
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
