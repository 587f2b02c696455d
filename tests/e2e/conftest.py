"""Servers of the tests."""

import pytest

from tests.support.device_world import triton_of, use_triton
from tests.support.seaweed import own_seaweedfs, seaweedfs

__all__ = ["own_seaweedfs", "seaweedfs", "triton", "triton_of_module"]


@pytest.fixture(autouse=True, scope="module")
def triton_of_module(request: pytest.FixtureRequest) -> None:
    """Choose the server of the bundles that fixtures of a module publish."""
    use_triton(triton_of(request))


@pytest.fixture(autouse=True)
def triton(request: pytest.FixtureRequest) -> None:
    """Choose the server of the bundles that this test publishes."""
    use_triton(triton_of(request))
