"""`forge device capture` and `forge profile check-hardware`."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from forge.cli import main
from forge.device.hardware.capture import hardware_of
from forge.device.hardware.capture_files import read_capture
from tests.support.captured import CAPTURES

ROOT = Path(__file__).resolve().parents[3]
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("FORGE_GPU", raising=False)


def checked(capsys: Captured, *options: str) -> tuple[int, dict[str, object]]:
    code = main(["profile", "check-hardware", "--json", *options])
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, document


@pytest.mark.parametrize(
    ("board", "code", "profile"),
    [
        ("thor-jetpack-7.2", 0, "jetson-agx-thor"),
        ("no-gpu", 0, "development"),
        ("orin-jetpack-6", 8, "jetson-agx-orin"),
        ("geforce", 8, None),
        ("rtx-and-p40", 8, None),
        ("broken-driver", 8, None),
    ],
)
def test_the_exit_code_is_0_only_where_one_profile_matches_and_fits(
    capsys: Captured, board: str, code: int, profile: str | None
) -> None:
    found, document = checked(capsys, "--from", str(CAPTURES / board))
    assert (found, document["profile"]) == (code, profile)


def test_a_person_reads_which_profile_why_and_why_not_the_others(capsys: Captured) -> None:
    assert main(["profile", "check-hardware", "--from", str(CAPTURES / "orin-jetpack-6")]) == 8
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "profile jetson-agx-orin" in lines
    assert any(line.startswith("jetson-agx-thor no") and "not at least 98304" in line
               for line in lines)  # fmt: skip
    assert "Does not fit" in lines
    assert "it needs JetPack 7.2" in err


@pytest.mark.parametrize("options", [("--profile", "tesla-p40"), ("--gpu", "1")])
def test_a_profile_or_a_gpu_may_be_named(capsys: Captured, options: tuple[str, str]) -> None:
    capture = str(CAPTURES / "rtx-and-p40")
    code, document = checked(capsys, "--from", capture, *options)
    assert (code, document["profile"]) == (0, "tesla-p40")


def test_a_folder_a_tar_and_the_board_itself_are_the_same(capsys: Captured, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "board.tar", "w") as archive:
        archive.add(CAPTURES / "thor-t4000", ".")
    assert checked(capsys, "--from", str(tmp_path / "board.tar")) == checked(
        capsys, "--from", str(CAPTURES / "thor-t4000")
    )


def test_this_machine_and_a_capture_of_it_are_the_same(capsys: Captured, tmp_path: Path) -> None:
    tar = tmp_path / "here.tar"
    assert main(["device", "capture", "-o", str(tar), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["file"], said["bytes"]) == (str(tar), tar.stat().st_size)
    assert said["files"] > 0
    (_, live), (_, again) = checked(capsys), checked(capsys, "--from", str(tar))
    for document in (live, again):
        for gpu in document["hardware"]["gpus"]:  # type: ignore[index]
            gpu["uuid"] = gpu["board"] = None
    assert again["hardware"] == live["hardware"]
    assert again["profile"] == live["profile"]


def test_what_was_written_is_a_capture_and_says_what_it_is(
    capsys: Captured, tmp_path: Path
) -> None:
    tar = tmp_path / "here.tar"
    assert main(["device", "capture", "--output", str(tar)]) == 0
    assert str(tar) in capsys.readouterr().out.replace("\n", "")
    assert hardware_of(read_capture(tar)).platform.startswith("linux/")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["device", "capture"], 2),
        (["device", "capture", "-o", "/dev/null/x.tar"], 3),
        (["profile", "check-hardware", "--from", "/nowhere.tar"], 2),
        (["profile", "check-hardware", "--from", "README.md"], 3),
        (["profile", "check-hardware", "--from", str(CAPTURES / "geforce"), "--profile", "x"], 2),
        (["profile", "check-hardware", "--from", str(CAPTURES / "geforce"), "--gpu", "9"], 2),
    ],
)
def test_what_is_not_right_has_the_exit_code_of_its_kind(
    capsys: Captured, arguments: list[str], code: int
) -> None:
    assert main(arguments) == code
    assert "Traceback" not in capsys.readouterr().err


def test_text_of_a_capture_cannot_change_the_terminal(capsys: Captured, tmp_path: Path) -> None:
    tree = tmp_path / "root" / "proc" / "device-tree"
    tree.mkdir(parents=True)
    (tree / "model").write_bytes(b"Board\x1b[2J\x07\0")
    (tmp_path / "capture.json").write_text("{}")
    main(["profile", "check-hardware", "--from", str(tmp_path)])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "Board" in out
