"""A Dagger session: find and start the CLI's `session` process, and connect the SDK's client.

The SDK can start the CLI itself, but only with this process's environment, without a timeout and
without a choice of engine per session; it also downloads a missing CLI.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from forge.errors import EngineError, NoRunnerError
from forge.runners.dagger.failures import EngineFailure, engine_error
from forge.runners.dagger.settings import RUNNER_HOST
from forge.runners.dagger.watch import EngineLostError, until_lost

if TYPE_CHECKING:
    import dagger
    import graphql

__all__ = ["CLI", "VERSION", "engine_version", "find_cli", "mismatch", "probe", "session"]

VERSION: Final = "0.21.8"  # of SDK, CLI and engine; pyproject.toml pins the SDK to it
CLI: Final = "_EXPERIMENTAL_DAGGER_CLI_BIN"
_PROBE_S: Final = 5.0
_START_S: Final = 60.0
_START_DEFAULT_S: Final = 600.0  # Dagger's default engine is pulled first
_END_S: Final = 30.0
_END_LOST_S: Final = 1.0  # the CLI would ask a lost engine for 30 s to end the session
_KEPT_LINES: Final = 20
_CHUNK: Final = 64 * 1024
# API version by engine address: querying it takes most of the time to open a session.
_SCHEMAS: Final[dict[str | None, graphql.GraphQLSchema]] = {}
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")


def find_cli(environment: Mapping[str, str]) -> str:
    """Return the path of the dagger program. Raises NoRunnerError if it or the SDK is missing."""
    hint = f"pip install 'forge-release[dagger]', and Dagger's CLI and engine v{VERSION}"
    try:
        metadata.version("dagger-io")
    except metadata.PackageNotFoundError:
        what = "The dagger runner requires the Python package dagger-io"
        raise NoRunnerError(what, why="it is not installed", hint=hint) from None
    path = environment.get(CLI) or shutil.which("dagger", path=environment.get("PATH"))
    if path is None or not os.access(path, os.X_OK):
        what = "The dagger runner requires the program dagger"
        why = f"{path} is not executable" if path else f"it is not on PATH and {CLI} is not set"
        raise NoRunnerError(what, why=why, hint=hint)
    return path


def probe(address: str | None) -> None:
    """Raise NoRunnerError if nothing listens at an engine's address. None is not probed."""
    if address is None:
        return
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.settimeout(_PROBE_S)
                unix.connect(parts.path)
        else:
            socket.create_connection((parts.hostname or "", parts.port or 0), _PROBE_S).close()
    except (OSError, ValueError) as error:
        raise NoRunnerError(
            f"No Dagger engine at {address}",
            why=str(error),
            hint=f"start an engine v{VERSION}, set FORGE_DAGGER_ENGINES to its address, "
            "or use --runner local",
        ) from None


def mismatch(engine: str) -> str:
    """Return why an engine of this version is not compatible with the SDK; empty if it is.

    It must have the same MAJOR.MINOR as the SDK and must not be older.
    """
    wanted = tuple(map(int, VERSION.split(".")))
    match = _VERSION.match(engine)
    found = tuple(map(int, match.groups())) if match else ()
    if found[:2] != wanted[:2] or found < wanted:
        return f"the engine is {engine} and the SDK v{VERSION}"
    return ""


@contextlib.asynccontextmanager
async def session(
    cli: str,
    address: str | None,
    environment: Mapping[str, str],
    line: Callable[[str], None],
    step: str = "",
) -> AsyncIterator[dagger.Client]:
    """Yield a client of the engine at `address`.

    Args:
        cli: path of the dagger program.
        address: for example `unix:///run/dagger/engine.sock`; None for Dagger's default engine.
        environment: the program's environment variables.
        line: called with each line that the containers print.
        step: id of the step that it is for, named by errors.

    Raises:
        NoRunnerError: the engine does not answer, or its version is not compatible.
        EngineError: the engine was lost; the body of the session ends within 10 s.
    """
    own = dict(environment) | {"DAGGER_PROGRESS": "logs", "NO_COLOR": "1", "DO_NOT_TRACK": "1"}
    own["DAGGER_NO_UPDATE_CHECK"] = "1"
    if address is not None:
        own[RUNNER_HOST] = address
    process = await asyncio.create_subprocess_exec(
        cli, "session", "--label", "dagger.io/sdk.name:python",
        "--label", f"dagger.io/sdk.version:{VERSION}",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=own, start_new_session=True,
    )  # fmt: skip
    output: list[str] = []
    reader = asyncio.create_task(_read(process, output, line))
    limit = _END_S
    try:
        with _engine_errors(step, address, output):
            port, token = await until_lost(_parameters(process, reader, output, address), address)
            async with _client(port, token, address) as client:
                problem = mismatch(await until_lost(client.version(), address))
                if problem:
                    raise _mismatched(address, problem)
                yield client
    except EngineError:
        limit = _END_LOST_S
        raise
    finally:
        await _end(process, reader, limit)


