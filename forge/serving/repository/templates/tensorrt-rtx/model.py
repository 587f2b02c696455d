# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves a TensorRT for RTX engine on the GPU. Not yet run on hardware.

All values come from config.pbtxt's parameters; nothing is written into this file.
"""

from __future__ import annotations

import os
import site
from pathlib import Path

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])

import batching
import text
from generation import Generator
from gpu import Engine
from model_io import Limits

PLAN = "model.plan"


class TritonPythonModel(batching.Model):
    """What Triton's Python backend calls."""

    def load(self, engine: Path, limits: Limits) -> batching.Generator:
        """Load the engine on the GPU, with a KV cache for every sequence."""
        words = text.load(engine)
        if not words.stop:
            raise ValueError("Neither generation_config.json nor config.json names an eos_token_id")
        runtime = Engine(engine / PLAN, limits)
        runtime.warm_up()
        return Generator(runtime, words)
