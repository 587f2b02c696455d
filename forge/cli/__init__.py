"""The command line: parse, call, print. One module a noun; each is imported only when it is used.

`main` is the one place that turns errors into exit codes (forge/errors.py lists them).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import click

from forge import __version__
from forge.errors import ForgeError, StoreError

__all__ = ["main"]

_COMMANDS: Final[dict[str, tuple[str, str]]] = {
    # name: (module, help shown by `forge --help` without importing the module)
    "init": ("init", "Write a new project."),
    "check": ("check", "Check profiles, locks and the plan of every pipeline."),
    "profile": ("profile", "Show and check device profiles."),
    "checkpoint": ("checkpoint", "Pin model weights by digest."),
    "plan": ("pipeline", "Show what a pipeline would do and why."),
    "run": ("pipeline", "Run a pipeline: what the store lacks, and nothing else."),
    "why": ("pipeline", "Say why a step will run, field by field."),
    "matrix": ("pipeline", "List the jobs for native runners, for GitHub Actions."),
    "images": ("images", "List container images, pin their bases by digest."),
    "deploy": ("deploy", "Make what runs devices on Kubernetes."),
    "keys": ("keys", "Make, check, rotate and refresh the signing keys."),
    "promote": ("bundle", "Point a channel at a published version."),
    "channels": ("bundle", "List channels and the versions they point to."),
    "bundle": ("bundle", "List and show published bundles."),
    "store": ("store", "Verify the store and delete what nothing needs."),
    "device": ("device", "Provision, run and inspect a device."),
    "doctor": ("doctor", "Say what this machine lacks for which builder and runner."),
}


_AGAIN_S: Final = 0.05


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
    for number in (signal.SIGTERM, signal.SIGHUP):  # asked to end; the terminal is gone
        signal.signal(number, _terminate)
    try:
        with _heard():
            result: Any = cli.main(arguments, prog_name="forge", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if debug and not isinstance(error, (click.ClickException, click.Abort)):
            raise
        return _explain(error, arguments)
    return result if isinstance(result, int) else 0


def _explain(error: BaseException, arguments: list[str]) -> int:
    """Say what went wrong and what to do; returns the exit code."""
    match error:
        case ForgeError():
            return _say(f"Error: {error}", error.exit_code)
        case click.ClickException():
            error.show()
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return _say("Stopped. Nothing is half done; the same command goes on from here.", 130)
        case BrokenPipeError():
            # The reader of our output is gone; point stdout elsewhere so that exit does not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError():
            place = f" ({error.filename})" if error.filename else ""
            hint = "check that disk, folder and its rights, then run it again"
            text = f"Error: {error.strerror or error}{place}\n  → {hint}"
            return _say(text, StoreError.exit_code)
    hint = "a mistake in Forge or in this project's pipelines; this shows where"
    text = f"Error: {type(error).__name__}: {error}\n  → {hint}: forge --debug "
    return _say(text + shlex.join(arguments), 1)


def _say(text: str, exit_code: int) -> int:
    click.echo(text, err=True)
    return exit_code


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Send a signal again whose exception Python has swallowed.

    That is what it does with whatever is raised in a destructor or in a callback of its import
    system, and a signal may come just then.
    """
    before = sys.unraisablehook

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Exception | SystemExit | None):
            before(unraisable)
            return
        # Not at once: this, too, is a place where it would be swallowed.
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = before


def _terminate(signum: int, frame: object) -> None:
    """Ends a command the way Ctrl-C does: children first, leases released."""
    raise KeyboardInterrupt
