"""The Dagger CLI and the address of an engine, up to a session."""

import asyncio
import importlib.metadata
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import graphql
import pytest

from forge.errors import EngineError, NoRunnerError
from forge.runners.dagger.session import (
    CLI,
    VERSION,
    _read,
    engine_version,
    find_cli,
    mismatch,
    probe,
    session,
)
from forge.runners.dagger.watch import Pace, until_lost
from tests.support.fake_dagger import DIES, FakeEngine, write_cli


@pytest.mark.parametrize("address", ["unix:///nowhere/e.sock", "tcp://127.0.0.1:1"])
def test_engine_out_of_reach_is_named_with_what_to_do(address: str) -> None:
    with pytest.raises(NoRunnerError) as caught:
        probe(address)
    assert caught.value.exit_code == 4
    assert address in caught.value.what
    assert f"v{VERSION}" in caught.value.hint
    assert "--runner local" in caught.value.hint


def test_missing_program_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoRunnerError, match="program dagger") as caught:
        find_cli({"PATH": str(tmp_path)})
    assert f"v{VERSION}" in caught.value.hint


def test_missing_sdk_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(NoRunnerError, match="dagger-io") as caught:
        find_cli({})
    assert "forge-release[dagger]" in caught.value.hint


@pytest.mark.parametrize("version", ["v0.21.8", "0.21.8", "v0.21.9"])
def test_engine_of_the_sdks_version_or_a_later_patch_goes_with_it(version: str) -> None:
    assert mismatch(version) == ""


@pytest.mark.parametrize("version", ["v0.21.7", "v0.22.0", "v0.18.2", "v1.0.0", "dev", ""])
def test_engine_of_another_version_is_explained(version: str) -> None:
    assert mismatch(version) == f"the engine is {version} and the SDK v0.21.8"


def test_line_that_never_ends_does_not_stop_the_reading() -> None:
    """The CLI blocks, and with it the step, when nobody reads what it prints."""
    script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo the end >&2"
    lines: list[str] = []

    async def read() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", script, stderr=-1)
        await _read(process, [], lines.append)
        await process.wait()

    asyncio.run(asyncio.wait_for(read(), 60))
    assert lines[-1] == "the end"


def test_pinned_sdk_is_the_version_that_is_asked_for() -> None:
    assert importlib.metadata.version("dagger-io") == VERSION


def program(folder: Path, text: str) -> str:
    path = folder / "dagger"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def opened(cli: str, address: str | None = "unix:///run/e.sock", **environment: str) -> str:
    """Open a session and return the message of the error that it must raise."""

    async def use() -> None:
        given = {"PATH": "/usr/bin:/bin"} | environment
        async with session(cli, address, given, lambda _line: None):
            raise AssertionError("there is no engine")

    with pytest.raises(NoRunnerError) as caught:
        asyncio.run(asyncio.wait_for(use(), 60))
    assert caught.value.exit_code == 4
    return str(caught.value)


def test_program_is_found_on_the_path_unless_the_variable_names_one(tmp_path: Path) -> None:
    path = program(tmp_path, "exit 0")
    assert find_cli({"PATH": str(tmp_path)}) == path
    assert find_cli({"PATH": str(tmp_path), CLI: "/bin/true"}) == "/bin/true"


def test_named_program_that_cannot_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dagger").write_text("text")
    with pytest.raises(NoRunnerError, match="program dagger") as caught:
        find_cli({CLI: str(tmp_path / "dagger")})
    assert str(tmp_path / "dagger") in caught.value.why


