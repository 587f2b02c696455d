"""What contains a model server: what is judged, and the command that puts it on."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from forge.errors import ContainmentUnknownError
from forge.serving.triton import containment
from forge.serving.triton.containment import (
    MECHANISMS,
    OFF,
    WRITE,
    Containment,
    Needs,
    available,
    contained,
    hidden_from,
    judge,
)

ALL = Containment(in_force=MECHANISMS)
NEEDS = Needs((Path("/slot"),), (Path("/work/tmp"),), listen="forge-x", ports=(8000, 8002))


def options(argv: list[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(argv[argv.index("--") - 1])
    return found


def test_a_machine_that_has_everything() -> None:
    assert judge(7, "", "") == ALL


@pytest.mark.parametrize(
    ("landlock", "network", "processes", "missing"),
    [
        (0, "", "", {"files"}),
        (0, "no", "no", {"files", "signals", "network", "processes"}),
        (5, "", "no", {"signals", "processes"}),
        (5, "", "", set()),  # the PID namespace keeps signals inside
        (6, "no", "no", {"network", "processes"}),
    ],
)
def test_what_a_machine_lacks_is_named_with_its_reason(
    landlock: int, network: str, processes: str, missing: set[str]
) -> None:
    found = judge(landlock, network, processes)
    assert set(found.missing) == missing
    assert all(found.missing.values())
    assert set(found.in_force) == set(MECHANISMS) - missing


@pytest.mark.parametrize("landlock", [0, 1, 2, 3, 7])
def test_a_landlock_that_does_not_stop_emptying_files_is_named(landlock: int) -> None:
    found = judge(landlock, "", "")
    assert found.has("files") is (landlock > 0)
    assert ("truncate" in found.missing) is (landlock in {1, 2})
    if landlock in {1, 2}:
        assert f"this kernel has {landlock}" in found.missing["truncate"]


def test_an_operator_leaves_mechanisms_out_and_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "_probed", lambda: ALL)
    found = available({OFF: "network"})
    assert found.in_force == ("privileges", "files", "signals")
    assert found.missing == dict.fromkeys(("network", "processes"), f"{OFF}=network")
    assert available({OFF: "all"}).in_force == ()
    assert available({}) == ALL


def test_nothing_in_force_changes_no_command() -> None:
    assert contained(["triton", "-x"], NEEDS, Containment()) == ["triton", "-x"]
    assert hidden_from(["cc"], [Path("/keys")], Containment()) == ["cc"]


def test_the_program_and_its_needs_stand_in_the_command() -> None:
    argv = contained(["triton", "--", "-x"], NEEDS, ALL, {})
    assert argv[argv.index("--") + 1 :] == ["triton", "--", "-x"]
    found = options(argv)
    assert "/slot" in found["read"]  # type: ignore[operator]
    assert found["write"] == ["/dev/shm", "/work/tmp"]  # noqa: S108
    assert (found["network"], found["processes"], found["ports"]) == (True, True, [8000, 8002])


@pytest.mark.parametrize("secret", ["/etc", "/var", "/home", "/root", "/run", "/tmp", "/", "/dev"])  # noqa: S108
def test_no_folder_with_secrets_is_readable_as_a_whole(secret: str) -> None:
    found = options(contained(["triton"], NEEDS, ALL, {}))
    for kind in ("read", "write", "devices"):
        assert secret not in found[kind]  # type: ignore[operator]


def test_a_server_on_a_port_of_this_machine_keeps_its_network() -> None:
    needs = Needs(NEEDS.read, NEEDS.write, ports=(8000, 8002))
    found = options(contained(["triton"], needs, ALL, {}))
    assert (found["files"], found["network"], found["processes"]) == (True, False, False)


def test_further_folders_are_absolute_paths_only() -> None:
    found = options(contained(["triton"], NEEDS, ALL, {WRITE: "/cache:relative:"}))
    assert found["write"] == ["/dev/shm", "/work/tmp", "/cache"]  # noqa: S108


# Run as an ordinary user: root may read everything. A change of user hides a process too: undone.
HIDDEN = """
import ctypes, json, os, subprocess
from pathlib import Path
from forge.serving.triton.containment import hide_from_others
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
def other(name):
    command = f"cat /proc/{os.getpid()}/{name} > /dev/null"
    return subprocess.run(["/bin/sh", "-c", command], cwd="/", stderr=subprocess.DEVNULL).returncode
before = other("environ")
hide_from_others()
own = [len(list(Path("/proc/self/fd").iterdir())) > 0, bool(Path("/proc/self/status").read_text())]
print(json.dumps([before, other("environ"), other("maps"), other("stat"), other("cmdline"), own]))
"""


def test_an_agent_hides_its_variables_and_memory_and_still_sees_itself() -> None:
    """What others need to find the agent stays: its command line and when it began."""
    argv = [sys.executable, "-c", HIDDEN]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [0, 1, 1, 0, 0, [True, True]]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the probe answer in turn, of a process that has asked nothing yet."""
    monkeypatch.setattr(containment, "_memory", containment._Memory())

    def answers(*given: Containment | BaseException | tuple[int, str]) -> None:
        left = list(given)

        def run(*_: object, **__: object) -> subprocess.CompletedProcess[bytes]:
            one = left.pop(0)
            if isinstance(one, BaseException):
                raise one
            if isinstance(one, tuple):
                return subprocess.CompletedProcess([], one[0], b"", one[1].encode())
            found = {
                "landlock": 7 if one.has("files") else 0,
                "network": one.missing.get("network", ""),
                "processes": one.missing.get("processes", ""),
            }
            return subprocess.CompletedProcess([], 0, json.dumps(found).encode(), b"")

        monkeypatch.setattr(subprocess, "run", run)

    return answers


UNKNOWN = [
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    subprocess.TimeoutExpired("probe", 30),
    (125, "The probe failed: [Errno 12] Cannot allocate memory"),
    (1, "Traceback\nMemoryError"),
    (-9, ""),
]


@pytest.mark.parametrize("failure", UNKNOWN, ids=str)
def test_a_probe_that_failed_is_unknown_and_asked_again(
    probe: Callable[..., None], failure: BaseException | tuple[int, str]
) -> None:
    probe(failure, failure, ALL)
    for _ in range(2):
        with pytest.raises(ContainmentUnknownError) as caught:
            available({})
        assert caught.value.exit_code == 5
        assert caught.value.why
        assert caught.value.hint
    assert available({}) == ALL
    assert available({}) == ALL  # from memory: the probe has no further answer


def test_a_machine_that_cannot_be_asked_serves_where_the_operator_wants_no_containment(
    probe: Callable[..., None],
) -> None:
    probe()  # any question is an IndexError
    assert available({OFF: "all"}).in_force == ()


@pytest.mark.parametrize("later", [judge(0, "no", "no"), *UNKNOWN], ids=str)
def test_what_was_in_force_once_is_not_dropped_because_a_program_ended_with_the_sandboxs_code(
    probe: Callable[..., None], later: Containment | BaseException | tuple[int, str]
) -> None:
    probe(ALL, later)
    assert available({}) == ALL
    containment.forget()
    assert available({}) == ALL


def test_what_a_machine_allows_since_then_is_added(probe: Callable[..., None]) -> None:
    probe(judge(7, "no", "no"), judge(0, "", "not yet"), ALL)
    assert not available({}).has("network")
    containment.forget()
    assert available({}).in_force == ("privileges", "files", "signals", "network")
    assert available({}).missing == {"processes": "no"}
    containment.forget()
    assert available({}) == ALL
