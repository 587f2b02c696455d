"""Install the device's agent as a systemd service, from the wheel alone; and remove it again.

Each step looks first whether it is done already, so that a second run changes nothing and one that
was interrupted is continued by the next.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import forge
from forge.device.install_plan import (
    ENVIRONMENT_FILE,
    STATE,
    TRUSTED_ROOT,
    UNIT,
    UNIT_FILE,
    USER,
    CopyFile,
    MakeFolder,
    RunProgram,
    Step,
    WriteFile,
    hidden_from_service,
    make_user,
    systemctl,
    unit_for,
)
from forge.device.state.settings import place, read_settings
from forge.errors import ConfigurationError, ForgeError, StepFailedError, UsageError
from forge.files import sha256_file, write_durably

__all__ = ["Installer", "UpdateSource", "this_program", "unit_template"]

_SYSTEMD: Final = "run/systemd/system"  # is there while systemd is the init
_TIMEOUT_S: Final = 300.0
_COPY_MODE: Final = 0o640
_ENVIRONMENT: Final = b"""\
# Environment of forge-device.service, read at each start. Nobody but root can read this file.
# Credentials of a store in a bucket:
#AWS_ACCESS_KEY_ID=
#AWS_SECRET_ACCESS_KEY=
#FORGE_LOG_LEVEL=warning
"""


@dataclass(frozen=True, slots=True)
class UpdateSource:
    """Where the device's updates come from: the options of `forge device provision`.

    Attributes:
        store_url: URL or folder of the store, or a `.forge` file.
        root_bytes: the trusted root.
        name: bundle name.
        channel: channel of that bundle.
        mirrors: of the store.
        limit_rate: of downloads, bytes per second.
        offline: do not read the channel first.
    """

    store_url: str
    root_bytes: bytes
    name: str
    channel: str
    mirrors: tuple[str, ...] = ()
    limit_rate: int | None = None
    offline: bool = False

    def words(self) -> tuple[str, ...]:
        """Return the options of `forge device provision` but for the store and the root."""
        words = ["--name", self.name, "--channel", self.channel]
        words += [word for url in self.mirrors for word in ("--mirror", place(url))]
        words += ["--limit-rate", str(self.limit_rate)] if self.limit_rate else []
        return (*words, "--offline") if self.offline else tuple(words)


@dataclass
class Installer:
    """Installs the service on this machine, or into the root folder of an image.

    Attributes:
        root: where / is.
        image: `root` is the folder of an image that is being built: nothing is started.
        program: the `forge` that the service runs; default: the one of this environment.
        dry_run: nothing is changed.
        report: gets a line for each step that is done, or would be.
        skipped: what could not be done on this machine.
    """

    root: Path = Path("/")
    image: bool = False
    program: Path | None = None
    dry_run: bool = False
    report: Callable[[str], None] = lambda _line: None
    skipped: list[str] = field(default_factory=list)

    def install(self, source: UpdateSource) -> None:
        """Make user, folders, settings and unit; enable and start the service.

        Raises:
            UsageError: this is not root.
            ConfigurationError: the service could not run this Forge; systemd does not run here.
            StepFailedError: a program failed; its output says why.
        """
        self._require_root()
        unit = unit_for(unit_template(), self.program or this_program(self.root))
        if self._user() is None:
            self._do(make_user(self._prefix_text))
        self._do(MakeFolder("/etc/forge", 0o755))
        self._do(WriteFile(ENVIRONMENT_FILE, _ENVIRONMENT, 0o600, keep=True))
        self._do(WriteFile(TRUSTED_ROOT, source.root_bytes, 0o644))
        self._do(MakeFolder(STATE, 0o750, USER))
        stopped = self._provision(source)
        changed = self._do(WriteFile(UNIT_FILE, unit, 0o644))
        self._start(changed=changed, stopped=stopped)

    def uninstall(self, *, purge: bool) -> None:
        """Stop and remove the service; with `purge`, its state, settings and user as well.

        Raises as `install`.
        """
        self._require_root()
        if self._at(UNIT_FILE).exists():
            if self.image or self._systemd():
                self._do(systemctl(self._prefix_text, "disable", *self._now(), UNIT))
            self._remove(UNIT_FILE)
            if self._systemd():
                self._do(systemctl(None, "daemon-reload"))
        if not purge:
            return
        for path in (STATE, "/var/cache/forge", "/etc/forge"):
            self._remove(path)
        if self._user() is not None:
            within = ("--prefix", self._prefix_text) if self._prefix_text else ()
            self._do(RunProgram(("userdel", *within, USER)))

    def _provision(self, source: UpdateSource) -> bool:
        """Provision as the service's user; return whether the service was stopped for it."""
        store = self._store(source)
        if self._provisioned(replace(source, store_url=store)):
            return False
        root, state = str(self._at(TRUSTED_ROOT)), str(self._at(STATE))
        words = ("--store", store, "--root", root, *source.words(), "--state", state)
        argv = (sys.executable, "-m", "forge", "device", "provision", *words)
        stopped = self._active()
        if stopped:  # the agent holds the lock of the state folder
            self._do(systemctl(None, "stop", UNIT))
        try:
            self._do(RunProgram(argv, USER))
        except ForgeError:
            if stopped:
                self._do(systemctl(None, "start", UNIT))
            raise
        return stopped

    def _provisioned(self, source: UpdateSource) -> bool:
        """Whether the device is set up like this already."""
        try:
            known, root_bytes = read_settings(self._at(STATE))
        except ForgeError:
            return False
        store, mirrors = place(source.store_url), tuple(map(place, source.mirrors))
        same = (known.store_url, known.name, known.channel) == (store, source.name, source.channel)
        further = (known.mirrors, known.limit_rate) == (mirrors, source.limit_rate)
        return same and further and root_bytes == source.root_bytes

    def _store(self, source: UpdateSource) -> str:
        """Return the store as the service sees it; a file that it cannot see is copied."""
        url = place(source.store_url)  # the service's user has another current folder
        path = Path(url)
        if "://" in url or not path.exists():
            return url
        if self.image and path.is_relative_to(self.root):
            return f"/{path.relative_to(self.root)}"
        if not hidden_from_service(path):
            return str(path)
        if not path.is_file():
            message = f"The service cannot read the store {path}"
            hint = "move the folder out of homes and temporary folders, to /srv for example"
            raise ConfigurationError(message, hint=hint)
        self._do(MakeFolder(f"{STATE}/source", 0o750, USER))
        target = f"{STATE}/source/{path.name}"
        self._do(CopyFile(str(path), target, USER))
        return target if self.image else str(self._at(target))

    def _start(self, *, changed: bool, stopped: bool) -> None:
        if self.image:
            self._enable()
            return
        if not self._systemd():
            words = "systemd does not run here"
            self.skipped.append(f"{words}: {UNIT} is written, but neither enabled nor started")
            return
        if changed:
            self._do(systemctl(None, "daemon-reload"))
        self._enable()
        if changed or stopped or not self._active():
            self._do(systemctl(None, "restart", UNIT))

    def _enable(self) -> None:
        """Let the service start at boot, unless it does."""
        enabled = self._at(UNIT_FILE).exists() and self._says_yes("is-enabled")
        if not enabled:
            self._do(systemctl(self._prefix_text, "enable", UNIT))

    def _do(self, step: Step) -> bool:
        """Do a step, unless that is done already; return whether it was needed."""
        if not self._needed(step):
            return False
        self.report(str(step))
        if self.dry_run:
            return True
        try:
            match step:
                case RunProgram():
                    self._run(step)
                case MakeFolder(path, mode, user):
                    self._at(path).mkdir(parents=True, exist_ok=True)
                    self._own(self._at(path), mode, user)
                case WriteFile(path, data, mode, keep):
                    if keep and self._at(path).exists():
                        self._at(path).chmod(mode)
                    else:
                        write_durably(self._at(path), data, mode)
                case CopyFile(source, path, user):
                    new = self._at(path).with_name(f".tmp-{Path(path).name}")
                    shutil.copyfile(source, new)
                    self._own(new, _COPY_MODE, user)
                    new.replace(self._at(path))
        except OSError as error:
            raise ConfigurationError(f"Not done: {step}", why=str(error)) from None
        return True

    def _needed(self, step: Step) -> bool:
        match step:
            case MakeFolder(path, mode, user):
                return not self._at(path).is_dir() or self._differs(self._at(path), mode, user)
            case WriteFile(path, data, mode, keep):
                file = self._at(path)
                if not file.exists() or self._differs(file, mode, None):
                    return True
                return not keep and file.read_bytes() != data
            case CopyFile(source, path, user):
                file = self._at(path)
                if not file.is_file() or self._differs(file, _COPY_MODE, user):
                    return True
                return not _same_bytes(Path(source), file)
            case _:
                return True

    def _differs(self, path: Path, mode: int, user: str | None) -> bool:
        status = path.stat()
        owner = self._user() if user else None
        return stat.S_IMODE(status.st_mode) != mode or owner not in {None, status.st_uid}

    def _own(self, path: Path, mode: int, user: str | None) -> None:
        path.chmod(mode)
        number = self._user() if user else None
        if number is not None and path.stat().st_uid != number:
            os.chown(path, number, self._group())

    def _run(self, step: RunProgram) -> None:
        options: dict[str, object] = {}
        if step.user and os.geteuid() == 0 and (number := self._user()) is not None:
            options = {"user": number, "group": self._group(), "extra_groups": []}
        environment = os.environ | {"HOME": str(self._at(STATE))} if step.user else None
        try:
            done = subprocess.run(
                step.argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
                cwd="/", env=environment, **options,  # type: ignore[call-overload]
            )  # fmt: skip
        except FileNotFoundError:
            message = f"{step.argv[0]} is not installed here"
            hint = "Debian and Ubuntu have it in passwd (useradd) and systemd (systemctl)"
            raise ConfigurationError(message, hint=hint) from None
        except subprocess.TimeoutExpired:
            message = f"{step.argv[0]} did not end within {_TIMEOUT_S:g} s"
            raise StepFailedError(message, why=" ".join(step.argv)) from None
        if done.returncode:
            message = f"{' '.join(step.argv)} failed with code {done.returncode}"
            raise StepFailedError(message, why=(done.stderr or done.stdout).strip())

    def _remove(self, path: str) -> None:
        target = self._at(path)
        if not target.exists():
            return
        self.report(f"remove {path}")
        if self.dry_run:
            return
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink()

    def _active(self) -> bool:
        """Whether the service runs."""
        if not self._systemd() or not self._at(UNIT_FILE).exists():
            return False
        return self._says_yes("is-active")

    def _says_yes(self, question: str) -> bool:
        """Return what systemctl says of the service; no where it cannot be asked."""
        argv = systemctl(self._prefix_text, question, "--quiet", UNIT).argv
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0

    def _user(self) -> int | None:
        return self._number("etc/passwd")

    def _group(self) -> int:
        number = self._number("etc/group")
        return -1 if number is None else number

    def _number(self, name: str) -> int | None:
        """Return the number of the user or group in a file of the machine or image."""
        try:
            lines = (self._at(name)).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return None
        rows = (line.split(":") for line in lines)
        found = (row[2] for row in rows if row[0] == USER and len(row) > 2 and row[2].isdecimal())  # noqa: PLR2004
        return next((int(number) for number in found), None)

    def _require_root(self) -> None:
        if self.root != Path("/") or self.dry_run or os.geteuid() == 0:
            return
        message = "Installing a service needs root"
        raise UsageError(message, hint="run it with sudo, or see what it does: --dry-run")

    def _systemd(self) -> bool:
        return not self.image and self._at(_SYSTEMD).is_dir()

    def _now(self) -> tuple[str, ...]:
        return () if self.image else ("--now",)

    @property
    def _prefix_text(self) -> str | None:
        return str(self.root) if self.image else None

    def _at(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def _same_bytes(one: Path, other: Path) -> bool:
    """Return whether two files have the same bytes. Raises ConfigurationError."""
    try:
        sizes = one.stat().st_size, other.stat().st_size
        return sizes[0] == sizes[1] and sha256_file(one) == sha256_file(other)
    except OSError as error:
        raise ConfigurationError(f"{one} and {other} cannot be compared", why=str(error)) from None


def this_program(root: Path) -> Path:
    """Return the `forge` of this environment, as it is called where `root` is /."""
    program = Path(sys.executable).with_name("forge")
    return Path("/") / program.relative_to(root) if program.is_relative_to(root) else program


def unit_template() -> str:
    """Return the unit that comes with Forge. Raises ConfigurationError if it is not there."""
    package = Path(forge.__file__).parent
    for folder in (package / "template", package.parent):
        path = folder / "deploy" / "systemd" / UNIT
        if path.is_file():
            return path.read_text()
    raise ConfigurationError(f"This Forge has no {UNIT}", hint="install it from its wheel again")
