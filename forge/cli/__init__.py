"""The command line: parse, call, print. One module per noun, imported only when it is used.

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
from forge.cli.completion import COMPLETION
from forge.cli.help import with_help_text
from forge.cli.terminal import HELP_WIDTH, print_error
from forge.errors import ForgeError, StoreError

__all__ = ["main"]

_SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    # purpose: name: (module, help shown by `forge --help` without importing the module)
    "Start": {
        "init": ("init", "Write a new project."),
        "check": ("check", "Check profiles, lock files and the plan of every pipeline."),
        "doctor": ("doctor", "Show which builders and runners this machine lacks tools for."),
        "help": ("help", "Show the help of a command."),
    },
    "Build": {
        "plan": ("pipeline", "Show what a pipeline would run, and why."),
        "run": ("pipeline", "Run the steps of a pipeline whose results are not in the store."),
        "why": ("pipeline", "Explain why a step will run, field by field."),
        "matrix": ("pipeline", "List the jobs for native runners, as a GitHub Actions matrix."),
        "profile": ("profile", "Show and check device profiles."),
        "checkpoint": ("checkpoint", "Pin model weights by digest."),
        "images": ("images", "List container images and pin their base images by digest."),
    },
    "Release": {
        "promote": ("bundle", "Point a channel at a published version."),
        "channel": ("bundle", "Remove a channel."),
        "channels": ("bundle", "List channels and the version each points to."),
        "bundle": ("bundle", "List, show, compare, export and yank published bundles."),
        "diff": ("diff", "Show what differs between two versions, and what a device downloads."),
        "affected": ("affected", "List the published bundles that have a component."),
        "vex": ("vex", "Sign a statement about a vulnerability of a published version."),
        "report": ("report", "Write the report of a version as one HTML page."),
        "keys": ("keys", "Create, check, rotate, refresh, move and back up the signing keys."),
    },
    "Devices": {
        "device": ("device", "Provision, run and inspect a device."),
        "deploy": ("deploy", "Generate the Kubernetes manifests for devices."),
    },
    "Housekeeping": {
        "store": ("store", "Verify the store and collect garbage."),
        "cache": ("cache", "Show and delete what Forge keeps on this machine."),
    },
}
_COMMANDS: Final = {name: one for section in _SECTIONS.values() for name, one in section.items()}
# Where the name of a command is taken in its module.
_ATTRIBUTES: Final = {"help": "help_command"}


_RESEND_DELAY_S: Final = 0.05


class _LazyGroup(click.Group):
    """Command group that imports a command's module when the command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"forge.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, _ATTRIBUTES.get(cmd_name, cmd_name))
        assert isinstance(command, click.Command)  # noqa: S101  an error in _COMMANDS
        return with_help_text(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click suggests from the commands that are imported already, and here none is.
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=_COMMANDS, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, _COMMANDS))
        for purpose, commands in _SECTIONS.items():
            with formatter.section(purpose):
                rows = [(name.ljust(longest), text) for name, (_, text) in commands.items()]
                formatter.write_dl(rows)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
)
@click.version_option(__version__, "-V", "--version", prog_name="forge")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(*, debug: bool) -> None:
    """Build, benchmark, sign and ship AI inference bundles to a mixed fleet of NVIDIA devices.

    \b
    forge plan release --profile development
    forge run release --profile development --version 1.0.0
    forge promote 1.0.0 stable
    forge device run --state /var/lib/forge
    """  # noqa: D301  \b is click's mark for text it must not wrap


with_help_text(cli)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments or os.environ.get("FORGE_DEBUG") == "1"
    for number in (signal.SIGTERM, signal.SIGHUP):  # terminate; the terminal was closed
        signal.signal(number, _terminate)
    try:
        with _resend_lost_signals():
            result: Any = cli.main(arguments, prog_name="forge", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if COMPLETION in os.environ:
            return 0  # a message would be printed into the command line that is completed
        if debug and not isinstance(error, (click.ClickException, click.Abort)):
            raise
        return _report_error(error, arguments)
    return result if isinstance(result, int) else 0


def _report_error(error: BaseException, arguments: list[str]) -> int:
    """Print an error with its hint to standard error and return the exit code."""
    match error:
        case ForgeError():
            print_error(error)
            return error.exit_code
        case click.ClickException():
            _print_usage(error)
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return _print_error("Interrupted. Run the same command again to resume.", 130)
        case BrokenPipeError():
            # The reader closed the pipe; redirect stdout so that flushing it at exit does not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        case OSError():
            place = f" ({error.filename})" if error.filename else ""
            hint = "check the disk, the folder and its permissions, then run the command again"
            print_error(ForgeError(f"{error.strerror or error}{place}", hint=hint))
            return StoreError.exit_code
    hint = "this is a bug in Forge or in this project's pipelines; for a traceback, run"
    again = f"{hint}: forge --debug {shlex.join(arguments)}"
    print_error(ForgeError(f"{type(error).__name__}: {error}", hint=again))
    return 1


def _print_usage(error: click.ClickException) -> None:
    """Print an error in the arguments, with the command that lists the right ones."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError) and context:
        click.echo(context.get_help(), err=True)
        return
    hint = f"for its arguments: {context.command_path} --help" if context else ""
    print_error(ForgeError(error.format_message().rstrip("."), hint=hint))


def _print_error(text: str, exit_code: int) -> int:
    if os.environ.get("GITHUB_ACTIONS") == "true":  # it may quote what a step or a server said
        from forge.github_log import inert

        text = inert(text)
    click.echo(text, err=True)
    return exit_code


@contextlib.contextmanager
def _resend_lost_signals() -> Iterator[None]:
    """Send SIGTERM again when Python discarded the exception that a signal handler raised.

    Python reports and drops exceptions raised in a destructor or in a callback of the import
    system, and a signal may arrive at such a moment.
    """
    before = sys.unraisablehook

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Exception | SystemExit | None):
            before(unraisable)
            return
        # Delayed, because an exception raised in this hook would be discarded as well.
        timer = threading.Timer(_RESEND_DELAY_S, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = before


def _terminate(signum: int, frame: object) -> None:
    """End the command as Ctrl-C does: stop child processes and release leases."""
    raise KeyboardInterrupt
