"""Licences of the packages of a tool environment, as their own metadata state them.

Only metadata are read; no program of the environment runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Final, cast

from forge.errors import ConfigurationError

__all__ = ["installed_licences"]

_MAX_TEXT: Final = 120  # some packages have the whole text of the licence in the field
_SEPARATORS: Final = re.compile(r"[-_.]+")
_CLASSIFIER: Final = "License :: "
# Classifiers that name one licence of the SPDX list (spdx.org/licenses); others are kept in words.
_SPDX: Final = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "",  # several licences
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}


def installed_licences(environment: Path) -> dict[str, str]:
    """Return the licence of each installed package that states one, by PEP 503 name.

    A licence is an SPDX expression where the package gives one (PEP 639), else the SPDX id of its
    classifier, else the words of the package.

    Raises:
        ConfigurationError: the folder is not a virtual environment.
    """
    folders = sorted(environment.glob("lib/python3.*/site-packages"))
    if not folders:
        raise ConfigurationError(f"{environment} is not a virtual environment of Python")
    found = {}
    for one in metadata.distributions(path=[str(folders[0])]):
        fields = cast("Message", one.metadata)  # importlib's own type lacks `get`
        licence = next(_stated(fields), "")
        name = str(fields.get("Name", ""))
        if licence and name:
            found[_SEPARATORS.sub("-", name).lower()] = licence
    return dict(sorted(found.items()))


def _stated(fields: Message) -> Iterator[str]:
    """Yield what a package says of its licence, the most exact statement first."""
    yield from _short(fields.get_all("License-Expression"))
    words = [
        one.rpartition(" :: ")[2]
        for one in fields.get_all("Classifier") or ()
        if one.startswith(_CLASSIFIER)
    ]
    if len(words) == 1 and _SPDX.get(words[0]):
        yield _SPDX[words[0]]
    yield from _short(fields.get_all("License"))
    yield from _short(words)


def _short(values: list[str] | None) -> Iterator[str]:
    for value in values or ():
        text = " ".join(value.split())
        if text and len(text) <= _MAX_TEXT and text.upper() != "UNKNOWN":
            yield text
