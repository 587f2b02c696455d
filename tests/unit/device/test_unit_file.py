"""The systemd unit: it is valid, and as closed as the docs say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
UNIT = ROOT / "deploy" / "systemd" / "forge-device.service"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze (Debian: systemd) is not here"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def exposure(unit: Path) -> float:
    done = analyze("security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze knows no --offline: {done.stderr.strip()}")
    return float(found.group(1))


def test_the_unit_is_as_closed_as_the_docs_say() -> None:
    page = ROOT / "docs" / "how-to" / "run-a-device.md"
    said = re.search(r"rates it \*\*([\d.]+) OK\*\*", page.read_text())
    assert said is not None
    # Other versions of systemd weigh a little differently.
    assert exposure(UNIT) == pytest.approx(float(said.group(1)), abs=0.3)


def test_a_plain_unit_is_far_more_open(tmp_path: Path) -> None:
    plain = tmp_path / "plain.service"
    plain.write_text("[Service]\nExecStart=/bin/true\n")
    assert exposure(plain) > 9


def test_the_unit_has_no_line_that_systemd_does_not_know(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/forge/bin/forge", "/bin/true"))
    done = analyze("verify", unit)
    assert done.stderr == ""
    unit.write_text(unit.read_text().replace("OOMPolicy=", "OOMPolice="))
    assert "OOMPolice" in analyze("verify", unit).stderr
