"""The Tritons of the slots: their environments, their processes, their probes."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from forge.container import TRITON, require_image
from forge.device.journal import SLOTS, Release, SlotName
from forge.device.live import Serving
from forge.device.signals import check_signals
from forge.device.slots import Home
from forge.errors import (
    BundleError,
    ConfigurationError,
    StepFailedError,
    StoreError,
    TrustError,
)

if TYPE_CHECKING:
    from forge.environments import Installed
    from forge.serving.server import TritonServer
    from forge.serving.spec import CompileOnDevice, Spec

__all__ = ["SlotServers"]

_NEVER_S = 3600.0


class SlotServers:
    """At most one Triton for each slot.

    Args:
        home: the state folder.
        runtime: exact versions of what the machine itself provides.
        say: gets one line per event.
    """

    def __init__(self, home: Home, runtime: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._home = home
        self._runtime = runtime
        self._say = say
        self._running: dict[SlotName, TritonServer] = {}
        self._versions: dict[SlotName, str] = {}
        self._making: Path | None = None  # an environment

    def alive(self, slot: SlotName) -> bool:
        """Whether the Triton of a slot runs: it was started, and has not ended by itself."""
        return slot in self._running and self._running[slot].alive

    def prepare(
        self, slot: SlotName, meanwhile: Callable[[], float] = lambda: _NEVER_S
    ) -> Installed:
        """Make the environment of a slot, and its engine where the device compiles it.

        Args:
            slot: it is done before, if it is there already.
            meanwhile: called now and then while it takes long, says in how many seconds again.

        Raises:
            BundleError: the bundle's serving.json is wrong; its engine does not compile.
            ConfigurationError: the machine lacks that Python or its shared library, or the package
                index serves other packages than the lock names; the agent runs in another image
                than the one that serves the bundle.
            StepFailedError: the package index is out of reach, the disk is full, no compiler.
        """
        from forge import environments

        spec = self.spec(slot)
        if spec.image is not None:
            require_image(spec.image)
            installed = environments.of_image(TRITON)
        else:
            installed = environments.inspect(self._install(slot, spec, meanwhile))
        if spec.compile_on_device is not None:
            self._compile(slot, spec, spec.compile_on_device, installed.root, meanwhile)
        return installed

    def _install(self, slot: SlotName, spec: Spec, meanwhile: Callable[[], float]) -> Path:
        from forge import environments

        name, lock = self._environment(slot, spec)
        python, cache = spec.python, self._home.environments
        root = environments.environment_path(name, lock, python=python, cache=cache)
        if root == self._making:  # `meanwhile` wants to start what this is being made for, too
            raise StepFailedError(f"{root.name} is being made", hint="it is tried again")
        before, self._making = self._making, root
        try:
            watch = environments.Watch(go_on=_when_due(meanwhile))
            return environments.ensure(name, lock, python=python, cache=cache, watch=watch)
        finally:
            self._making = before

    def _compile(
        self,
        slot: SlotName,
        spec: Spec,
        wanted: CompileOnDevice,
        environment: Path,
        meanwhile: Callable[[], float],
    ) -> None:
        from forge.serving.compile import Compiler, Job, engine_key, holds, place

        target = self._home.compiled(slot)
        if holds(target, engine_key(wanted, self._runtime)):
            return
        log = self._home.logs / "compile.log"
        compiler = Compiler(self._home.engines.resolve(), log, self._say)
        job = Job.of(self._home.tree(slot), spec, wanted, self._runtime, environment)
        place(compiler.ensure(job, meanwhile), target)

    def prune(self, slots: Iterable[SlotName]) -> None:
        """Remove every environment that none of these slots uses.

        A folder that is a link is somebody else's too, and left alone. Raises as `spec`, OSError.
        """
        from forge.environments import environment_path

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
                    shutil.rmtree(left)
                else:
                    left.unlink()

    def start(
        self,
        slot: SlotName,
        beside: SlotName | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> float:
        """Start the Triton of a slot and wait for its model; returns the seconds waited.

        Args:
            slot: which.
            beside: the slot whose Triton runs on; any other is stopped first.
            meanwhile: called now and then while the model loads.

        Raises:
            BundleError, ConfigurationError: as `prepare`; what serves now is not stopped for it.
            LoadFailedError: it ended, or its model was not ready in time; why stands in its log.
            StepFailedError: it could not be started, or does not say its version.
            StoreError: the disk.
        """
        from forge.serving.server import TritonServer, started

        installed, spec = self.prepare(slot), self.spec(slot)
        self.stop_all(but=beside)
        tree, work = self._home.tree(slot).resolve(), self._home.logs / f"slot-{slot}"
        try:
            compiled = self._home.compiled(slot) if spec.compile_on_device else None
            server, seconds = started(
                lambda: TritonServer.start(tree, spec, installed, work=work, engine=compiled),
                spec.start_timeout_s,
                meanwhile,
            )
        except OSError as error:
            message = f"Triton's log and links cannot be written to {work}"
            hint = f"{self._home.free_mib()} MiB are free there: make room"
            raise StoreError(message, why=str(error), hint=hint) from None
        self._running[slot] = server
        self._versions[slot] = server.version()  # now: when it gets requests it may be busy
        return seconds

    def probe(self, slot: SlotName) -> None:
        """Ask the golden prompts. Raises SmokeGateError with the answer that was wrong."""
        from forge.serving.probe import probe

        server = self._server(slot)
        probe(server.url, server.spec)

    def serving(self, slot: SlotName, release: Release) -> Serving:
        """What the gateway must know of the Triton of a slot."""
        server = self._server(slot)
        return Serving(
            url=server.url,
            model=server.spec.model,
            slot=slot,
            release=release,
            triton=self._versions[slot],
            runtime=server.spec.runtime,
            default_max_tokens=server.spec.default_max_tokens,
            max_seq_len=server.spec.max_seq_len,
        )

    def reasons(self, slot: SlotName) -> str:
        """What the Triton of a slot logged last, if it was started and ended by itself."""
        return self._running[slot].reasons() if slot in self._running else ""

    def stop(self, slot: SlotName) -> None:
        """End the Triton of a slot; nothing happens if none runs."""
        if running := self._running.pop(slot, None):
            running.stop()

    def stop_all(self, but: SlotName | None = None) -> None:
        """End every Triton but that of one slot."""
        for slot in SLOTS:
            if slot != but:
                self.stop(slot)

    def spec(self, slot: SlotName) -> Spec:
        """The serving.json of a slot. Raises BundleError, or OSError if the disk fails."""
        from forge.serving.spec import SPEC_FILE, read_spec

        tree = self._home.tree(slot)
        with contextlib.suppress(FileNotFoundError), (tree / SPEC_FILE).open("rb") as file:
            file.read(1)  # a disk that fails is not the bundle's fault
        try:
            return read_spec(tree)
        except (ConfigurationError, TrustError) as error:
            raise BundleError(error.what, why=error.why, hint=error.hint) from None

    def _environment(self, slot: SlotName, spec: Spec) -> tuple[str, Path]:
        """Name and lock of the environment that serves a slot. Raises BundleError."""
        if spec.environment is None or spec.lock is None:
            message = f"The bundle in slot {slot} names neither an environment nor an image"
            raise BundleError(message, hint="publish it again")
        lock = self._home.tree(slot) / spec.lock
        if not lock.is_file():
            hint = "publish a bundle that has it"
            raise BundleError(f"The bundle in slot {slot} has no {spec.lock}", hint=hint)
        return spec.environment, lock

    def _server(self, slot: SlotName) -> TritonServer:
        if slot not in self._running:
            raise ConfigurationError(f"No Triton of slot {slot} runs")
        return self._running[slot]


def _when_due(meanwhile: Callable[[], float]) -> Callable[[], None]:
    """Calls it at the first chance, and then whenever the seconds that it returned are over."""
    due = 0.0

    def call() -> None:
        nonlocal due
        check_signals()
        if time.monotonic() >= due:
            due = meanwhile() + time.monotonic()

    return call
