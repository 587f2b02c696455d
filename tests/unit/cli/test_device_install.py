"""`forge device install` and `uninstall` as they are called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from forge.cli import main
from forge.device import install
from forge.device.install import Installer, UpdateSource


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = tmp_path / "root.json"
    path.write_text('{"signed": {"_type": "root"}}')
    return str(path)


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(install, "this_program", lambda _root: Path("/opt/forge/bin/forge"))
    folder = tmp_path / "image"
    (folder / "etc").mkdir(parents=True)
    return folder


def test_a_dry_run_prints_each_step(
    image: Path, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["device", "install", "https://bundles.example/prod", "--root", root, "--name", "llm"]
    call += ["--prefix", str(image), "--dry-run"]
    assert main(call) == 0
    text = capsys.readouterr().out
    for said in (
        "run useradd --prefix", "folder /etc/forge, mode 0755, owner root",
        "file /etc/forge/device.env, mode 0600", "folder /var/lib/forge, mode 0750, owner forge",
        "device provision --store https://bundles.example/prod", "(as forge)",
        "file /etc/systemd/system/forge-device.service", "enable forge-device.service",
    ):  # fmt: skip
        assert said in " ".join(text.split())
    assert main([*call, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dry_run"], document["skipped"]) == (True, [])
    assert document["steps"][0].startswith("run useradd")
    assert sorted(path.name for path in image.rglob("*")) == ["etc"]


def test_the_options_of_provisioning_are_passed_on(
    image: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[UpdateSource] = []
    monkeypatch.setattr(Installer, "install", lambda _one, source: given.append(source))
    call = ["device", "install", "llm.forge", "--root", root, "--name", "llm", "--channel", "edge"]
    call += ["--mirror", "https://m.example/x", "--limit-rate", "2M", "--prefix", str(image)]
    assert main(call) == 0
    [source] = given
    assert source.words() == (
        "--name", "llm", "--channel", "edge", "--mirror", "https://m.example/x",
        "--limit-rate", "2000000", "--offline",
    )  # fmt: skip
    assert source.store_url == "llm.forge"


def test_what_was_not_done_is_an_error_after_the_rest_was_done(
    image: Path, root: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_systemd(installer: Installer, _source: UpdateSource) -> None:
        installer.report("folder /etc/forge")
        installer.skipped.append("systemd does not run here")

    monkeypatch.setattr(Installer, "install", without_systemd)
    call = ["device", "install", "/store", "--root", root, "--name", "llm", "--prefix", str(image)]
    assert main(call) == 3
    out, err = capsys.readouterr()
    assert "folder /etc/forge" in out
    assert "systemd does not run here" in err


def test_a_second_run_says_that_there_is_nothing_to_do(
    image: Path,
    root: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "bin").mkdir()
    for name, does in (
        ("useradd", f"echo forge:x:$(id -u):$(id -g) | tee {image}/etc/passwd > {image}/etc/group"),
        ("systemctl", f"case $3 in is-*) test -e {image}/on ;; *) touch {image}/on ;; esac"),
    ):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "llm.forge").write_bytes(b"a bundle")
    call = ["device", "install", str(tmp_path / "llm.forge"), "--root", root, "--name", "llm"]
    call += ["--prefix", str(image)]
    assert main(call) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "llm.forge to /var/lib/forge/source/llm.forge" in text
    assert "enable forge-device.service" in text
    for again in ([], ["--dry-run"]):
        assert main([*call, *again]) == 0
        assert capsys.readouterr().out == "Nothing to do: everything is as it should be.\n"


def test_a_file_that_is_no_root_is_refused_first(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text("{}")
    call = ["device", "install", "/store", "--root", str(tmp_path / "other.json"), "--name", "llm"]
    assert main([*call, "--prefix", str(image)]) == 3
    assert "not TUF root metadata" in capsys.readouterr().err
    assert sorted(path.name for path in image.rglob("*")) == ["etc"]


def test_purging_asks_first(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image / "var/lib/forge").mkdir(parents=True)
    call = ["device", "uninstall", "--purge", "--prefix", str(image)]
    assert main(call) == 2  # there is no terminal
    assert (image / "var/lib/forge").is_dir()
    capsys.readouterr()
    assert main([*call, "--yes"]) == 0
    assert "remove /var/lib/forge" in capsys.readouterr().out
    assert not (image / "var/lib/forge").exists()
