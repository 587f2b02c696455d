"""The command of the accuracy gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forge.accuracy.receipt import Receipt
from forge.accuracy.steps.gate import main
from tests.support.receipts import PROFILE, receipt


def run(folder: Path, measured: Receipt) -> int:
    for name in ("receipt", "verdict", "probe"):
        (folder / name).mkdir()
    (folder / "receipt" / "receipt.json").write_text(measured.model_dump_json())
    (folder / "receipt" / "probe.json").write_text('{"tokens": [1, 2], "logprobs": [-1.5]}')
    (folder / "settings.json").write_text(json.dumps({"accuracy": PROFILE}))
    return main(
        [
            *("--receipt", str(folder / "receipt"), "--settings", str(folder / "settings.json")),
            *("--output", str(folder / "verdict"), "--probe", str(folder / "probe")),
        ]
    )


def test_engine_that_passes_gives_its_probe_to_devices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, receipt(precision="int8")) == 0
    assert json.loads((tmp_path / "verdict" / "accuracy.json").read_text())["passed"] is True
    assert json.loads((tmp_path / "probe" / "probe.json").read_text())["tokens"] == [1, 2]
    assert "decode" in capsys.readouterr().out


def test_engine_that_fails_gives_no_probe_and_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, receipt(precision="int8", kl_mean=3.1)) == 6
    assert list((tmp_path / "probe").iterdir()) == []
    shown = capsys.readouterr()
    assert "3.1" in shown.out
    assert "nothing was published" in shown.err


def test_receipt_that_is_not_valid_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("receipt", "verdict", "probe"):
        (tmp_path / name).mkdir()
    (tmp_path / "receipt" / "receipt.json").write_text("{}")
    (tmp_path / "settings.json").write_text(json.dumps({"accuracy": PROFILE}))
    argv = ["--receipt", str(tmp_path / "receipt"), "--settings", str(tmp_path / "settings.json")]
    argv += ["--output", str(tmp_path / "verdict"), "--probe", str(tmp_path / "probe")]
    assert main(argv) == 3
    assert "receipt.json is not valid" in capsys.readouterr().err
