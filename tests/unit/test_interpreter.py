"""Facts of interpreters: of this one, and of a stand-in without a library."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from forge.errors import ConfigurationError
from forge.interpreter import facts_of, libpython_folder

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_facts_are_those_that_the_interpreter_says_of_itself() -> None:
    base = Path(sys.base_prefix) / "bin" / f"python{PYTHON}"
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([base, "-c", program], capture_output=True, text=True, check=True)
    found = facts_of(base)
    assert found.version == PYTHON
    assert str(found.site_packages) == done.stdout.strip()
    assert found.library == sysconfig.get_config_var("INSTSONAME")


def test_site_packages_of_an_environment_are_below_it(tmp_path: Path) -> None:
    found = facts_of(Path(sys.executable), prefix=Path(sys.prefix))
    assert found.site_packages == Path(sysconfig.get_path("purelib"))
    other = facts_of(Path(sys.executable), prefix=tmp_path).site_packages
    assert other.is_relative_to(tmp_path)


def test_variables_of_this_process_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that tells what it got: no secret, and the place of its library."""
    script = tmp_path / "python"
    script.write_text(
        '#!/bin/sh\necho "[\\"$FORGE_PASSPHRASE\\",'
        ' \\"$LD_LIBRARY_PATH\\", [\\"/x\\"], \\"a.so\\"]"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("FORGE_PASSPHRASE", "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/python/lib")
    found = facts_of(script)
    assert (found.version, found.site_packages) == ("", Path("/opt/python/lib"))


def test_libpython_folder_names_the_package_to_install(tmp_path: Path) -> None:
    """A stand-in for an interpreter whose libpython is not installed, as on bare Debian."""
    script = tmp_path / "bin" / "python"
    script.parent.mkdir()
    facts = '["3.11", "/x", ["/usr/lib/nowhere"], "libpython3.11.so.1.0"]'
    script.write_text(f"#!/bin/sh\necho '{facts}'\n")
    script.chmod(0o755)
    with pytest.raises(ConfigurationError, match="no shared library") as caught:
        libpython_folder(script)
    assert caught.value.hint == "apt-get install libpython3.11"


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere is not a working Python"):
        facts_of(tmp_path / "nowhere")
