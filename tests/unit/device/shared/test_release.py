"""Which release a manifest is, and the other slot."""

from __future__ import annotations

import hashlib

import pytest
from pydantic import ValidationError

from forge.device.shared.release import SLOTS, Release, other
from tests.support.manifests import manifest


def test_a_release_is_named_by_the_digest_of_its_manifests_bytes() -> None:
    one = manifest("1.0.0")
    release = Release.of(one)
    assert (release.name, release.version, release.profile) == ("llm", "1.0.0", "development")
    assert release.manifest == hashlib.sha256(one.encode()).hexdigest()


def test_manifests_that_differ_in_anything_are_different_releases() -> None:
    """A version that was published twice is two releases: a verdict is on one of them."""
    one = manifest("1.0.0")
    again = one.model_copy(update={"created": "2026-11-25T00:00:00Z"})
    assert Release.of(one) == Release.of(manifest("1.0.0"))
    assert Release.of(again) != Release.of(one)
    assert str(Release.of(again)) == str(Release.of(one)) == "llm 1.0.0 (development)"


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "sha256:" + "0" * 64])
def test_a_digest_that_is_not_one_is_refused(digest: str) -> None:
    with pytest.raises(ValidationError):
        Release(name="llm", version="1.0.0", profile="development", manifest=digest)


def test_a_field_more_is_refused() -> None:
    document = Release.of(manifest("1.0.0")).model_dump() | {"channel": "stable"}
    with pytest.raises(ValidationError):
        Release.model_validate(document)


def test_the_other_slot() -> None:
    assert other("a") == "b"
    assert other("b") == "a"
    assert other(None) == "a"
    assert {other(slot) for slot in SLOTS} == set(SLOTS)
