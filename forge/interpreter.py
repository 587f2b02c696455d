"""Facts of a Python interpreter of this machine, read without running any installed package.

An interpreter runs `*.pth` files and `sitecustomize` of its packages when it starts, and those of a
virtual environment if it is started by a link in it, also with `-I`. So the file behind the links
is run, with `-S`, which leaves out the module `site`.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.errors import ConfigurationError

__all__ = ["InterpreterFacts", "command", "facts_of", "libpython_folder", "variables"]

_TIMEOUT_S: Final = 60.0
# `posix_prefix` is the layout of virtual environments; Debian changes only the default one.
_PROGRAM: Final = """
import json, sys, sysconfig as s
v, prefix = s.get_config_var, sys.argv[1]
at = ("posix_prefix", {"base": prefix, "platbase": prefix}) if prefix else ()
print(json.dumps([s.get_python_version(), s.get_path("purelib", *at),
    [f"{v('LIBDIR')}/{v('MULTIARCH')}", v("LIBDIR")], v("INSTSONAME")]))
"""


@dataclass(frozen=True, slots=True)
class InterpreterFacts:
    """What an interpreter says of itself.

    Attributes:
        version: `3.11`.
        site_packages: folder of packages.
        library_folders: where its shared library may be, the first one preferred.
        library: name of its library, `libpython3.11.so.1.0`; one that ends with `.a` is not shared.
    """

    version: str
    site_packages: Path
    library_folders: tuple[Path, ...]
    library: str


def command(interpreter: Path, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs an interpreter without any package."""
    return [interpreter.resolve(), "-I", "-S", *arguments]


def variables() -> dict[str, str]:
    """Return the variables that an interpreter needs to start: where its own library is."""
    return {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}


def facts_of(interpreter: Path, prefix: Path | None = None) -> InterpreterFacts:
    """Return the facts of an interpreter.

    Args:
        interpreter: the program, or a link to it.
        prefix: the virtual environment whose `site_packages` are wanted. None: the interpreter's.

    Raises:
        ConfigurationError: it does not work.
    """
    argument = str(prefix.absolute()) if prefix else ""
    try:
        done = subprocess.run(
            command(interpreter, "-c", _PROGRAM, argument),
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_S,
            env=variables(),
        )
        version, site_packages, folders, library = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = f"{interpreter} is not a working Python interpreter"
        hint = "install that Python again"
        raise ConfigurationError(message, why=str(error), hint=hint) from None
    return InterpreterFacts(version, Path(site_packages), tuple(map(Path, folders)), library)


def libpython_folder(interpreter: Path, facts: InterpreterFacts | None = None) -> Path:
    """Return the folder of an interpreter's shared library, which Triton's Python backend loads.

    Args:
        interpreter: the program, or a link to it.
        facts: of this interpreter, with any prefix. None: they are asked for.

    Raises:
        ConfigurationError: it names the package to install.
    """
    facts = facts or facts_of(interpreter)
    for folder in facts.library_folders:
        if ".so" in facts.library and (folder / facts.library).is_file():
            return folder
    python = facts.version
    message = f"Python {python} at {interpreter} has no shared library"
    folders = " or ".join(map(str, facts.library_folders))
    why = f"{facts.library} is not in {folders}; Triton's Python backend loads it"
    raise ConfigurationError(message, why=why, hint=f"apt-get install libpython{python}")
