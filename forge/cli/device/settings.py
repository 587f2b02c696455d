"""`forge device provision`."""

from __future__ import annotations

from pathlib import Path

import click

from forge.cli import completion
from forge.cli.common import json_option, print_json
from forge.cli.device.options import Rate, gpu_option, profile_option, state_option
from forge.cli.terminal import print_text

__all__ = ["provision"]


@click.command()
@click.option("--store", "store_url", required=True, envvar="FORGE_STORE", help="URL of the store.")
@click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    help="Mirror of the store, used when --store fails. Repeatable.",
)
@click.option(
    "--limit-rate",
    type=Rate(),
    help="Download updates at no more than this many bytes per second, e.g. 500k or 2M.",
)
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trusted root.json, copied to this machine over a trusted channel.",
)
@click.option("--name", required=True, shell_complete=completion.bundle_names, help="Bundle name.")
@click.option(
    "--channel",
    default="stable",
    show_default=True,
    shell_complete=completion.channel_names,
    help="Channel to follow.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Do not try the store, the root, the name and the channel first.",
)
@profile_option
@gpu_option
@state_option
@json_option
def provision(
    *,
    store_url: str,
    mirrors: tuple[str, ...],
    limit_rate: int | None,
    root: Path,
    name: str,
    channel: str,
    offline: bool,
    profile: str | None,
    gpu: str | None,
    state: Path,
    as_json: bool,
) -> None:
    """Configure where updates come from and which root to trust. Safe to repeat.

    Reads the channel from the store first, as the device will, and writes nothing if that fails.

    \b
    forge device provision --store s3://bundles/prod --root root.json --name smollm2
    forge device provision --store https://bundles.example.com/prod \\
      --mirror https://plant.example.com/prod --limit-rate 2M --root root.json --name smollm2
    """  # noqa: D301
    from forge.device import commands
    from forge.device.source_check import check_source

    trusted = commands.check_root(root.read_bytes())
    version = "" if offline else check_source(store_url, trusted, name, channel, mirrors=mirrors)
    made = commands.provision(
        state, store_url, trusted, name, channel, profile,
        mirrors=mirrors, limit_rate=limit_rate, gpu=gpu,
    )  # fmt: skip
    if as_json:
        print_json({"state": str(state), **made.model_dump(mode="json")})
        return
    print_text(f"{state} follows {made.name} {made.channel} from {made.store_url}")
    if version:
        print_text(f"That channel points to {version}.")
    print_text(f"Next: forge device run --state {state}")
