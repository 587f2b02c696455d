"""`forge keys builder`: what is printed can be pasted into forge.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from forge.cli.keys import keys
from forge.runners.project_file import read_project_file
from forge.trust.builders import name_of_key
from tests.support import cheap_keys

cheap_keys.use()
PASSPHRASE = {"FORGE_BUILDER_PASSPHRASE": "correct horse battery staple"}


def test_new_and_show_print_an_entry_for_the_project_file(tmp_path: Path) -> None:
    runner, path = CliRunner(), tmp_path / "GPU runner.pem"
    made = runner.invoke(keys, ["builder", "new", str(path)], env=PASSPHRASE)
    assert made.exit_code == 0, made.output
    (tmp_path / "forge.yaml").write_text(made.stdout)
    builders = read_project_file(tmp_path).builders
    assert builders is not None
    assert list(builders) == ["gpu-runner"]
    shown = runner.invoke(keys, ["builder", "show", str(path)], env=PASSPHRASE)
    assert shown.stdout == made.stdout
    document = json.loads(
        runner.invoke(keys, ["builder", "show", str(path), "--json"], env=PASSPHRASE).stdout
    )
    assert name_of_key(builders, document["keyid"]) == "gpu-runner"
    assert "PRIVATE" not in made.output + shown.output


@pytest.mark.parametrize("name", ["---.pem", "Ä.pem", "a" * 80 + ".pem"])
def test_name_of_each_file_becomes_a_valid_name(tmp_path: Path, name: str) -> None:
    made = CliRunner().invoke(keys, ["builder", "new", str(tmp_path / name)], env=PASSPHRASE)
    (tmp_path / "forge.yaml").write_text(made.stdout)
    assert read_project_file(tmp_path).builders
