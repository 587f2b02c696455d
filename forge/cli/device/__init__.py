"""The group `forge device`."""

from __future__ import annotations

import click

from forge.cli.device import agent, install, logs, machine, settings, slots, status

__all__ = ["device"]


@click.group()
def device() -> None:
    """Provision, run and inspect a device.

    \b
    forge device provision --store https://bundles.example/prod --root root.json --name llm
    forge device run
    forge device status --json
    """  # noqa: D301


for _command in (
    settings.provision,
    install.install,
    install.uninstall,
    agent.run,
    status.status,
    status.history,
    logs.logs,
    machine.detect,
    machine.capture,
    machine.power,
    slots.rollback,
    slots.verify,
):
    device.add_command(_command)
