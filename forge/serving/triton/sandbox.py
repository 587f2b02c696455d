"""Run a program in a sandbox: standard library only, own process.

    python -I sandbox.py OPTIONS -- PROGRAM ARGUMENTS…    OPTIONS: JSON, see SandboxOptions
    python -I sandbox.py --probe                          prints what this machine allows, as JSON

The program gets no new privileges, writes no core file, and, by Landlock, opens only what the
options name; it cannot trace a process outside, nor (Landlock 6) send it a signal. With `network`
it has a network namespace of its own with nothing but a loopback, with `processes` a PID namespace
with its own /proc and /dev/shm too. Then this process stays next to it, in the network namespace:

    agent ──── Unix socket @NAME ────  this process ──connect──  127.0.0.1:PORT of the program
          port →       ← descriptor

It connects for every caller of the same user and passes the connected socket back, so that no
other process of the machine can reach the program's ports and no byte takes a detour.

    this process      in the new namespaces, but for the PID namespace
      └ init          first process of the PID namespace: when it ends, the kernel kills the rest
          └ PROGRAM   restricted by Landlock, which protects the two above from it, too

A step that cannot be done ends the process with status 125 and a line on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import PurePath

FAILED = 125
NOT_PUT_ON = "The sandbox cannot be put on"  # what it then writes
NOT_FOUND = 127
NAME = "forge-sandbox"  # of this process and the init; they are not counted as the program's

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_SLAVE = 2, 4, 8, 0x1000, 0x4000, 0x80000
PR_SET_PDEATHSIG, PR_SET_NAME, PR_CAPBSET_DROP = 1, 15, 24
PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 28, 38
# CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON: with the last two one reads other processes' memory
# and Landlock does not say no (kernel/fork.c, may_access_mm).
_BEYOND_LANDLOCK = (19, 21, 38)
# SECBIT_NOROOT, SECBIT_NO_SETUID_FIXUP and their locks: user 0 is a user like any other.
_SECUREBITS = 0b1111
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
# The same numbers on x86_64 and arm64.
SYS_CREATE_RULESET, SYS_ADD_RULE, SYS_RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION, RULE_PATH_BENEATH = 1, 1
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1, 2
SCOPE_ABI = 6
# linux/landlock.h: EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_… MAKE_…; then those of ABI 2,
# 3 and 5: REFER, TRUNCATE, IOCTL_DEV.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_REMOVE_DIR, _MAKE_DIR = 1 << 4, 1 << 7
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
# What the kernel, or what confines this process, answers to what it does not offer or forbids.
_NOT_ALLOWED = (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL)
OVERFLOW_USER = "/proc/sys/kernel/overflowuid"
LIMITS = "/proc/sys/user"
_ANSWER_S = 1.0
_BACKLOG = 128
PRIVATE_BYTES = 256 * 1024 * 1024
PORT = struct.Struct("=H")

libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class SandboxOptions:
    """What is put on.

    Attributes:
        files: whether Landlock restricts it to `read`, `write` and `devices`, or to all but
            `hidden`.
        hidden: files and folders that it may not open; used alone, for a step of a release.
        capabilities: whether it keeps those of its user, less those that Landlock does not stop.
        read: files and folders that it may read and execute.
        write: folders in which it may do everything.
        scratch: folders in which it may make and remove folders: Triton makes one in /tmp.
        private: folders that are empty and bounded for it, but for what is in `read` and `write`;
            needs `processes`. What is not there has no Unix socket to connect to either.
        devices: device files and folders that it may read, write and control.
        network: whether it gets a network namespace.
        processes: whether it gets a PID namespace, too; needs `network`.
        listen: abstract Unix socket on which connected sockets are requested.
        ports: TCP ports to which they may be connected.
    """

    files: bool = False
    hidden: list[str] = dataclasses.field(default_factory=list)
    capabilities: bool = False
    read: list[str] = dataclasses.field(default_factory=list)
    write: list[str] = dataclasses.field(default_factory=list)
    scratch: list[str] = dataclasses.field(default_factory=list)
    private: list[str] = dataclasses.field(default_factory=list)
    devices: list[str] = dataclasses.field(default_factory=list)
    network: bool = False
    processes: bool = False
    listen: str = ""
    ports: list[int] = dataclasses.field(default_factory=list)


def main(argv: list[str]) -> int:
    """Run the program in the sandbox; return its exit code, or 128 + signal."""
    if argv == ["--probe"]:
        return _print_probe()
    options, program = SandboxOptions(**json.loads(argv[0])), argv[2:]
    try:
        if not options.network:
            start(options, program)
        return _beside(options, program)
    except OSError as error:
        sys.stderr.write(f"{NOT_PUT_ON}: {error}\n")
        return FAILED


def _print_probe() -> int:
    try:
        sys.stdout.write(json.dumps(probe()) + "\n")
    except OSError as error:
        sys.stderr.write(f"The probe failed: {error}\n")
        return FAILED
    return 0


def probe() -> dict[str, int | str]:
    """Return the version of Landlock, 0 if there is none, and why namespaces cannot be had.

    Raises:
        OSError: that cannot be found out now, for lack of memory or processes, say.
    """
    abi = landlock_abi()
    if abi < 0 and (number := ctypes.get_errno()) not in _NOT_ALLOWED:
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    network = _nobody() or _tried(lambda: isolate(processes=False))
    processes = network or _tried(_isolate_with_proc)
    return {"landlock": max(abi, 0), "network": network, "processes": processes}


def _nobody() -> str:
    """Return why callers cannot be told apart; empty if they can.

    The kernel shows every user that a user namespace does not know as its overflow user.
    """
    try:
        with open(OVERFLOW_USER, encoding="ascii") as file:  # noqa: PTH123
            overflow = int(file.read())
    except FileNotFoundError:  # this kernel has no user namespaces either
        return ""
    if os.geteuid() != overflow:
        return ""
    return f"this is user {overflow}, by which the kernel shows every user it cannot name"


def landlock_abi() -> int:
    """Return the version of Landlock of this kernel; -1 if it is not there or not enabled."""
    return int(libc.syscall(SYS_CREATE_RULESET, None, 0, CREATE_RULESET_VERSION))


def isolate(*, processes: bool) -> None:
    """Move this process into namespaces of its own, in which it is the same user.

    Raises:
        OSError: the kernel, or what confines this process, does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    flags = CLONE_NEWUSER | CLONE_NEWNET | (CLONE_NEWPID | CLONE_NEWNS if processes else 0)
    _check(libc.unshare(flags), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(line)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loopback:
        request = struct.pack("16sh14x", b"lo", IFF_UP)
        fcntl.ioctl(loopback, SIOCSIFFLAGS, request)
    if processes:
        _mount(None, "/", None, MS_REC | MS_SLAVE)
        _mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV)  # noqa: S108


