"""Options shared by several commands of `forge device`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from forge.cli import completion

__all__ = ["Rate", "gpu_option", "profile_option", "state_option"]

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


class Rate(click.ParamType[int]):
    """Rate in bytes per second: a number, optionally with k, M or G for powers of 1000."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return bytes per second, or fail with what is valid."""
        if isinstance(value, int):
            return value
        from forge.device.state.settings import LEAST_RATE

        found = re.fullmatch(r"(\d{1,12})([kKMG]?)", str(value))
        rate = int(found[1]) * _UNITS[found[2].lower()] if found else 0
        if rate < LEAST_RATE:
            self.fail(
                f"{value!r} is not a valid rate: use at least 1024, for example 500k or 2M",
                param,
                ctx,
            )
        return rate


state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default="/var/lib/forge",
    envvar="FORGE_STATE",
    show_default=True,
    help="State folder of the device.",
)
profile_option = click.option(
    "--profile",
    envvar="HARDWARE_PROFILE",
    shell_complete=completion.profile_names,
    help="Use this profile instead of the one that matches the hardware.",
)
gpu_option = click.option(
    "--gpu",
    envvar="FORGE_GPU",
    help="Use this GPU only: its UUID, as nvidia-smi -L prints it, or its number there.",
)
