"""The device's side: detect, fit, pull, verify, activate, probe, serve, go back."""

from forge.device.commands import detect, provision, status
from forge.device.daemon import run

__all__ = ["detect", "provision", "run", "status"]
