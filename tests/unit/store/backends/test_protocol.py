"""What every backend has to have, and how often an object is read before it is called damaged."""

from __future__ import annotations

import inspect

import pytest

from forge.errors import StoreError
from forge.store.backends.archive import ArchiveObjects
from forge.store.backends.directory import DirectoryObjects
from forge.store.backends.memory import MemoryObjects
from forge.store.backends.mirrors import Mirrors
from forge.store.backends.protocol import BrokenOffError, Objects, StoreBusyError, read_attempts
from forge.store.backends.s3 import S3Objects
from forge.store.backends.web import WebObjects
from tests.support.memory_stores import Place

METHODS = sorted(name for name in vars(Objects) if not name.startswith("_"))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "backend", [ArchiveObjects, DirectoryObjects, MemoryObjects, Mirrors, S3Objects, WebObjects]
)
def test_every_backend_has_every_method_with_the_same_parameters(backend: type, name: str) -> None:
    expected, found = inspect.getattr_static(Objects, name), inspect.getattr_static(backend, name)
    if name == "url":
        assert isinstance(found, property)
        return
    wanted = inspect.signature(expected).parameters
    have = inspect.signature(found).parameters
    assert list(have) == list(wanted)
    for one, parameter in wanted.items():
        assert (have[one].kind, have[one].default) == (parameter.kind, parameter.default)


def test_the_contract_is_of_fifteen_methods_and_the_url() -> None:
    """A new one is to be tested in tests/e2e/test_store_objects.py for every backend, too."""
    assert len(METHODS) == 16


@pytest.mark.parametrize("elsewhere", [0, 1, 4])
def test_each_place_is_read_and_the_last_one_twice(elsewhere: int) -> None:
    place, left = Place(), elsewhere

    def report(name: str) -> bool:
        nonlocal left
        assert name == "x"
        left -= 1
        return left >= 0

    place.report_bad_copy = report  # type: ignore[method-assign]
    assert len(list(read_attempts(place, "x"))) == elsewhere + 2


def test_right_bytes_at_first_report_nothing() -> None:
    place, reported = Place(), list[str]()
    place.report_bad_copy = reported.append  # type: ignore[assignment, method-assign]
    for _ in read_attempts(place, "x"):
        break
    assert reported == []


def test_a_busy_store_says_how_long_to_wait_and_is_a_store_error() -> None:
    assert StoreBusyError("x").after_s == 0.0
    error = StoreBusyError("x", why="y", hint="z", after_s=7.5)
    assert (error.what, error.why, error.hint, error.after_s) == ("x", "y", "z", 7.5)
    assert issubclass(StoreBusyError, StoreError)
    assert issubclass(BrokenOffError, StoreError)
