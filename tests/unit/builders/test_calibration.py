"""Which engines are calibrated, and with which texts: what an SBOM names."""

from __future__ import annotations

import pytest

from forge.builders.calibration import calibration_set
from forge.errors import ConfigurationError
from forge.files import sha256_file
from tests.support.builder_plans import plan, profile

NAMES = ("development", "tesla-p40", "rtx-pro-4000", "rtx-pro-4000-aot", "jetson-agx-thor")
PRECISIONS = ("fp16", "bf16", "int8", "int4", "fp8", "nvfp4", "as-is")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_set_is_named_if_a_step_of_the_engine_reads_it(name: str, precision: str) -> None:
    override = f"engine.precision={precision}"
    try:
        steps = plan(name, override)
    except ConfigurationError:
        pytest.skip("the builder has no such precision")
    read = {
        source.sha256
        for step in steps.values()
        if "--calibration" in step.argv
        for source in step.sources
        if source.name == "calibration"
    }
    found = calibration_set(profile(name, override))
    assert ({sha256_file(found)} if found else set()) == read
