"""The device's side: detect, fit, pull, verify, activate, probe, serve, go back."""

from forge.device.commands import detect, provision, run, status

__all__ = ["detect", "provision", "run", "status"]
