"""The command line: parse, call, print. One module a noun; each is imported only when it is used.

`main` is the one place that turns errors into exit codes (forge/errors.py lists them).
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, Final

import click

from forge import __version__
from forge.errors import ForgeError

__all__ = ["main"]

_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    # name: (module, help shown by `forge --help` without importing the module)
    "init": ("init", "Write a new project."),
    "profile": ("profile", "Show and check device profiles."),
    "checkpoint": ("checkpoint", "Pin model weights by digest."),
    "plan": ("pipeline", "Show what a pipeline would do and why."),
    "run": ("pipeline", "Run a pipeline: what the store lacks, and nothing else."),
    "why": ("pipeline", "Say why a step will run, field by field."),
    "matrix": ("pipeline", "List the jobs for native runners, for GitHub Actions."),
    "images": ("images", "List container images, pin their bases by digest."),
    "keys": ("keys", "Make, check, rotate and refresh the signing keys."),
    "promote": ("bundle", "Point a channel at a published version."),
    "channels": ("bundle", "List channels and the versions they point to."),
    "bundle": ("bundle", "List and show published bundles."),
    "store": ("store", "Verify the store and delete what nothing needs."),
    "device": ("device", "Provision, run and inspect a device."),
    "doctor": ("doctor", "Say what this machine lacks for which builder and runner."),
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is looked up, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"forge.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  a slip in _COMMANDS
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forge")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Build, measure, sign and ship AI inference bundles to unlike NVIDIA devices.

    \b
    forge plan release --profile development
    forge run release --profile development --version 1.0.0
    forge promote 1.0.0 stable
    forge device run --state /var/lib/forge
    """  # noqa: D301  \b is click's mark for text it must not wrap


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("FORGE_DEBUG") == "1"
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result: Any = cli.main(arguments, prog_name="forge", standalone_mode=False)
    except ForgeError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. Nothing was left half done; run the same command to go on.", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; point stdout elsewhere so that exit does not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return result if isinstance(result, int) else 0


def _terminate(signum: int, frame: object) -> None:
    """SIGTERM ends a command the way Ctrl-C does: children first, leases released."""
    raise KeyboardInterrupt
