"""What becomes a predicate: the files that steps wrote, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from forge.canonical import sha256
from forge.errors import ConfigurationError
from forge.release.attest.predicates import Predicate, write_predicate
from forge.trust.predicates import (
    ACCURACY,
    ACCURACY_TYPE,
    CHECKPOINT,
    CHECKPOINT_TYPE,
    PERFORMANCE,
    PERFORMANCE_TYPE,
    verify_predicate,
)
from tests.support.receipts import receipt
from tests.support.release_world import World
from tests.support.signed_checkpoints import verified
from tests.support.smoke_results import result

TREE = "ab" * 32


def test_performance_is_the_whole_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(result().model_dump_json())
    made = Predicate.performance(tmp_path)
    assert (made.file, made.type) == (PERFORMANCE, PERFORMANCE_TYPE)
    assert made.content == result().model_dump(mode="json")


def test_accuracy_is_the_whole_receipt(tmp_path: Path) -> None:
    (tmp_path / "receipt.json").write_text(receipt(kl_mean=None).model_dump_json())
    made = Predicate.accuracy(tmp_path)
    assert (made.file, made.type) == (ACCURACY, ACCURACY_TYPE)
    assert made.content == receipt(kl_mean=None).model_dump(mode="json")


def test_signature_of_the_checkpoint_is_the_whole_record(tmp_path: Path) -> None:
    (tmp_path / "signature.json").write_text(verified().model_dump_json())
    made = Predicate.checkpoint(tmp_path)
    assert (made.file, made.type) == (CHECKPOINT, CHECKPOINT_TYPE)
    assert made.content == verified().model_dump(mode="json")


@pytest.mark.parametrize("make", [Predicate.performance, Predicate.accuracy, Predicate.checkpoint])
def test_folder_without_the_file_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        make(tmp_path)


def test_written_predicate_is_signed_for_its_tree(tmp_path: Path) -> None:
    world = World(tmp_path / "world", memory=True)
    content = receipt().model_dump(mode="json")
    digest = write_predicate(
        Predicate(ACCURACY, ACCURACY_TYPE, content), TREE, world.ring(), tmp_path
    )
    data = (tmp_path / ACCURACY).read_bytes()
    assert sha256(data) == digest
    keys = world.ring().proof_keys()
    found = verify_predicate(data, keys, tree=TREE, predicate_type=ACCURACY_TYPE)
    assert found == content
