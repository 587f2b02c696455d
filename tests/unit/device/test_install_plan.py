"""The unit runs the program that was installed, if the service can see and systemd can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.device.install import unit_template
from forge.device.install_plan import hidden_from_service, make_user, systemctl, unit_for
from forge.errors import ConfigurationError


def test_only_the_program_of_the_unit_changes() -> None:
    unit = unit_for(unit_template(), Path("/srv/forge-0.1/bin/forge")).decode()
    before, after = unit_template().splitlines(), unit.splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [
        (
            "ExecStart=/opt/forge/bin/forge device run --state /var/lib/forge",
            "ExecStart=/srv/forge-0.1/bin/forge device run --state /var/lib/forge",
        )
    ]


@pytest.mark.parametrize(
    "program",
    ["/root/.local/bin/forge", "/home/me/venv/bin/forge", "/opt/a b/forge",
     "/opt/%h/forge", "/opt/x\nUser=root/forge", '/opt/"/forge'],
)  # fmt: skip
def test_a_program_that_the_service_cannot_run_is_refused(program: str) -> None:
    with pytest.raises(ConfigurationError, match="The service cannot run") as caught:
        unit_for(unit_template(), Path(program))
    assert caught.value.exit_code == 3


def test_a_unit_without_its_line_is_a_bug_and_not_an_empty_service() -> None:
    with pytest.raises(ConfigurationError, match="no line ExecStart"):
        unit_for("[Service]\n", Path("/opt/forge/bin/forge"))


@pytest.mark.parametrize(
    ("path", "hidden"),
    [("/home/me/x", True), ("/homes/x", False), ("/run/user/7/x", True),
     ("/media/stick/x.forge", False),
     ("/var/lib/forge/x", False), ("/root/x", True)],
)  # fmt: skip
def test_homes_and_temporary_folders_are_hidden(path: str, *, hidden: bool) -> None:
    assert hidden_from_service(Path(path)) is hidden


def test_programs_are_told_of_an_image() -> None:
    assert systemctl(None, "enable", "x").argv == ("systemctl", "enable", "x")
    assert systemctl("/mnt", "enable", "x").argv == ("systemctl", "--root", "/mnt", "enable", "x")
    assert make_user("/mnt").argv[:3] == ("useradd", "--prefix", "/mnt")
    assert str(systemctl(None, "daemon-reload")) == "run systemctl daemon-reload"
