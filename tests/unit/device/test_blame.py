"""Whose fault a failure is."""

from __future__ import annotations

import pytest

from forge.device.blame import blames
from forge.device.journal import Release
from forge.device.moves import Action, Activate, Fetch, Prepare, Probe, Switch
from forge.errors import (
    BundleError,
    ConfigurationError,
    CorruptedError,
    ForgeError,
    LoadFailedError,
    PortTakenError,
    SmokeGateError,
    StepFailedError,
    StoreError,
    TrustError,
    UsageError,
)

FETCH = Fetch(Release(name="llm", version="1", profile="development", manifest="0" * 64), "b")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (FETCH, TrustError("The provenance of this bundle cannot be believed")),
        (FETCH, TrustError("Unsafe path '../x' in a manifest")),
        (Prepare("b"), BundleError("serving.json is not valid")),
        (Activate("b"), BundleError("serving.json is not valid")),
        (Activate("b"), LoadFailedError("Triton ended with code 1 before it was ready")),
        (Probe("b"), SmokeGateError("1 of 1 golden prompts got a wrong answer")),
        (Probe("b"), StepFailedError("Triton is gone")),
        (Probe("b"), UsageError("The prompt has 999 tokens")),
    ],
)
def test_what_the_release_itself_does_wrong_is_its_fault(action: Action, error: ForgeError) -> None:
    assert blames(action, error)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (FETCH, StoreError("The store is out of reach")),
        (FETCH, CorruptedError("A pack is damaged")),
        (FETCH, ConfigurationError("The slot is not empty")),
        (Prepare("b"), ConfigurationError("Python 3.11 has no shared library")),
        (Prepare("b"), ConfigurationError("no interpreter found for Python 3.13")),
        (Prepare("b"), StepFailedError("The package index is out of reach")),
        (Activate("b"), ConfigurationError("Python 3.11 has no shared library")),
        (Activate("b"), StepFailedError("Triton could not be started")),
        (Activate("b"), PortTakenError("One of Triton's ports was taken")),
        (Probe("b"), StoreError("The disk fails")),
        (Switch("b"), ConfigurationError("The folder cannot be written")),
    ],
)
def test_what_the_machine_or_the_network_lacks_is_not(action: Action, error: ForgeError) -> None:
    assert not blames(action, error)
