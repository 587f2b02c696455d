"""How much memory is left in a machine and its control groups, as Forge and its tools read it."""

from __future__ import annotations

from pathlib import Path

import pytest
import room
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forge.available_memory import available_mib

MIB = 2**20
UNLIMITED_1 = "9223372036854771712"


class Machine:
    """Files of /proc and /sys/fs/cgroup below a folder."""

    def __init__(self, folder: Path, available_mib: int | None, cgroup: str | None) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        if available_mib is not None:
            text = f"MemTotal: 99 kB\nMemAvailable: {available_mib * 1024} kB\nHuge: x\n"
            (self.proc / "meminfo").write_text(text)
        if cgroup is not None:
            (self.proc / "self" / "cgroup").write_text(cgroup)

    def version_2(self, path: str, limit: str, used_mib: int, cached_mib: int = 0) -> None:
        self._write(self.groups / path, "memory.max", "memory.current", limit, used_mib)
        text = f"anon 5\ninactive_file {cached_mib * MIB}\nactive_file {7 * MIB}\n"
        (self.groups / path / "memory.stat").write_text(text)

    def version_1(self, path: str, limit: str, used_mib: int, cached_mib: int = 0) -> None:
        folder = self.groups / "memory" / path
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        self._write(folder, *names, limit, used_mib)
        text = f"inactive_file 3\ntotal_inactive_file {cached_mib * MIB}\n"
        (folder / "memory.stat").write_text(text)

    def _write(self, folder: Path, most: str, now: str, limit: str, used_mib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / most).write_text(f"{limit}\n")
        (folder / now).write_text(f"{used_mib * MIB}\n")

    def left(self, monkeypatch: pytest.MonkeyPatch) -> int | None:
        """What both say, which must be the same."""
        monkeypatch.setattr(room, "PROC", self.proc)
        monkeypatch.setattr(room, "CGROUP", self.groups)
        found = available_mib(self.proc, self.groups)
        assert found == room.available_memory_mib()
        return found


def mib(count: int) -> str:
    return str(count * MIB)


def test_machine_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine(tmp_path / "a", 1000, None).left(monkeypatch) == 1000
    assert Machine(tmp_path / "b", None, None).left(monkeypatch) is None


def test_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, 1000, "0::/\n")
    machine.version_2("", mib(500), used_mib=300, cached_mib=100)
    assert machine.left(monkeypatch) == 300


def test_tightest_group_above_a_service_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, 1000, "0::/system.slice/forge.service\n")
    machine.version_2("system.slice/forge.service", mib(900), used_mib=10)
    machine.version_2("system.slice", mib(400), used_mib=50)
    machine.version_2("", "max", used_mib=0)
    machine.version_2("user.slice", mib(1), used_mib=0)  # another one's
    assert machine.left(monkeypatch) == 350


def test_version_1_counts_at_its_path_and_at_the_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container of version 1 sees its own group at the mount, under the path of the host."""
    machine = Machine(tmp_path, 1000, "9:cpu:/\n4:memory,x:/docker/abc\n0::/\n")
    machine.version_1("", mib(600), used_mib=500, cached_mib=20)
    assert machine.left(monkeypatch) == 120
    machine.version_1("docker/abc", mib(600), used_mib=580)
    assert machine.left(monkeypatch) == 20
    machine.version_1("", UNLIMITED_1, used_mib=500)
    machine.version_1("docker/abc", UNLIMITED_1, used_mib=580)
    assert machine.left(monkeypatch) == 1000


def test_group_that_uses_more_than_its_limit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, 1000, "0::/a\n")
    machine.version_2("a", mib(10), used_mib=20)
    assert machine.left(monkeypatch) == 0


@pytest.mark.parametrize("text", ["", "x", "-", "1 2", "\n\n", "0::", "a:b", "0::/../../x\n"])
def test_damaged_files_are_as_if_they_were_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    machine = Machine(tmp_path, 1000, text)
    machine.version_2("", "max" if text else "?", used_mib=0)
    (machine.groups / "memory.stat").write_text(text)
    assert machine.left(monkeypatch) == 1000


@given(
    available=st.none() | st.integers(0, 10**6),
    groups=st.lists(
        st.tuples(st.none() | st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
        min_size=1, max_size=3,
    ),
    old=st.booleans(),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_least_of_all_amounts_is_left(
    tmp_path_factory: pytest.TempPathFactory,
    available: int | None,
    groups: list[tuple[int | None, int, int]],
    old: bool,  # noqa: FBT001
) -> None:
    path = "/".join("abc"[: len(groups) - 1])
    line = f"4:memory:/{path}\n" if old else f"0::/{path}\n"
    machine = Machine(tmp_path_factory.mktemp("machine"), available, line)
    amounts = [] if available is None else [available]
    for depth, (limit, used, cached) in enumerate(groups):
        none = UNLIMITED_1 if old else "max"
        write = machine.version_1 if old else machine.version_2
        write("/".join("abc"[:depth]), none if limit is None else mib(limit), used, cached)
        if limit is not None:
            amounts.append(max(0, limit - used + cached))
    with pytest.MonkeyPatch.context() as patch:
        assert machine.left(patch) == min(amounts, default=None)