def test_address_that_listens_passes_and_the_default_is_not_probed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        probe(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    probe(None)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:99999", "tcp://127.0.0.1:port"])
def test_port_that_is_not_valid_is_named(address: str) -> None:
    with pytest.raises(NoRunnerError, match=address):
        probe(address)


def test_what_the_program_printed_explains_why_there_is_no_session(tmp_path: Path) -> None:
    said = opened(program(tmp_path, "echo 'cannot connect' >&2; exit 1"))
    assert "No Dagger engine at unix:///run/e.sock" in said
    assert "cannot connect" in said
    assert "--runner local" in said


def test_last_lines_are_kept_and_colours_removed(tmp_path: Path) -> None:
    script = "for n in $(seq 100); do printf '\\033[31mline %s\\033[0m\\n' $n >&2; done"
    said = opened(program(tmp_path, script))
    assert "line 100" in said
    assert "line 79" not in said
    assert "\x1b" not in said


def test_incompatible_engine_is_explained_with_the_version_to_install(tmp_path: Path) -> None:
    said = opened(program(tmp_path, "echo 'engine is incompatible' >&2"))
    assert "is not compatible" in said
    assert f"v{VERSION}" in said


def test_default_engine_is_named_as_such(tmp_path: Path) -> None:
    assert "Dagger's default" in opened(program(tmp_path, "exit 1"), None)


def test_program_gets_the_address_and_the_callers_environment(tmp_path: Path) -> None:
    shown = "$OWN $_EXPERIMENTAL_DAGGER_RUNNER_HOST $DAGGER_PROGRESS $*"
    said = opened(program(tmp_path, f'echo "{shown}" >&2'), OWN="mine")
    expected = "mine unix:///run/e.sock logs session --label dagger.io/sdk.name:python"
    assert f"{expected} --label dagger.io/sdk.version:{VERSION}" in said


def test_version_of_an_engine_that_does_not_listen_starts_no_program(tmp_path: Path) -> None:
    cli = program(tmp_path, f"touch {tmp_path}/started")
    with pytest.raises(NoRunnerError, match="No Dagger engine"):
        asyncio.run(engine_version(cli, "unix:///nowhere/e.sock", {}))
    assert not (tmp_path / "started").exists()


class TestLostEngine:
    """A session whose engine or program is lost, with a program that answers once."""

    @pytest.fixture
    def engine(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            made = FakeEngine(Path(folder) / "e.sock")
            schema = graphql.build_schema("type Query { version: String! }")
            monkeypatch.setattr("forge.runners.dagger.session._SCHEMAS", {made.address: schema})
            # A program that waited for the CLI to end would wait longer than the test.
            monkeypatch.setattr("forge.runners.dagger.session._END_S", 3600.0)
            yield made
            made.close()

    def asked_again(self, cli: str, engine: FakeEngine, *, lose: bool) -> EngineError:
        """Ask twice; the second question is never answered. Return the error of the session."""

        def line(text: str) -> None:
            if lose and text == "12:00:00 ERR asked":
                engine.close()

        async def ask() -> None:
            given = {"PATH": "/usr/bin:/bin"}
            async with session(cli, engine.address, given, line, "engine@a") as client:
                await until_lost(client.version(), engine.address, Pace(0.01, 1.0, 0.0))

        with pytest.raises(EngineError) as caught:
            asyncio.run(asyncio.wait_for(ask(), 60))
        return caught.value

    def test_engine_that_is_lost_exits_4_with_the_words_of_the_program(
        self, tmp_path: Path, engine: FakeEngine
    ) -> None:
        error = self.asked_again(write_cli(tmp_path), engine, lose=True)
        assert error.exit_code == 4
        assert error.what == "Step engine@a was not run to its end"
        assert f"the engine at {engine.address} was lost" in error.why
        assert "  | 12:00:00 ERR asked" in error.why
        assert "  | Connection refused" in error.why

    def test_program_that_dies_exits_4_too(self, tmp_path: Path, engine: FakeEngine) -> None:
        error = self.asked_again(write_cli(tmp_path, DIES), engine, lose=False)
        assert error.exit_code == 4
        assert "  | 12:00:00 ERR asked" in error.why

    def test_engine_that_is_lost_before_the_session_begins_is_noticed(
        self, tmp_path: Path, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The program asks the engine again and again, and prints no port."""
        monkeypatch.setattr("forge.runners.dagger.watch._PACE", Pace(0.01, 1.0, 0.0))
        monkeypatch.setattr("forge.runners.dagger.session._START_S", 3600.0)
        cli = program(tmp_path, "echo 'connecting to engine' >&2; sleep 3600")
        engine.close()

        async def use() -> None:
            async with session(cli, engine.address, {"PATH": "/usr/bin:/bin"}, lambda _line: None):
                raise AssertionError("there is no engine")

        with pytest.raises(EngineError) as caught:
            asyncio.run(asyncio.wait_for(use(), 60))
        assert "  | connecting to engine" in caught.value.why
