"""Leave personal data out of a capture, without a change of what the machine is. Pure.

Of files that may contain more than detection needs, only known lines are kept. Elsewhere serial
numbers, MAC and IP addresses, home folders and the names of this machine and its users are
replaced, and each UUID by a number: the same UUID by the same number everywhere, since several
answers name one GPU by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from forge.device.hardware.capture import Capture
from forge.device.hardware.facts import Answer

__all__ = ["Redactor", "redact"]

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAC: Final = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5,}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_HOME: Final = re.compile(r"/(home|Users)/[^/\s:|]+")
_SERIAL: Final = re.compile(r"(?im)^(.*serial(?:[ _]number)?\s*[:=]).*$")
# Not of versions: these are replaced in messages only, never in rows of numbers.
_IPV4: Final = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])")
_IPV6: Final = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f:]{1,20}(?![\w:.])")
_PROCESSES: Final = re.compile(r"(?m)^\|\s*Processes:")

# Names that many machines have say nothing about one, and some are part of NVIDIA's own names.
_COMMON: Final = frozenset(
    (
        "agx", "blackwell", "cuda", "daemon", "debian", "device", "devices", "docker", "driver",
        "field", "found", "forge", "geforce", "gpu", "grid", "handle", "host", "igx", "jetson",
        "lambda", "linux", "localhost", "lost", "memory", "mig", "mib", "nano", "nvgpu", "nvidia",
        "orin", "pro", "query", "root", "rtx", "server", "sff", "smi", "spark", "tegra",
        "tegra-ubuntu", "tesla", "thor", "ubuntu", "user", "valid", "version", "xavier",
    )
)  # fmt: skip
_LEAST_NAME: Final = 3

_LINES: Final[Mapping[str, re.Pattern[str]]] = {
    "etc/os-release": re.compile(r"(?:NAME|PRETTY_NAME|ID|ID_LIKE|VERSION|VERSION_ID)="),
    "etc/nv_boot_control.conf": re.compile(r"\s*(?:TNSPEC|COMPATIBLE_SPEC|TEGRA_[A-Z_]+)\s"),
    "etc/nv_tegra_release": re.compile(r".*# (?:R[0-9]|KERNEL_VARIANT)"),
    "etc/nvpmodel.conf": re.compile(r"\s*[^#\s]"),  # without comments
    "proc/meminfo": re.compile(r"(?:MemTotal|SwapTotal):"),
}


class Redactor:
    """Replaces what is personal, the same everywhere in one capture.

    Args:
        names: of this machine and its users; those that many machines have are not replaced.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        personal = {name for name in names if _is_personal(name)}
        # The longest first: a host name often contains the name of its user.
        longest = sorted(personal, key=lambda name: (-len(name), name))
        joined = "|".join(map(re.escape, longest))
        self._names = re.compile(rf"(?<![\w])(?:{joined})(?![\w])", re.IGNORECASE)
        self._has_names = bool(longest)
        self._uuids: dict[str, str] = {}

    def value(self, text: str) -> str:
        """Replace what has an unmistakable form; a version looks like an IP address."""
        text = _UUID.sub(lambda found: self._uuid(found[0].lower()), text)
        text = _MAC.sub("removed", text)
        text = _SERIAL.sub(r"\1 removed", text)
        return _HOME.sub(r"/\1/user", text)

    def message(self, text: str) -> str:
        """Replace names and addresses too, in what a program says to people."""
        text = _IPV4.sub("0.0.0.0", self.value(text))  # noqa: S104 - a text
        text = _IPV6.sub("::", text)
        return self._names.sub("removed", text) if self._has_names else text

    def _uuid(self, found: str) -> str:
        number = len(self._uuids) + 1
        return self._uuids.setdefault(found, f"00000000-0000-0000-0000-{number:012d}")


def redact(capture: Capture, names: Collection[str] = ()) -> Capture:
    """Return a capture without personal data.

    Args:
        capture: of a machine.
        names: of this machine and its users.
    """
    redactor = Redactor(names)
    return Capture(
        {path: _file(path, data, redactor) for path, data in capture.files.items()},
        dict(capture.unreadable),
        capture.listed,
        {argv: _answer(argv, found, redactor) for argv, found in capture.answers.items()},
    )


def _file(path: str, data: bytes, redactor: Redactor) -> bytes:
    text = data.decode(errors="surrogateescape")
    if (wanted := _LINES.get(path)) is not None:
        text = "".join(line for line in _split(path, text) if wanted.match(line))
    return redactor.value(text).encode(errors="surrogateescape")


def _answer(argv: tuple[str, ...], answer: Answer, redactor: Redactor) -> Answer:
    output = answer.output
    plain: Callable[[str], str] = redactor.value
    if argv == ("nvidia-smi",):  # the table for people ends with the processes and their paths
        found = _PROCESSES.search(output)
        output, plain = output[: found.start()] if found else output, redactor.message
    return Answer(
        plain(output),
        redactor.message(answer.problem),
        redactor.message(answer.errors),
        answer.code,
    )


def _split(path: str, text: str) -> list[str]:
    """Split as a file's parser does: nvpmodel's by str.splitlines, the others at line feeds."""
    if path == "etc/nvpmodel.conf":
        return text.splitlines(keepends=True)
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _is_personal(name: str) -> bool:
    return len(name) >= _LEAST_NAME and name.lower() not in _COMMON
