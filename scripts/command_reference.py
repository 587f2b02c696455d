"""Write docs/reference/commands.md: every command of `forge` with its options, read from click.

.venv/bin/python scripts/command_reference.py          write it
.venv/bin/python scripts/command_reference.py --check  exit code 1 if it is not up to date

Pipelines of this project are loaded to show their options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from forge import errors
from forge.cli import cli

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "commands.md"
# Options whose default is taken from the machine; the page has to be the same everywhere.
MACHINE_DEFAULTS: Final = {"--jobs": "number of CPU cores"}
# Commands of every pipeline take the options of its function; this project's `release` is shown.
PIPELINE_COMMANDS: Final = ("plan", "run", "why", "matrix")

OTHER_CODES: Final = {
    0: "success",
    1: "an unexpected exception: a mistake in Forge or in a pipeline",
    130: "stopped by Ctrl-C; the same command continues",
    141: "the reader of the output closed the pipe",
}

INTRODUCTION: Final = """\
# Commands

Generated from the program by `make docs-reference`; a test fails when it differs. `--help` of
a command prints the same.

The program is `.venv/bin/forge` in a checkout. `--debug` before the command (`forge --debug run
…`) prints the traceback of an error. `--json`, where a command has it, prints the result as JSON
on standard output; progress goes to standard error. The store of a command is `--store`, else
`FORGE_STORE`, else `artifacts/` of the project.

`forge plan`, `forge run`, `forge why` and `forge matrix` take the name of a pipeline and its
options: the keyword parameters of its function. Left out, the pipeline is `release`, as shown
here. `--only` and `--skip` take globs of step ids, such as `engine@*`.

**Width and colours.** Tables have the width of the terminal, or that of `COLUMNS`; where there is
no room for columns, each row is a block. In a pipe a row is one line. States and errors have
colours on a terminal; `NO_COLOR` turns them off, `FORCE_COLOR` on.

**Completion** of commands, options, profiles, steps, bundles, versions and channels, for bash, zsh
(`zsh_source`) and fish (`fish_source`):

```console
$ eval "$(_FORGE_COMPLETE=bash_source forge)"
```

**Names.** A command, profile, step, bundle, version, channel or key that does not exist ends with
exit code 2, the name that was probably meant, and those that exist.

**Disk.** `forge cache df` shows what Forge keeps on this machine. A run deletes environments and
failed steps that were not used for 30 days, and unpacked trees after 14; never what another run
uses, keys, or a store.
"""


def main(arguments: Sequence[str]) -> int:
    """Write or check the page; returns the exit code."""
    text = render()
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    if "--check" in arguments:
        click.echo(f"{PAGE.name} is not what click says; run: make docs-reference", err=True)
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def render() -> str:
    """The whole page. The folder must be the project's, because pipelines are loaded from it."""
    os.chdir(ROOT)
    rows = list(_commands())
    blocks = [INTRODUCTION, _exit_codes(), _overview(rows)]
    blocks += [_section(name, command, ctx) for name, command, ctx in rows]
    return "\n".join(blocks).rstrip() + "\n"


def _commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command that does something, by its whole name, in the order of the help."""
    yield from _below(cli, click.Context(cli, info_name="forge"), "forge")


def _below(
    group: click.Group, ctx: click.Context, prefix: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    names = group.list_commands(ctx)
    if prefix.removeprefix("forge ") in PIPELINE_COMMANDS:
        names = ["release"]
    for name in names:
        command = group.get_command(ctx, name)
        assert command is not None  # noqa: S101  click listed it
        inner = click.Context(command, info_name=name, parent=ctx)
        if isinstance(command, click.Group):
            yield from _below(command, inner, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command, inner


def _exit_codes() -> str:
    codes = dict(OTHER_CODES)
    for name in errors.__all__:
        error = getattr(errors, name)
        if isinstance(error, type) and errors.ForgeError in error.__bases__:
            codes[error.exit_code] = (error.__doc__ or "").strip().splitlines()[0].rstrip(".")
    lines = ["## Exit codes", "", "| code | meaning |", "|---:|---|"]
    lines += [f"| {code} | {text[:1].lower() + text[1:]} |" for code, text in sorted(codes.items())]
    return "\n".join(lines) + "\n"


def _overview(rows: Sequence[tuple[str, click.Command, click.Context]]) -> str:
    lines = ["## All commands", "", "| command | |", "|---|---|"]
    for name, command, _ in rows:
        lines.append(f"| [`{name}`](#{_anchor(name)}) | {_cell(_summary(name, command))} |")
    return "\n".join(lines) + "\n"


def _section(name: str, command: click.Command, ctx: click.Context) -> str:
    usage = command.get_usage(ctx).removeprefix("Usage: ")
    lines = [f"## {name}", "", *_prose(name, command), "", "```text", usage, "```", ""]
    options = [item for item in command.params if isinstance(item, click.Option)]
    if options:
        lines += ["| option | | default |", "|---|---|---|"]
        lines += [_option(option, ctx) for option in options if not option.hidden]
        lines.append("")
    return "\n".join(lines)


def _prose(name: str, command: click.Command) -> list[str]:
    """The help text; its example blocks become code blocks."""
    lines: list[str] = []
    for block in (command.help or "").split("\n\n"):
        if block.lstrip().startswith("\b"):
            example = [line.strip() for line in block.lstrip().removeprefix("\b").splitlines()]
            lines += ["```console", *(_example(line) for line in example if line), "```", ""]
        else:
            lines += [" ".join(block.split()), ""]
    if name.split()[1] in PIPELINE_COMMANDS:
        lines[0] = _summary(name, command)
    return lines[:-1]


def _example(line: str) -> str:
    return f"$ {line}" if line.startswith(("forge", "FORGE")) else f"    {line}"


def _summary(name: str, command: click.Command) -> str:
    """First sentence of the help; for a pipeline that of its verb, not of its function."""
    text = command.help or ""
    if (verb := name.split()[1]) in PIPELINE_COMMANDS:
        group = cli.get_command(click.Context(cli), verb)
        text = (group.help if group else "") or ""
    return " ".join(text.split("\n\n")[0].split())


def _option(option: click.Option, ctx: click.Context) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    if not option.is_flag:
        flags += f" `{option.make_metavar(ctx)}`"
    return f"| {_cell(flags)} | {_cell(_help(option))} | {_cell(_default(option, ctx))} |"


def _help(option: click.Option) -> str:
    text = " ".join((option.help or "").split())
    variable = option.envvar if isinstance(option.envvar, str) else ""
    return f"{text} Environment: `{variable}`." if variable else text


def _default(option: click.Option, ctx: click.Context) -> str:
    if option.opts[0] in MACHINE_DEFAULTS:
        return MACHINE_DEFAULTS[option.opts[0]]
    if option.required:
        return "required"
    if not option.show_default:
        return ""
    value = option.get_default(ctx, call=False)
    if value is None or value is False or value == () or callable(value):
        return ""
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
