"""A device carries nothing of the build side."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "boto3 botocore dagger starlette prometheus_client uvicorn tuf cryptography model_signing"
    " jinja2 rich httpx"
)
BUILD = "builders plan project runners release smoke cli"


@pytest.mark.parametrize("unwanted", [*HEAVY.split(), *(f"forge.{name}" for name in BUILD.split())])
def test_importing_the_device_loads_no(unwanted: str, loaded: frozenset[str]) -> None:
    assert not [name for name in loaded if name == unwanted or name.startswith(f"{unwanted}.")]


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    """Names in sys.modules of a fresh process after `import forge.device`."""
    program = "import sys, forge.device; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "forge.device.agent.agent" in done.stdout.split()
    return frozenset(done.stdout.split())