def _empty(folder: str, kept: list[str]) -> None:
    """Cover a folder by an empty one, in which only the kept paths are shown. Raises OSError."""
    if not os.path.isdir(folder) or any(f"{folder}/".startswith(f"{one}/") for one in kept):  # noqa: PTH112
        return
    here = os.getcwd()  # noqa: PTH109
    shown = [path for path in kept if path.startswith(f"{folder}/") and os.path.exists(path)]  # noqa: PTH110
    held = [(path, os.open(path, os.O_PATH)) for path in shown]
    _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={PRIVATE_BYTES}")
    for path, descriptor in held:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            os.makedirs(path, exist_ok=True)  # noqa: PTH103
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        _mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | MS_REC)
        os.close(descriptor)
    os.chdir(here)


def start(options: SandboxOptions, program: list[str]) -> None:
    """Restrict this process and become the program. Raises OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Both fail for a user who has no capability.
    for capability in _BEYOND_LANDLOCK:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if not options.capabilities:
        libc.prctl(PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    if options.files:
        restrict_files(options)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{program[0]} cannot be started: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND)


def restrict_files(options: SandboxOptions) -> None:
    """Let this process and its children open only what the options name. Raises OSError."""
    abi = landlock_abi()
    handled = _ABI_1
    handled |= _REFER if abi >= 2 else 0  # noqa: PLR2004
    handled |= _TRUNCATE if abi >= 3 else 0  # noqa: PLR2004
    handled |= _IOCTL_DEV if abi >= 5 else 0  # noqa: PLR2004
    attributes = struct.pack("=Q", handled)
    if abi >= SCOPE_ABI:
        attributes += struct.pack("=QQ", 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL)
    ruleset = libc.syscall(SYS_CREATE_RULESET, attributes, len(attributes), 0)
    _check(ruleset, "landlock_create_ruleset")
    above, rest = _all_but(options.hidden) if options.hidden else ([], [])
    for paths, rights in (
        (above, _READ_DIR),
        (rest, handled),
        (options.read, _READ),
        (options.devices, _READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV),
        (options.scratch, _READ_DIR | _MAKE_DIR | _REMOVE_DIR),
        (options.write, handled),
    ):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    _check(libc.syscall(SYS_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _all_but(hidden: list[str]) -> tuple[list[str], list[str]]:
    """Return the folders above the hidden paths, and everything else that is in them now.

    Landlock only allows. What is made in the folders above later cannot be opened, nor can the
    program make anything there. A link is left out, because what it points to may be hidden.
    """
    above = {str(folder) for one in hidden for folder in PurePath(one).parents}
    above -= {one for one in above for secret in hidden if f"{one}/".startswith(f"{secret}/")}
    rest = []
    for folder in above:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            rest += [
                one.path
                for one in entries
                if one.path not in above and one.path not in hidden and not one.is_symlink()
            ]
    return sorted(above), rest


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Allow access below a path; one that does not exist is left out."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rule = struct.pack("=Qi", rights if folder else rights & _OF_FILES, descriptor)
        done = libc.syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0)
        _check(done, f"landlock_add_rule {path}")
    finally:
        os.close(descriptor)


def _beside(options: SandboxOptions, program: list[str]) -> int:
    """Start the program in new namespaces and hand out connections until it ends."""
    parent = os.getppid()
    _rename()
    # The name is that of the network namespace in which the socket is made: the agent's.
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(f"\0{options.listen}")
    listening.listen(_BACKLOG)
    isolate(processes=options.processes)
    _die_with(parent)
    kept = [*options.read, *options.write, *options.devices]
    for folder in options.private if options.processes else []:
        _empty(folder, kept)
    init = os.fork()
    if init == 0:
        listening.close()
        _init(options, program)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: _send(init, signal.SIGTERM))
    ended = os.pidfd_open(init)
    with listening:
        while True:
            readable, _, _ = select.select([listening.fileno(), ended], [], [])
            if ended in readable:
                return os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
            with contextlib.suppress(OSError):  # the caller has gone
                caller, _ = listening.accept()
                with caller:
                    _connect_for(caller, options.ports)


def _connect_for(caller: socket.socket, ports: list[int]) -> None:
    """Send a caller of this user a connected socket, others nothing."""
    caller.settimeout(_ANSWER_S)
    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    _, user, _ = struct.unpack("=iII", credentials)
    if user != os.geteuid():
        return
    asked = caller.recv(PORT.size)
    if len(asked) != PORT.size:  # it has gone
        return
    wanted = PORT.unpack(asked)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as inside:
        inside.settimeout(_ANSWER_S)
        code = inside.connect_ex(("127.0.0.1", wanted)) if wanted in ports else errno.EACCES
        descriptors = [] if code else [inside.fileno()]
        socket.send_fds(caller, [bytes([min(code, 255)])], descriptors)


def _init(options: SandboxOptions, program: list[str]) -> None:
    """Start the program and wait for it; ends this process."""
    try:
        _die_with(os.getppid())
        if options.processes:
            _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        blocked = {signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # until it can be passed on
        child = os.fork()
        if child == 0:
            _die_with(os.getppid())
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
            start(options, program)
        signal.signal(signal.SIGTERM, lambda *_: _send(child, signal.SIGTERM))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        while True:
            ended, status = os.wait()
            if ended == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(128 - code if code < 0 else code)
    except OSError as error:
        sys.stderr.write(f"{NOT_PUT_ON}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(FAILED)


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends. A change of user would undo it."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(FAILED)


def _rename() -> None:
    """Take the name by which a process is not counted as the program's, until it becomes it."""
    libc.prctl(PR_SET_NAME, NAME.encode(), 0, 0, 0)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _isolate_with_proc() -> None:
    isolate(processes=True)
    init = os.fork()
    if init == 0:
        try:
            _mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        except OSError as error:
            os._exit(error.errno or FAILED)
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]):
        raise OSError(code, f"mount /proc: {os.strerror(code)}")


def _tried(work: Callable[[], None]) -> str:
    """Return why work is not allowed, tried in a process of its own; empty if it is.

    Raises:
        OSError: it failed for another reason, or the process did not end by itself.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, b"0 ")
        except OSError as error:
            os.write(writing, f"{error.errno or -1} {error.strerror or error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as report:
        number, _, why = report.read().partition(" ")
    os.waitpid(child, 0)
    if number == "0":
        return ""
    if number and (int(number) in _NOT_ALLOWED or _is_limit_of_none(int(number))):
        return why
    raise OSError(int(number or -1), why or "a process of the probe was killed")


def _is_limit_of_none(number: int) -> bool:
    """Whether an error says that no namespace may be made, and not that too many exist now."""
    if number != errno.ENOSPC:
        return False
    limits = []
    for kind in ("user", "net", "pid", "mnt"):
        with contextlib.suppress(OSError), open(f"{LIMITS}/max_{kind}_namespaces") as file:  # noqa: PTH123
            limits.append(file.read().strip())
    return "0" in limits


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    given = [one and one.encode() for one in (source, target, kind, data)]
    done = libc.mount(*given[:3], ctypes.c_ulong(flags), given[3])
    _check(done, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
