"""Text that GitHub's runner must not read as commands.

The runner reads every line of a job's log. A line that begins with `::name::`, after blanks, is a
command; so is `##[name]` anywhere in a line, its older form. A command hides text (`add-mask`),
sets outputs or variables of the job, or switches commands off.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["escape", "escape_property", "in_actions", "inert"]


def in_actions(environment: Mapping[str, str]) -> bool:
    """Return whether GitHub's runner reads what this process prints."""
    return environment.get("GITHUB_ACTIONS") == "true"


def inert(text: str) -> str:
    """Return a text of one or more lines without commands; all others are unchanged.

    A carriage return ends a line for the runner, too, so it becomes a line feed.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(map(_line, lines))


def escape(text: str) -> str:
    """Return a text for the message of a command: one line."""
    one_line = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return one_line.replace("##[", "## [")


def escape_property(text: str) -> str:
    """Return a text for a property of a command, such as `title`."""
    return escape(text).replace(":", "%3A").replace(",", "%2C")


def _line(line: str) -> str:
    line = line.replace("##[", "## [")
    bare = line.lstrip()
    if bare.startswith("::"):
        return f"{line[: len(line) - len(bare)]}: {bare[1:]}"
    return line
