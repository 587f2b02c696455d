"""Copy the proofs of a reported version next to its report, with SHA256SUMS of them all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from forge.canonical import sha256
from forge.errors import ConfigurationError
from forge.files import write_durably
from forge.report.proofs import KNOWN_PROOFS
from forge.report.report import ReleaseReport
from forge.store import Store

__all__ = ["CHECKSUMS_FILE", "write_proofs"]

CHECKSUMS_FILE: Final = "SHA256SUMS"
"""Sorted lines of digest and name, as `sha256sum --check` reads them."""


def write_proofs(
    store: Store, report: ReleaseReport, folder: Path, others: Iterable[Path] = ()
) -> tuple[Path, ...]:
    """Write each verified proof as NAME-VERSION-PROFILE.FILE, then SHA256SUMS.

    The names are unique over all releases, since the files of a GitHub release have no folders.

    Args:
        store: holds the proofs.
        report: of the version; `forge.report.gather.gather` has verified its proofs.
        folder: for the files; one that is there is replaced.
        others: files of the folder that SHA256SUMS lists too.

    Returns:
        What was written, SHA256SUMS last.

    Raises:
        NotInStoreError: a proof was deleted after it was verified.
        CorruptedError: it is damaged.
        StoreError: the store cannot be reached.
        ConfigurationError: the folder cannot be written.
    """
    found: dict[str, bytes] = {}
    for profile in report.profiles:
        prefix = f"{report.name}-{report.version}-{profile.manifest.profile}"
        proofs = profile.manifest.proofs.digest
        for file in profile.proofs.files if profile.proofs else ():
            if file.name in KNOWN_PROOFS:
                data = store.read_file(proofs, file.name, max_bytes=file.size)
                found[f"{prefix}.{file.name}"] = data
    try:
        digests = {path.name: sha256(path.read_bytes()) for path in others}
        digests |= {name: sha256(data) for name, data in found.items()}
        lines = (f"{digests[name]}  {name}\n" for name in sorted(digests))
        found[CHECKSUMS_FILE] = "".join(lines).encode()
        for name, data in found.items():
            write_durably(folder / name, data)
    except OSError as error:
        raise ConfigurationError(
            f"The proofs cannot be written to {folder}",
            why=str(error.strerror),
            hint="use another folder: -o DIR",
        ) from None
    return tuple(folder / name for name in found)
