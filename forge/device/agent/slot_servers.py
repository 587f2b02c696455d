"""The slots' Triton servers: their environments, processes and probes."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forge.accuracy.receipt import Receipt, read_receipt
from forge.container import TRITON, require_image
from forge.device.shared.release import SLOTS, Release, SlotName
from forge.device.shared.signals import check_signals
from forge.device.shared.upstream import ActiveServer
from forge.device.state.directory import StateDirectory
from forge.device.telemetry.status import ServerStarting
from forge.errors import (
    BundleError,
    ConfigurationError,
    StepFailedError,
    StoreError,
    TrustError,
)
from forge.store import cancellation

if TYPE_CHECKING:
    from forge.environments import Installed
    from forge.serving.repository.spec import CompileOnDevice, Spec
    from forge.serving.triton.server import TritonServer

__all__ = ["SlotServers"]

_log = logging.getLogger(__name__)

_CHECK_S: Final = 0.5


class SlotServers:
    """At most one Triton for each slot; safe between threads, as one thread uses a slot at a time.

    What takes long ends by CancelledError where its thread is told to (forge.store.cancellation).

    Args:
        home: the state directory.
        runtime: returns exact versions of what the machine itself provides now.
        environment: the variables by which the server of a slot sees its one GPU.
    """

    def __init__(
        self,
        home: StateDirectory,
        runtime: Callable[[], Mapping[str, str]],
        environment: Callable[[SlotName], Mapping[str, str]] = lambda _slot: {},
    ) -> None:
        self._home = home
        self._runtime = runtime
        self._environment_of = environment
        self._running: dict[SlotName, TritonServer] = {}
        self._versions: dict[SlotName, str] = {}
        self._making: set[Path] = set()  # environments
        self._starting: tuple[SlotName, float, float] | None = None  # limit, and when it began

    @property
    def starting(self) -> ServerStarting | None:
        """The start under way; None: there is none."""
        if (begun := self._starting) is None:
            return None
        slot, limit_s, at = begun
        seconds = round(time.monotonic() - at, 1)
        return ServerStarting(slot=slot, seconds=seconds, limit_s=limit_s)

    def alive(self, slot: SlotName) -> bool:
        """Whether the Triton of a slot runs: it was started, and has not ended by itself."""
        running = self._running.get(slot)
        return running is not None and running.alive

    def prepare(self, slot: SlotName) -> Installed:
        """Make the environment of a slot, and its engine where the device compiles it.

        Returns at once if both are there.

        Raises:
            BundleError: the bundle's serving.json is wrong; it lacks packages of its own lock; its
                engine does not compile.
            ConfigurationError: the machine lacks that Python or its shared library, or the package
                index serves other packages than the lock names; the agent runs in another image
                than the one that serves the bundle.
            StepFailedError: the package index cannot be reached, the disk is full, no compiler.
        """
        from forge import environments

        spec = self.spec(slot)
        if spec.image is not None:
            require_image(spec.image)
            installed = environments.of_image(TRITON)
        else:
            installed = environments.inspect(self._install(slot, spec))
        if spec.compile_on_device is not None:
            self._compile(slot, spec, spec.compile_on_device, installed.root)
        return installed

    def _install(self, slot: SlotName, spec: Spec) -> Path:
        from forge import environments
        from forge.serving.repository.spec import WHEELS_PATH

        name, lock = self._environment(slot, spec)
        python, cache = spec.python, self._home.environments
        root = environments.environment_path(name, lock, python=python, cache=cache)
        wheels = self._home.slots.tree(slot) / WHEELS_PATH
        if root in self._making:  # the supervisor starts the slot that another thread prepares
            raise StepFailedError(f"{root.name} is being made", hint="it is retried")
        self._making.add(root)
        try:
            return environments.ensure(
                name,
                lock,
                python=python,
                cache=cache,
                wheels=wheels if wheels.is_dir() else None,
                watch=environments.Watch(report=_log.info, check=_check_cancelled),
            )
        finally:
            self._making.discard(root)

    def _compile(
        self, slot: SlotName, spec: Spec, wanted: CompileOnDevice, environment: Path
    ) -> None:
        from forge.serving.on_device_compile import CompileJob, Compiler, engine_key, holds, place

        target, runtime = self._home.slots.compiled(slot), self._runtime()
        if holds(target, engine_key(wanted, runtime)):
            return
        log = self._home.logs / "compile.log"
        compiler = Compiler(self._home.engines.resolve(), log, _log.info)
        tree, sees = self._home.slots.tree(slot), self._environment_of(slot)
        job = CompileJob.of(tree, spec, wanted, runtime, environment, sees)
        place(compiler.ensure(job, _check_and_wait), target)

    def prune(self, slots: Iterable[SlotName]) -> None:
        """Remove every environment that none of these slots uses.

        A folder that is a symbolic link is shared with others, and left alone. Raises as `spec`,
        OSError.
        """
        from forge.environments import environment_path, remove

        cache = self._home.environments
        if cache.is_symlink():
            return
        used = set()
        for slot in slots:
            spec = self.spec(slot)
            if spec.image is not None:
                continue
            name, lock = self._environment(slot, spec)
            used.add(environment_path(name, lock, python=spec.python, cache=cache).name)
        for left in cache.iterdir():
            if left.name.removeprefix(".").removesuffix(".lock") not in used:
                if left.is_dir():
                    remove(left)
                else:
                    left.unlink()

    def start(self, slot: SlotName, beside: SlotName | None = None) -> float:
        """Start the Triton of a slot and wait for its model; return the seconds waited.

        Args:
            slot: which.
            beside: the slot whose Triton runs on; any other is stopped first.

        Raises:
            BundleError, ConfigurationError: as `prepare`; what serves now is not stopped for it.
            LoadFailedError: it ended, or its model was not ready in time; its log says why.
            StepFailedError: it could not be started, or does not say its version.
            StoreError: the disk.
        """
        installed, spec = self.prepare(slot), self.spec(slot)
        self.stop_all(but=beside)
        limit_s = spec.start_timeout_s
        _log.info("starting Triton of slot %s; its model may load for %g s", slot, limit_s)
        self._starting = slot, limit_s, time.monotonic()
        try:
            return self._start(slot, spec, installed)
        finally:
            self._starting = None

    def _start(self, slot: SlotName, spec: Spec, installed: Installed) -> float:
        from forge.serving.triton.server import TritonServer, started

        tree, work = self._home.slots.tree(slot).resolve(), self._home.logs / f"slot-{slot}"
        sees = self._environment_of(slot)
        try:
            compiled = self._home.slots.compiled(slot) if spec.compile_on_device else None
            server, seconds = started(
                lambda: TritonServer.start(
                    tree, spec, installed, work=work, engine=compiled, environment=sees
                ),
                spec.start_timeout_s,
                _check_cancelled,
            )
        except OSError as error:
            message = f"Triton's log and links cannot be written to {work}"
            hint = f"{self._home.free_mib()} MiB are free there: free disk space"
            raise StoreError(message, why=str(error), hint=hint) from None
        self._running[slot] = server
        self._versions[slot] = server.version()  # now: when it gets requests it may be busy
        return seconds

    def probe(self, slot: SlotName) -> None:
        """Send the golden prompts, and let the models repeat what was measured of them.

        Raises SmokeGateError with what was wrong.
        """
        from forge.serving.triton.accuracy_probe import check_accuracy, read_probe
        from forge.serving.triton.embedding_probe import probe_embeddings
        from forge.serving.triton.golden_prompts import probe

        server = self._server(slot)
        probe(server.url, server.spec)
        if expected := read_probe(self._home.slots.tree(slot)):
            check_accuracy(server.url, server.spec.model, expected)
        probe_embeddings(server.url, server.spec, self._home.slots.tree(slot))

    def serving(self, slot: SlotName, release: Release) -> ActiveServer:
        """Return what the gateway must know of the Triton of a slot."""
        server = self._server(slot)
        return ActiveServer(
            url=server.url,
            model=server.spec.model,
            slot=slot,
            release=release,
            triton=self._versions[slot],
            runtime=server.spec.runtime,
            default_max_tokens=server.spec.default_max_tokens,
            max_seq_len=server.spec.max_seq_len,
            accuracy=self._receipt(slot),
            metrics_url=server.metrics_url,
            embedding=server.spec.embedding,
        )

    def _receipt(self, slot: SlotName) -> Receipt | None:
        """Return the receipt of a slot's engine, which was verified when it was fetched."""
        from forge.trust.predicates import ACCURACY

        path = self._home.slots.proofs(slot) / ACCURACY
        try:
            return read_receipt(path.read_bytes()) if path.is_file() else None
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read: %s", path, error)
            return None

    def reasons(self, slot: SlotName) -> str:
        """What the Triton of a slot logged last, if it was started and ended by itself."""
        running = self._running.get(slot)
        return running.reasons() if running else ""

    def stop(self, slot: SlotName) -> None:
        """Stop the Triton of a slot, if one runs."""
        if running := self._running.pop(slot, None):
            running.stop()

    def stop_all(self, but: SlotName | None = None) -> None:
        """Stop every Triton except that of one slot."""
        for slot in SLOTS:
            if slot != but:
                self.stop(slot)

    def spec(self, slot: SlotName) -> Spec:
        """Read the serving.json of a slot. Raises BundleError, or OSError if the disk fails."""
        from forge.serving.repository.spec import SPEC_FILE, read_spec

        tree = self._home.slots.tree(slot)
        with contextlib.suppress(FileNotFoundError), (tree / SPEC_FILE).open("rb") as file:
            file.read(1)  # a disk that fails is not the bundle's fault
        try:
            return read_spec(tree)
        except (ConfigurationError, TrustError) as error:
            raise BundleError(error.what, why=error.why, hint=error.hint) from None

    def _environment(self, slot: SlotName, spec: Spec) -> tuple[str, Path]:
        """Return name and lock of the environment that serves a slot. Raises BundleError."""
        if spec.environment is None or spec.lock is None:
            message = f"The bundle in slot {slot} names neither an environment nor an image"
            raise BundleError(message, hint="publish it again")
        lock = self._home.slots.tree(slot) / spec.lock
        if not lock.is_file():
            hint = "publish a bundle that has it"
            raise BundleError(f"The bundle in slot {slot} has no {spec.lock}", hint=hint)
        return spec.environment, lock

    def _server(self, slot: SlotName) -> TritonServer:
        if slot not in self._running:
            raise ConfigurationError(f"No Triton of slot {slot} runs")
        return self._running[slot]


def _check_cancelled() -> None:
    """Raise CancelledError or StopAskedError if this work is to end."""
    check_signals()
    cancellation.check()


def _check_and_wait() -> float:
    """The same; return the seconds until the next check."""
    _check_cancelled()
    return _CHECK_S
