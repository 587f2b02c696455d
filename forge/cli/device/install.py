"""`forge device install|uninstall`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from forge.cli import completion
from forge.cli.common import json_option, print_json
from forge.cli.confirm import confirm, yes_option
from forge.cli.device.options import Rate
from forge.cli.terminal import print_text
from forge.errors import ConfigurationError

__all__ = ["install", "uninstall"]

prefix_option = click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    help="Root folder of an image that is being built, instead of this machine.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and change nothing."
)


@click.command()
@click.argument("store_url", metavar="STORE")
@click.option(
    "--root",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Trusted root.json, copied to this machine over a trusted channel.",
)
@click.option("--name", required=True, shell_complete=completion.bundle_names, help="Bundle name.")
@click.option("--channel", default="stable", show_default=True, help="Channel to follow.")
@click.option("--mirror", "mirrors", multiple=True, help="Mirror of the store. Repeatable.")
@click.option(
    "--limit-rate", type=Rate(), help="Limit of downloads, bytes per second, e.g. 500k or 2M."
)
@click.option("--offline", is_flag=True, help="Do not try the store, root, name and channel first.")
@prefix_option
@dry_run_option
@json_option
def install(
    store_url: str,
    root: Path,
    name: str,
    channel: str,
    mirrors: tuple[str, ...],
    *,
    limit_rate: int | None,
    offline: bool,
    prefix: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Install the agent as a service of this machine. Safe to repeat. Requires root.

    STORE is a URL, a folder, or a file of `forge bundle export`. Makes the user forge,
    /etc/forge/device.env for credentials, the state folder /var/lib/forge and the systemd unit;
    provisions the device, and enables and starts the service.

    \b
    sudo /opt/forge/bin/forge device install https://bundles.example.com/prod \\
      --root root.json --name smollm2
    sudo /opt/forge/bin/forge device install smollm2.forge --root root.json --name smollm2
    forge device install https://bundles.example.com/prod --root root.json --name smollm2 --dry-run
    """  # noqa: D301
    from forge.device.commands import check_root
    from forge.device.install import Installer, UpdateSource

    trusted = check_root(root.read_bytes())
    source = UpdateSource(
        store_url, trusted, name, channel, mirrors, limit_rate, offline or prefix is not None
    )
    lines: list[str] = []
    installer = Installer(
        prefix or Path("/"),
        image=prefix is not None,
        dry_run=dry_run,
        report=_reporter(lines, as_json=as_json),
    )
    installer.install(source)
    _end(lines, installer.skipped, dry_run=dry_run, as_json=as_json)
    if not as_json and not dry_run and not prefix:
        print_text("Next: forge device status, forge device logs --follow")


@click.command()
@click.option("--purge", is_flag=True, help="Remove the state, the settings and the user as well.")
@yes_option
@prefix_option
@dry_run_option
@json_option
def uninstall(*, purge: bool, yes: bool, prefix: Path | None, dry_run: bool, as_json: bool) -> None:
    """Stop the service and remove its unit. Requires root.

    \b
    sudo /opt/forge/bin/forge device uninstall
    sudo /opt/forge/bin/forge device uninstall --purge
    """  # noqa: D301
    from forge.device.install import Installer

    if purge and not dry_run:
        effects = ("/var/lib/forge, /var/cache/forge and /etc/forge are deleted.",)
        confirm("Remove everything of the device?", effects, yes=yes)
    lines: list[str] = []
    installer = Installer(
        prefix or Path("/"),
        image=prefix is not None,
        dry_run=dry_run,
        report=_reporter(lines, as_json=as_json),
    )
    installer.uninstall(purge=purge)
    _end(lines, installer.skipped, dry_run=dry_run, as_json=as_json)


def _reporter(lines: list[str], *, as_json: bool) -> Callable[[str], None]:
    """Return what collects each step, and prints it while it is done."""

    def report(line: str) -> None:
        lines.append(line)
        if not as_json:
            print_text(line)

    return report


def _end(lines: list[str], skipped: list[str], *, dry_run: bool, as_json: bool) -> None:
    """Print the result. Raises ConfigurationError for what could not be done here."""
    if as_json:
        print_json({"dry_run": dry_run, "steps": lines, "skipped": skipped})
    elif not lines:
        print_text("Nothing to do: everything is as it should be.")
    if skipped and not dry_run:
        hint = "in a container or an image: --prefix DIR, or forge device run"
        raise ConfigurationError("The service was not started", why="; ".join(skipped), hint=hint)
    if skipped and not as_json:
        print_text("; ".join(skipped))
