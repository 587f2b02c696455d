"""Forge builds, benchmarks, signs and ships AI inference bundles to a fleet of NVIDIA devices."""

__version__ = "0.1.0"
