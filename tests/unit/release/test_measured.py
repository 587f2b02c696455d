"""What was measured of a published bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forge.errors import CorruptedError
from forge.release.attest.predicates import Predicate
from forge.release.catalog import Catalog
from forge.release.measured import read_accuracy, read_performance, read_signature
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE, CHECKPOINT, CHECKPOINT_TYPE
from tests.support.receipts import receipt
from tests.support.release_world import World
from tests.support.signed_checkpoints import verified


def accuracy(content: dict[str, Any]) -> Predicate:
    return Predicate(ACCURACY, ACCURACY_TYPE, content)


def test_receipt_is_what_was_signed(tmp_path: Path) -> None:
    world, found = World(tmp_path), receipt(precision="u8")
    made = world.release("1.0.0", accuracy(found.model_dump(mode="json")))
    assert read_accuracy(world.objects, made) == found
    assert read_performance(world.objects, made) is None
    assert Catalog(world.objects).receipt("demo", "development", "1.0.1") == found


def test_bundle_without_a_receipt_has_none(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0")
    assert read_accuracy(world.objects, made) is None
    assert Catalog(world.objects).receipt("demo", "development", "1.0.1") is None


def test_receipt_that_is_not_valid_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    made = world.release("1.0.0", accuracy({"schema_version": 3}))
    with pytest.raises(CorruptedError, match=r"accuracy\.dsse\.json of demo 1\.0\.0"):
        read_accuracy(world.objects, made)


def test_baseline_is_the_newest_lower_version_of_the_profile(tmp_path: Path) -> None:
    world = World(tmp_path)
    for version, mean in (("1.0.0", 0.001), ("1.1.0", 0.002), ("2.0.0", 0.003)):
        content = receipt(kl_mean=mean).model_dump(mode="json")
        world.release(version, accuracy(content))
    catalog = Catalog(world.objects)
    assert catalog.receipt("demo", "development", "2.0.0") == receipt(kl_mean=0.002)
    assert catalog.receipt("demo", "other", "2.0.0") is None
    assert catalog.receipt("demo", "development", "1.0.0") is None


def test_signer_of_the_checkpoint_is_what_was_verified_or_none(tmp_path: Path) -> None:
    world, found = World(tmp_path), verified(identity="models@vendor.example", method="certificate")
    predicate = Predicate(CHECKPOINT, CHECKPOINT_TYPE, found.model_dump(mode="json"))
    made = world.release("1.0.0", predicate)
    assert read_signature(world.objects, made) == found
    assert read_signature(world.objects, world.release("1.1.0")) is None
