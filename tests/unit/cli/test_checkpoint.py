"""`forge checkpoint pin --embedding`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forge.checkpoint import url as checkpoint_url
from forge.cli.checkpoint import checkpoint
from forge.errors import ConfigurationError

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "modules.json": b"[]",
    "1_Pooling/config.json": b"{}",
    "model.safetensors": b"weights",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Files of a model of sentence-transformers, which are not read."""
    for name, content in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "model"


def pin(*arguments: str) -> Result:
    return CliRunner().invoke(checkpoint, ["pin", "--embedding", *arguments])


def sha256sum(names: list[str]) -> str:
    """The pin of several files: of what `sha256sum` prints of them."""
    lines = [f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(names)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_url_has_the_digest_of_all_files_and_states_nothing_of_a_language_model(
    model: Path,
) -> None:
    found = pin(f"file:{model}")
    assert found.exit_code == 0, found.output
    assert found.stdout == f"file:{model}#sha256={sha256sum(list(FILES))}\n"
    assert checkpoint_url.parse(found.stdout.strip()).sha256 == sha256sum(list(FILES))


def test_only_the_files_of_the_url_count(model: Path) -> None:
    url = f"file:{model}?path=*.json"
    digest = sha256sum(["config.json", "modules.json", "1_Pooling/config.json"])
    assert pin(url).stdout == f"{url}#sha256={digest}\n"


def test_an_older_digest_is_replaced(model: Path) -> None:
    assert pin(f"file:{model}#sha256={'0' * 64}").stdout == pin(f"file:{model}").stdout


def test_json_has_the_url_the_digest_and_the_size(model: Path) -> None:
    found = json.loads(pin(f"file:{model}", "--json").stdout)
    digest = sha256sum(list(FILES))
    size = sum(map(len, FILES.values()))
    assert found == {"url": f"file:{model}#sha256={digest}", "sha256": digest, "bytes": size}


@pytest.mark.parametrize("option", [("--signer", "key:vendor.pub"), ("--any-builder",)])
def test_options_of_language_models_are_usage_errors(model: Path, option: tuple[str, ...]) -> None:
    found = pin(f"file:{model}", *option)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "--embedding takes neither --signer nor --any-builder" in found.stderr


@pytest.mark.parametrize("what", ["file:{}/nothing", "file:{}?path=*.gguf", "ftp:{}"])
def test_a_url_without_files_is_refused(model: Path, what: str) -> None:
    found = pin(what.format(model))
    assert isinstance(found.exception, ConfigurationError)
    assert found.stdout == ""
