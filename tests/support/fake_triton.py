"""An environment whose Triton is tests/support/fake_tritonserver.py, installed from a wheel."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zipfile
from functools import lru_cache
from pathlib import Path

__all__ = ["fake_lock"]

PROGRAM = Path(__file__).with_name("fake_tritonserver.py")
_NAME = "fake_tritonserver-1.0"
_TRITON = "pytriton/tritonserver"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@lru_cache(maxsize=1)
def fake_lock(folder: Path) -> Path:
    """The lock of the environment; writes it and the wheel that it names to `folder` if need be."""
    files = _files()
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
    target = folder / digest
    wheel = target / f"{_NAME}-py3-none-any.whl"
    lock = target / "requirements.lock"
    if not lock.is_file():
        target.mkdir(parents=True, exist_ok=True)
        half = target / f".{os.getpid()}.whl"
        _write_wheel(half, files)
        half.rename(wheel)
        sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
        text = f"fake-tritonserver @ {wheel.as_uri()} --hash=sha256:{sha256}\n"
        half = target / f".{os.getpid()}.lock"
        half.write_text(text)
        half.rename(lock)
    return lock


def _files() -> dict[str, tuple[bytes, int]]:
    """Content and mode by path in the environment's site-packages."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    start = '#!/bin/sh\nexec python3 -I -S "${0%/*}/fake_tritonserver.py" "$@"\n'
    return {
        f"{_TRITON}/bin/tritonserver": (start.encode(), 0o755),
        f"{_TRITON}/bin/fake_tritonserver.py": (PROGRAM.read_bytes(), 0o644),
        f"{_TRITON}/backends/python/libtriton_python.so": (b"", 0o755),
        f"{_TRITON}/python_backend_stubs/{python}/triton_python_backend_stub": (b"", 0o755),
    }


def _write_wheel(path: Path, files: dict[str, tuple[bytes, int]]) -> None:
    info = f"{_NAME}.dist-info"
    text = "Metadata-Version: 2.1\nName: fake-tritonserver\nVersion: 1.0\n"
    kind = "Wheel-Version: 1.0\nGenerator: forge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    all_files = {
        **files,
        f"{info}/METADATA": (text.encode(), 0o644),
        f"{info}/WHEEL": (kind.encode(), 0o644),
    }
    rows = [f"{name},sha256={_hash(data)},{len(data)}" for name, (data, _) in all_files.items()]
    record = "\n".join([*rows, f"{info}/RECORD,,", ""])
    with zipfile.ZipFile(path, "w") as wheel:
        for name, (data, mode) in {**all_files, f"{info}/RECORD": (record.encode(), 0o644)}.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = (0o100000 | mode) << 16
            wheel.writestr(entry, data)


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
