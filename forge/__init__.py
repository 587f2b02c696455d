"""Forge builds, measures, signs and ships AI inference bundles to unlike NVIDIA devices."""

__version__ = "0.1.0"
