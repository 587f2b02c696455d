"""List the packages of an image from its layers: Python distributions and Debian packages.

The image is not started. Its layers are archives, read lowest first; a file of a higher layer
replaces or removes one of a lower layer.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Final

from forge.errors import CorruptedError

__all__ = ["Package", "installed"]

_MAX_FILE: Final = 64 * 1024 * 1024  # a dpkg status file of thousands of packages is 10 MB
_STATUS = re.compile(r"(\./)?var/lib/dpkg/status(\.d/[^/]+)?")
_METADATA = re.compile(r".*\.dist-info/METADATA")
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One installed package; `kind` is the type in a package URL, `deb` or `pypi`."""

    kind: str
    name: str
    version: str
    architecture: str = ""


def installed(layers: Sequence[Path]) -> tuple[Package, ...]:
    """Return the packages of an image, sorted. Raises CorruptedError if a layer is not valid."""
    files: dict[str, bytes] = {}
    for layer in layers:
        try:
            _apply(layer, files)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise CorruptedError(
                f"Layer {layer.name[:12]} cannot be read", why=str(error)
            ) from None
    found = {package for name, data in files.items() for package in _packages(name, data)}
    return tuple(sorted(found))


def _apply(layer: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(layer, "r:*") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.name.startswith(_WHITEOUT):
                gone = path.parent if path.name == _OPAQUE else path.parent / path.name[4:]
                for name in [one for one in files if PurePosixPath(one).is_relative_to(gone)]:
                    del files[name]
            elif member.isfile() and (
                _STATUS.fullmatch(str(path)) or _METADATA.fullmatch(str(path))
            ):
                if member.size > _MAX_FILE:
                    raise tarfile.TarError(f"{path} is larger than {_MAX_FILE} bytes")
                content = archive.extractfile(member)
                files[str(path)] = content.read() if content is not None else b""


def _packages(path: str, data: bytes) -> Iterator[Package]:
    text = data.decode(errors="replace")
    if path.endswith("/METADATA"):
        fields = HeaderParser().parsestr(text)
        if fields["Name"] and fields["Version"]:
            name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()  # PEP 503
            yield Package("pypi", name, fields["Version"])
        return
    for stanza in text.split("\n\n"):
        fields = HeaderParser().parsestr(stanza.strip())
        # Images without a package manager list their packages below status.d, without a state.
        state = fields.get("Status", "install ok installed").split()[-1]
        if fields["Package"] and fields["Version"] and state == "installed":
            architecture = str(fields.get("Architecture", ""))
            yield Package("deb", fields["Package"], fields["Version"], architecture)
