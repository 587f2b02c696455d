# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that serves an ONNX graph by ONNX Runtime. On a GPU not yet run.

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
from model_io import Limits
from session import Session


class TritonPythonModel(batching.Model):
    """What Triton's Python backend calls."""

    def load(self, engine: Path, limits: Limits) -> batching.Generator:
        """Load the graph, with a KV cache for every sequence."""
        words = text.load(engine)
        if not words.stop:
            raise ValueError("Neither generation_config.json nor config.json names an eos_token_id")
        session = Session(engine, limits)
        session.warm_up()
        return Generator(session, words)
