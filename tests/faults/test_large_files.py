"""Files past 2 GiB and 4 GiB: all of their bytes are signed, stored and proved.

RAUC's CVE-2026-34155 was a signature that covered only the first bytes of a bundle of over 2 GiB.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forge.errors import TrustError
from forge.release.attest.attest import _sign_model
from forge.store import open_store
from forge.trust.model import verify_model_signature
from tests.support.release_world import World

GIB = 1024**3
SIZE = 4 * GIB + 4097
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1800)]


def sparse(path: Path) -> Path:
    """A file with a hole of over 4 GiB, and something at both ends and at 2 GiB."""
    with path.open("wb") as file:
        file.write(b"begin")
        os.pwrite(file.fileno(), b"two", 2 * GIB + 7)
        os.pwrite(file.fileno(), b"end", SIZE - 3)
    return path


def put(path: Path, position: int, data: bytes) -> bytes:
    """Write to a place; what was there before."""
    with path.open("r+b") as file:
        before = os.pread(file.fileno(), len(data), position)
        os.pwrite(file.fileno(), data, position)
    return before


def test_one_bit_past_2_and_4_gib_breaks_the_signature(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish("1.0.0")
    client = world.client()
    client.refresh()
    keys = client.proof_keys()
    (tmp_path / "engine").mkdir()
    large = sparse(tmp_path / "engine" / "model.bin")
    target = tmp_path / "model.sig"
    _sign_model(tmp_path / "engine", target, world.ring(), world.ring().proof_keys())
    signature = target.read_bytes()
    verify_model_signature(signature, tmp_path / "engine", keys)
    for position in (2 * GIB, 2 * GIB + 8, 4 * GIB, 4 * GIB + 4096, SIZE - 1):
        before = put(large, position, b"\x01")
        with pytest.raises(TrustError, match="could not be verified"):
            verify_model_signature(signature, tmp_path / "engine", keys)
        put(large, position, before)
    os.truncate(large, SIZE - 4 * GIB)  # its size modulo 2³²
    with pytest.raises(TrustError, match="could not be verified"):
        verify_model_signature(signature, tmp_path / "engine", keys)


def test_file_of_over_4_gib_comes_out_of_a_store_as_it_went_in(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    large = sparse(folder / "model.bin")
    store = open_store(str(tmp_path / "store"), cache=tmp_path / "cache")
    digest = store.put_tree(folder).digest
    store.unpack(digest, tmp_path / "out")  # every byte was hashed, and compared with the tree
    out = tmp_path / "out" / "model.bin"
    assert out.stat().st_size == SIZE == large.stat().st_size
    for position, data in ((0, b"begin"), (2 * GIB + 7, b"two"), (SIZE - 3, b"end")):
        assert put(out, position, data) == data
    out.unlink()
    # Resumed and repaired, too: what lies past 4 GiB is found again in its place.
    large.write_bytes(b"")
    (entry,) = store.tree(digest).entries
    part = tmp_path / ".out.parts" / entry.sha256 / "model.bin"
    part.parent.mkdir(parents=True)
    sparse(part)
    put(part, 4 * GIB + 1, b"\x01")
    (tmp_path / "out").rmdir()
    moved = store.unpack(digest, tmp_path / "out")
    assert put(out, 4 * GIB + 1, b"\x00") == b"\x00"
    assert moved.reused_bytes > 0
