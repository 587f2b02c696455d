"""Options shared by several commands of `forge device`."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli import completion

__all__ = ["gpu_option", "profile_option", "state_option"]

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
