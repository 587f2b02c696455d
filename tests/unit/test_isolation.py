"""What tests/conftest.py promises to every test, and that it holds on an odd machine."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from forge.device.telemetry.logs import configure
from tests.support import time_limit
from tests.support.isolation import logging_restored
from tests.support.spawn import Spawn, spawning

ROOT = Path(__file__).resolve().parents[2]
ODD = """
import os, signal, sys
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.umask(0o777)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"])
def test_a_child_of_a_test_ignores_and_blocks_no_signal(name: str) -> None:
    program = f"""
import os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL) if {name!r} == "SIGINT" else None
os.kill(os.getpid(), signal.{name})
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -getattr(signal, name)
    ignored = [sys.executable, "-c", f"import signal; print(signal.getsignal(signal.{name}))"]
    shown = subprocess.run(ignored, check=True, capture_output=True, text=True).stdout
    assert "SIG_IGN" not in shown


def test_a_new_file_can_be_read_by_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_locale_zone_and_terminal_are_the_same_everywhere() -> None:
    assert time.tzname == ("UTC", "UTC")
    assert (os.environ["LC_ALL"], os.environ.get("COLUMNS")) == ("C.UTF-8", None)
    argv = [sys.executable, "-c", "print('\u00e9')"]
    assert subprocess.run(argv, check=True, capture_output=True).stdout == b"\xc3\xa9\n"


def test_no_setting_of_forge_or_of_a_cloud_is_inherited() -> None:
    allowed = ("FORGE_FAULTS_", "FORGE_TEST_", "FORGE_STRESS_", "FORGE_D", "AWS_EC2_METADATA_")
    found = [name for name in os.environ if name.startswith(("FORGE_", "AWS_", "XDG_"))]
    assert [name for name in found if not name.startswith(allowed)] == []


def test_home_and_the_temporary_folder_are_of_this_session(tmp_path: Path) -> None:
    assert Path(tempfile.gettempdir()) == Path(os.environ["TMPDIR"])
    assert os.environ["HOME"] == str(Path.home())
    for folder in (Path.home(), Path(tempfile.gettempdir())):
        assert folder.parent.name == "session"
        assert folder.parent.parent in tmp_path.parents


@pytest.mark.timeout(120)
def test_all_of_this_holds_on_an_odd_machine(spawn: Spawn, tmp_path: Path) -> None:
    odd = {
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "mine",
        "FORGE_STORE": "s3://mine",
        "LC_ALL": "C",
        "TMPDIR": str(tmp_path / "missing"),
        "TZ": "Pacific/Kiritimati",
    }
    argv = [sys.executable, "-c", ODD, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    argv += [f"--basetemp={tmp_path / 'base'}", "-k", "not odd_machine"]
    child = spawn(argv, cwd=ROOT, env=odd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = child.communicate(timeout=100)
    assert child.returncode == 0, said.decode()


def test_a_process_that_a_test_forgot_ends_with_it_and_its_pipes_are_closed() -> None:
    program = "import time; print('up', flush=True); time.sleep(300)"
    pipe = subprocess.PIPE
    with spawning() as spawn:
        child = spawn([sys.executable, "-c", program], stdin=pipe, stdout=pipe)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
    assert child.returncode == -signal.SIGKILL
    assert child.stdin.closed
    assert child.stdout.closed


def test_a_child_of_a_test_has_no_terminal_width() -> None:
    program = "import os; print(os.environ.get('COLUMNS'), os.environ.get('LINES'))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert said.stdout.split() == [b"None", b"None"]


def test_logging_that_a_command_set_up_in_this_process_is_undone() -> None:
    root, ours = logging.getLogger(), logging.getLogger("forge")
    before = (root.handlers[:], root.level, ours.level)
    with logging_restored():
        configure(level="debug")
        assert (root.handlers[:], root.level, ours.level) != before
    assert (root.handlers[:], root.level, ours.level) == before


@pytest.mark.parametrize(
    ("until", "reached"), [(None, False), ("", False), ("1", True), ("99999999999", False)]
)
def test_tests_end_at_the_time_that_ci_sets(
    monkeypatch: pytest.MonkeyPatch, until: str | None, reached: object
) -> None:
    monkeypatch.delenv("FORGE_TEST_UNTIL", raising=False)
    if until is not None:
        monkeypatch.setenv("FORGE_TEST_UNTIL", until)
    assert time_limit.reached() is reached
