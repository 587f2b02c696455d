"""`forge bundle compare`: two published versions, two stores, or two files."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from forge.accuracy.receipt import Receipt
from forge.cli import main
from forge.release.attest.predicates import Predicate
from forge.trust.predicates import ACCURACY, ACCURACY_TYPE
from tests.support.receipts import receipt
from tests.support.release_world import World

Capture = pytest.CaptureFixture[str]


def world(folder: Path, **versions: Receipt | None) -> str:
    """A store with these versions (`v100`: 1.0.0); its URL."""
    folder.mkdir()
    made = World(folder)
    for version, found in versions.items():
        content = found.model_dump(mode="json") if found else None
        predicates = [Predicate(ACCURACY, ACCURACY_TYPE, content)] if content else []
        made.release(".".join(version.removeprefix("v")), *predicates)
    return str(folder / "store")


def write(path: Path, found: Receipt) -> str:
    path.write_text(found.model_dump_json())
    return str(path)


def test_equal_versions_with_other_bytes_exit_0(tmp_path: Path, capsys: Capture) -> None:
    store = world(tmp_path / "a", v100=receipt(kl_mean=0.0010), v101=receipt(kl_mean=0.0011))
    assert main(["bundle", "compare", "1.0.0", "1.0.1", "--store", store]) == 0
    shown = capsys.readouterr().out
    assert "development: equal; bytes different; fp16" in shown
    assert "differs" not in shown.replace("may differ by", "")


def test_versions_that_differ_exit_6_and_name_the_figure(tmp_path: Path, capsys: Capture) -> None:
    worse = receipt(kl_mean=0.004, only="decode")
    store = world(tmp_path / "a", v100=receipt(), v101=worse)
    assert main(["bundle", "compare", "1.0.0", "1.0.1", "--store", store]) == 6
    shown = capsys.readouterr()
    assert "development: decode: kl_mean 0.001 and 0.004, may differ by 0.001" in shown.err
    assert "not equal" in shown.out


def test_one_version_is_compared_between_two_stores(tmp_path: Path, capsys: Capture) -> None:
    stores = [
        world(tmp_path / one, v100=receipt(kl_mean=kl)) for one, kl in (("a", 1e-3), ("b", 9e-3))
    ]
    argv = ["bundle", "compare", "1.0.0", "1.0.0", "--store", stores[0], "--other-store"]
    assert main([*argv, stores[0]]) == 0
    assert main([*argv, stores[1]]) == 6
    assert "bytes the same" in capsys.readouterr().out


def test_json_is_printed_for_equal_and_other_builds(tmp_path: Path, capsys: Capture) -> None:
    store = world(tmp_path / "a", v100=receipt(), v101=receipt(same_top=0.9))
    argv = ["bundle", "compare", "--store", store, "--json", "--profile", "development"]
    for versions, code in ((("1.0.0", "1.0.0"), 0), (("1.0.0", "1.0.1"), 6)):
        assert main([*argv, *versions]) == code
        (found,) = json.loads(capsys.readouterr().out)
        assert found["profile"] == "development"
        assert found["same_bytes"] is (code == 0)
        assert found["comparison"]["equal"] is (code == 0)


def test_files_of_a_step_and_of_a_bundle_are_compared(tmp_path: Path, capsys: Capture) -> None:
    plain = write(tmp_path / "receipt.json", receipt())
    statement = json.dumps({"predicate": receipt().model_dump(mode="json")}).encode()
    envelope = tmp_path / "accuracy.dsse.json"
    envelope.write_text(json.dumps({"payload": base64.b64encode(statement).decode()}))
    assert main(["bundle", "compare", plain, str(envelope), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["profile"], found["same_bytes"]) == (None, None)
    assert main(["bundle", "compare", plain, write(tmp_path / "b.json", receipt(kl_mean=1.0))]) == 6


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"payload": "e30="}', "\udcff"])
def test_file_that_is_no_receipt_exits_2(tmp_path: Path, capsys: Capture, content: str) -> None:
    good = write(tmp_path / "receipt.json", receipt())
    for name in ("other.json", "other.dsse.json"):
        path = tmp_path / name
        path.write_bytes(content.encode(errors="surrogateescape"))
        assert main(["bundle", "compare", good, str(path)]) == 2
        assert f"{name} is not a valid receipt" in capsys.readouterr().err
    assert main(["bundle", "compare", good, str(tmp_path / "none.json")]) == 2


def test_file_is_not_compared_with_a_version(tmp_path: Path, capsys: Capture) -> None:
    assert main(["bundle", "compare", write(tmp_path / "a.json", receipt()), "1.0.0"]) == 2
    assert "the other build is a version" in capsys.readouterr().err


def test_version_without_a_receipt_and_versions_of_no_common_profile(
    tmp_path: Path, capsys: Capture
) -> None:
    store = world(tmp_path / "a", v100=receipt(), v101=None)
    assert main(["bundle", "compare", "1.0.0", "1.0.1", "--store", store]) == 3
    assert "1.0.1 for development has no receipt" in capsys.readouterr().err
    assert main(["bundle", "compare", "1.0.0", "2.0.0", "--store", store]) == 2
    assert main(["bundle", "compare", "1.0.0", "1.0.1", "--store", store, "--profile", "x"]) == 2


def test_receipts_of_two_checkpoints_exit_3(tmp_path: Path, capsys: Capture) -> None:
    document = receipt().model_dump(mode="json")
    document["reference"]["sha256"] = "b" * 64
    other = write(tmp_path / "b.json", Receipt.model_validate(document))
    assert main(["bundle", "compare", write(tmp_path / "a.json", receipt()), other]) == 3
    assert "different references" in capsys.readouterr().err
