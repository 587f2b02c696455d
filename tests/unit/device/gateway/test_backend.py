"""The methods that the gateway calls: Triton's backend and the scripted one of tests have them."""

from __future__ import annotations

import inspect

import pytest

from forge.device.gateway.backend import Backend
from forge.device.gateway.triton_backend import TritonBackend
from tests.support.gateway_app import Script, ScriptedBackend

# For mypy, which alone can compare the types of a Protocol.
BACKENDS: tuple[Backend, ...] = (TritonBackend(), ScriptedBackend(Script()))


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", ["check", "start", "close"])
def test_a_backend_has_the_protocols_methods(backend: Backend, name: str) -> None:
    wanted, found = getattr(Backend, name), getattr(type(backend), name)
    assert len(inspect.signature(found).parameters) == len(inspect.signature(wanted).parameters)
    assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(wanted)
