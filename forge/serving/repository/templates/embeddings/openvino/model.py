# ruff: noqa: INP001 - Triton loads this file by its path
"""Triton model that makes embeddings with OpenVINO IR.

All values come from config.pbtxt's parameters; nothing is written into this file.
"""

from __future__ import annotations

import os
import site
from pathlib import Path

# Triton's stub makes sys.path without PYTHONPATH, so the packages come from here.
site.addsitedir(os.environ["FORGE_SITE_PACKAGES"])

import embedding_batches
from encoder import Encoder


class TritonPythonModel(embedding_batches.Model):
    """What Triton's Python backend calls."""

    def load(self, engine: Path) -> embedding_batches.Encoder:
        """Load the graph on the CPU."""
        return Encoder(engine)