@contextlib.contextmanager
def _engine_errors(step: str, address: str | None, output: Sequence[str]) -> Iterator[None]:
    """Raise the loss of an engine as EngineError, with the last lines of the CLI."""
    import dagger

    try:
        yield
    except (EngineLostError, dagger.TransportError, dagger.ClientConnectionError) as error:
        # Its text is of the connection to the engine: there is none.
        raise engine_error(step, EngineFailure.LOST, address, (*output, str(error))) from None


async def engine_version(cli: str, address: str | None, environment: Mapping[str, str]) -> str:
    """Return the version of an engine, `v0.21.8`. Raises NoRunnerError as `session` does."""
    probe(address)
    async with session(cli, address, environment, lambda _line: None) as client:
        return await client.version()


async def _parameters(
    process: asyncio.subprocess.Process,
    reader: asyncio.Task[None],
    output: list[str],
    address: str | None,
) -> tuple[int, str]:
    """Return port and token, which the CLI prints when it is connected to an engine."""
    assert process.stdout is not None  # noqa: S101  it is a pipe
    limit = _START_DEFAULT_S if address is None else _START_S
    first = b""
    with contextlib.suppress(TimeoutError):
        first = await asyncio.wait_for(process.stdout.readline(), limit)
    if first:
        found = json.loads(first)
        return int(found["port"]), str(found["session_token"])
    with contextlib.suppress(TimeoutError, ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        await asyncio.wait_for(asyncio.shield(reader), _END_S)
    text = "\n".join(output).strip() or f"no output for {limit:.0f} s"
    if "incompatible" in text:
        raise _mismatched(address, text)
    hint = (
        f"check with `dagger core version` that it is an engine v{VERSION}, or use --runner local"
    )
    raise NoRunnerError(f"No Dagger engine at {_named(address)}", why=text, hint=hint)


@contextlib.asynccontextmanager
async def _client(port: int, token: str, address: str | None) -> AsyncIterator[dagger.Client]:
    import dagger
    from dagger.client._config import ConnectConfig
    from dagger.client._session import ConnectParams, SingleConnection
    from gql import Client

    # No retries: repeating a query would run its command again.
    config = ConnectConfig(timeout=dagger.Timeout(None, connect=10.0), retry=None)
    connection = SingleConnection(ConnectParams(port=port, session_token=token), config)
    asker = connection.session.client
    assert isinstance(asker, Client)  # noqa: S101  always so without retries
    if address in _SCHEMAS:
        asker.schema = _SCHEMAS[address]
        asker.fetch_schema_from_transport = False
    try:
        await connection.connect()
        if asker.schema is not None:
            _SCHEMAS[address] = asker.schema
        yield dagger.Client.from_connection(connection)
    finally:
        await connection.close()


def _mismatched(address: str | None, why: str) -> NoRunnerError:
    return NoRunnerError(
        f"The Dagger engine at {_named(address)} is not compatible with this version of Forge",
        why=why,
        hint=f"install CLI and engine v{VERSION} (image registry.dagger.io/engine:v{VERSION}), "
        "or use --runner local",
    )


def _named(address: str | None) -> str:
    return address or "Dagger's default address"


async def _read(
    process: asyncio.subprocess.Process, output: list[str], line: Callable[[str], None]
) -> None:
    """Pass on the lines that the CLI prints, and keep the last ones for an error."""
    assert process.stderr is not None  # noqa: S101  it is a pipe
    rest = b""
    while chunk := await process.stderr.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[-_CHUNK:]  # bounds the memory for a line without an end
        for raw in lines:
            text = _ANSI.sub("", raw.decode(errors="replace")).rstrip()
            del output[:-_KEPT_LINES]
            output.append(text)
            line(text)


async def _end(
    process: asyncio.subprocess.Process, reader: asyncio.Task[None], limit: float
) -> None:
    """Close the session, which stops its containers; kill the CLI if it does not exit in time."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), limit)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    await reader
