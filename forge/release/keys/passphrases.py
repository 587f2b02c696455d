"""Find the passphrases of the signing keys, and refuse one that is easily guessed.

One passphrase opens all keys of a folder. A key may have a passphrase of its own, as root keys that
different people hold.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from forge.errors import UsageError
from forge.release.keys.model import read_capped

__all__ = ["MIN_LENGTH", "OWN_FILES", "OwnPassphrases", "check_strength", "passphrase_source"]

OWN_FILES: Final = "FORGE_KEY_PASSPHRASE_FILES"
# NIST SP 800-63B-4, 3.1.1.2: at least 15 characters where a password is the only factor, no rules
# on its composition, and a list of expected words: the name of the user, of the service, …
MIN_LENGTH: Final = 15
_LEAST_OTHER: Final = 8  # characters besides those of expected words
_LEAST_DISTINCT: Final = 6
_RUNS: Final = (
    "0123456789" * 4,
    "abcdefghijklmnopqrstuvwxyz" * 2,
    "qwertyuiopasdfghjklzxcvbnm" * 2,
    "qwertzuiopasdfghjklyxcvbnm" * 2,
)
_EXPECTED: Final = ("forge", "passphrase", "password", "passwort", "secret", "signing", "release")
_LEAST_NAME: Final = 3  # shorter names are in many words


def passphrase_source(
    environment: Mapping[str, str],
    file: Path | None = None,
    prompt: Callable[[], str] | None = None,
) -> Callable[[], str]:
    """Return a function that reads the passphrase from `file`, the environment or `prompt`.

    The passphrase is never taken from the command line, which other users can read.

    Args:
        environment: searched for FORGE_PASSPHRASE_FILE and FORGE_PASSPHRASE.
        file: a file whose first line is the passphrase; takes precedence over `environment`.
        prompt: asks the user; None where there is no terminal.

    Returns:
        A function that returns the passphrase. It raises UsageError if there is none, or its file
        cannot be read or can be opened by other users.
    """

    def ask() -> str:
        path = file or environment.get("FORGE_PASSPHRASE_FILE")
        if path:
            text = _first_line(Path(path))
        else:
            text = environment.get("FORGE_PASSPHRASE", "") or (prompt() if prompt else "")
        if not text:
            raise UsageError(
                "No passphrase for the keys",
                hint="set FORGE_PASSPHRASE_FILE or FORGE_PASSPHRASE, or run in a terminal",
            )
        return text

    return ask


@dataclass(frozen=True)
class OwnPassphrases:
    """The passphrases of single keys.

    Attributes:
        files: by name of the key; the first line of the file is its passphrase.
        prompt: asks for the passphrase of the named key; None where there is no terminal.
        entered: passphrases that are known already, by name of the key.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    prompt: Callable[[str], str] | None = None
    entered: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str | None:
        """Return the passphrase of a key; None if it has none of its own.

        Raises:
            UsageError: its file is empty, cannot be read or can be opened by other users.
        """
        if name in self.entered:
            return self.entered[name]
        path = self.files.get(name)
        if path is None:
            return None
        text = _first_line(path)
        if not text:
            raise UsageError(f"No passphrase for the key {name}", why=f"{path} has no first line")
        return text

    def ask(self, name: str) -> str | None:
        """Return what the user enters; None where there is no terminal, or nothing was entered."""
        return (self.prompt(name) or None) if self.prompt else None

    def variable(self) -> str:
        """Return the files with absolute paths, as `read` reads them."""
        return os.pathsep.join(f"{name}={path.absolute()}" for name, path in self.files.items())

    @classmethod
    def read(
        cls, environment: Mapping[str, str], prompt: Callable[[str], str] | None = None
    ) -> OwnPassphrases:
        """Return those of FORGE_KEY_PASSPHRASE_FILES, `root-1=FILE:root-2=FILE`.

        Raises:
            UsageError: the variable is not valid.
        """
        files = {}
        for part in filter(None, environment.get(OWN_FILES, "").split(os.pathsep)):
            name, equals, path = part.partition("=")
            if not (name and equals and path):
                hint = f"{OWN_FILES}=root-1=FILE{os.pathsep}root-2=FILE"
                raise UsageError(f"{OWN_FILES} is not valid", why=repr(part), hint=hint)
            files[name] = Path(path).expanduser()
        return cls(files, prompt)


def check_strength(passphrase: str, names: Iterable[str] = ()) -> None:
    """Refuse a passphrase that is easily guessed; who has a copy of a key file may try billions.

    Args:
        passphrase: for new key files.
        names: names that are expected in it, such as the project's; the user's are added.

    Raises:
        UsageError: it is too short, or has little besides expected words, runs or repetitions.
    """
    reason = _weakness(passphrase, [*names, *_user_names()])
    if reason:
        raise UsageError(
            "The passphrase of the keys is too weak",
            why=reason,
            hint=f"use {MIN_LENGTH} characters or more, for example five random words, or: "
            "head -c 24 /dev/urandom | base64",
        )


def _weakness(passphrase: str, names: Iterable[str]) -> str:
    if len(passphrase) < MIN_LENGTH:
        return f"it has {len(passphrase)} characters, at least {MIN_LENGTH} are required"
    text = passphrase.casefold()
    if len(set(text)) < _LEAST_DISTINCT:
        return f"it has fewer than {_LEAST_DISTINCT} different characters"
    letters = re.sub(r"[\W_]", "", text)
    if _repeats(letters):
        return "it repeats one part"
    if any(letters in run or letters in run[::-1] for run in _RUNS):
        return "it follows the alphabet, the digits or the keyboard"
    words = sorted({_plain(name) for name in [*names, *_EXPECTED]}, key=len, reverse=True)
    rest = letters
    for word in words:
        if len(word) >= _LEAST_NAME:
            rest = rest.replace(word, "")
    if len(re.sub(r"\d", "", rest)) < _LEAST_OTHER and len(rest) < len(letters):
        return "it is little more than the name of the user or the project, or an expected word"
    return ""


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _repeats(text: str) -> bool:
    """Return whether the text is one part, of at most a third of it, again and again."""
    return any(
        text == (text[:size] * len(text))[: len(text)] for size in range(1, len(text) // 3 + 1)
    )


def _user_names() -> list[str]:
    try:
        return [getpass.getuser()]
    except (KeyError, OSError):  # a user id without an account
        return []


def _first_line(path: Path) -> str:
    data = read_capped(path, private=True)
    return data.decode(errors="replace").split("\n", 1)[0].rstrip("\r")
