"""The text of `--help` at the width of the terminal, and `forge help`.

No line is cut in a word. Examples that are longer than a line are continued with a backslash, so
that they can be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import click

from forge.wrapping import cells_wide, wrap

__all__ = ["HelpContext", "HelpText", "help_command", "with_help_text"]

_LEAST_DEFINITION: Final = 28
_MOST_TERM: Final = 30
_GAP: Final = 2
_UNWRAPPED: Final = "\b"
_NO_BREAK: Final = "\0"


class HelpText(click.HelpFormatter):
    """click's formatter, with lines that break between words only."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line; its arguments continue below the program."""
        first = f"{prefix or 'Usage: '}{prog} "
        self._write(wrap(args, self.width, " " * min(len(first), 12), first))

    def write_text(self, text: str) -> None:
        r"""Write paragraphs; the lines of one that begins with \b are examples."""
        indent = " " * self.current_indent
        paragraphs = text.split("\n\n")
        for number, paragraph in enumerate(paragraphs):
            lines = paragraph.strip("\n").splitlines()
            if lines and lines[0].strip() == _UNWRAPPED:
                for example in _joined(lines[1:]):
                    self._write(_example(example, self.width, indent))
            else:
                flat = " ".join(line.strip() for line in lines)
                self._write(wrap(flat, self.width, indent))
            if number < len(paragraphs) - 1:
                self.write("\n")

    def write_dl(
        self,
        rows: Iterable[tuple[str, str]],
        col_max: int = _MOST_TERM,
        col_spacing: int = _GAP,
    ) -> None:
        """Write terms and their definitions, next to each other where there is room."""
        rows = list(rows)
        indent = " " * self.current_indent
        longest = max((cells_wide(term) for term, _ in rows), default=0)
        column = min(longest, col_max) + col_spacing
        beside = self.width - self.current_indent - column >= _LEAST_DEFINITION
        hanging = indent + " " * (column if beside else 4)
        for term, definition in rows:
            first = indent + term
            if beside and cells_wide(term) <= column - col_spacing:
                first += " " * (column - cells_wide(term))
                self._write(wrap(" ".join(definition.split()), self.width, hanging, first))
                continue
            self._write(wrap(term, self.width, indent + "    ", indent))
            if definition:
                self._write(wrap(" ".join(definition.split()), self.width, hanging))

    def _write(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(f"{line}\n")


class HelpContext(click.Context):
    """A context whose help is written by `HelpText`."""

    formatter_class = HelpText


def with_help_text(command: click.Command) -> click.Command:
    """Give a command and those below it the contexts of this module; return the command."""
    command.context_class = HelpContext
    for below in getattr(command, "commands", {}).values():
        with_help_text(below)
    return command


def _commands(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete to the commands of the program, or of the group that was named."""
    current = context.find_root()
    for name in context.params.get("command") or ():
        group = current.command
        found = group.get_command(current, name) if isinstance(group, click.Group) else None
        if found is None:
            return []
        current = HelpContext(found, parent=current, info_name=name)
    group = current.command
    names = group.list_commands(current) if isinstance(group, click.Group) else []
    return [name for name in names if name.startswith(incomplete)]


@click.command("help")
@click.argument("command", nargs=-1, shell_complete=_commands)
@click.pass_context
def help_command(context: click.Context, command: tuple[str, ...]) -> None:
    """Show the help of a command.

    \b
    forge help
    forge help bundle show
    """  # noqa: D301
    current = context.find_root()
    for name in command:
        group = current.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{current.command_path!r} has no commands", current)
        # Raises with a suggestion for a name that does not exist.
        found_name, found, _ = group.resolve_command(current, [name])
        if found is None:
            raise click.UsageError(f"No such command {name!r}", current)
        current = HelpContext(
            found, parent=current, info_name=found_name, max_content_width=current.max_content_width
        )
    click.echo(current.get_help())


def _joined(lines: Sequence[str]) -> list[str]:
    """Return the commands of an example; one that is continued by a backslash is one command."""
    return re.sub(r"[ ]*\\\n\s*", " ", "\n".join(lines)).splitlines()


def _example(line: str, width: int, indent: str) -> Iterator[str]:
    """Yield a command of an example, continued with backslashes if it is longer than a line."""
    if cells_wide(indent + line) <= width:
        yield (indent + line).rstrip()
        return
    command, _, comment = line.partition("  #")
    if comment:
        yield from wrap(f"# {comment.strip()}", width, indent)
    # An option stays on one line with its value.
    words = re.sub(r"(?<=\s)(--[\w-]+) (?=[^\s-])", rf"\1{_NO_BREAK}", command)
    lines = wrap(words, width - 2, indent + "  ", indent)
    yield from (f"{one} \\".replace(_NO_BREAK, " ") for one in lines[:-1])
    yield lines[-1].replace(_NO_BREAK, " ")
