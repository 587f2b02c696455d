"""What is known of a checkpoint while a release is planned."""

from pathlib import Path

import pytest

from forge.builders import CheckpointFacts
from forge.checkpoint.facts import known_facts
from forge.checkpoint.url import parse
from forge.errors import ConfigurationError
from tests.support.checkpoints import model
from tests.support.gguf import gguf

PIN = "a" * 64


def known(url: str) -> CheckpointFacts:
    return known_facts(parse(url), url)


@pytest.mark.parametrize("scheme", ["pypi:a==1", f"hf:a/b@{'0' * 40}", "s3://b/x", "file:/nowhere"])
def test_url_tells_what_it_states(scheme: str) -> None:
    assert known(f"{scheme}#sha256={PIN}") == CheckpointFacts()
    assert known(f"{scheme}?path=*.gguf#sha256={PIN}") == CheckpointFacts(form="gguf")
    assert known(f"{scheme}#sha256={PIN}&architecture=llama").architecture == "llama"


def test_headers_of_a_file_here_tell_the_rest(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    expected = CheckpointFacts("gguf", "llama", "gpt2/qwen2", ("q4_1",))
    assert known(f"file:{tmp_path}/tiny.gguf#sha256={PIN}") == expected
    assert known(f"file:{tmp_path}?path=*.gguf#sha256={PIN}&architecture=llama") == expected


def test_folder_in_which_no_file_matches_is_an_error_of_the_step(tmp_path: Path) -> None:
    assert known(f"file:{tmp_path}#sha256={PIN}") == CheckpointFacts()


def test_only_selected_files_are_read(tmp_path: Path) -> None:
    model(tmp_path, files={"broken.safetensors": b"x"})
    url = f"file:{tmp_path}?path=model.safetensors&path=*.json#sha256={PIN}"
    assert known(url).architecture == "llama"


def test_file_that_is_not_what_the_url_states_is_refused(tmp_path: Path) -> None:
    model(tmp_path)
    with pytest.raises(ConfigurationError, match="another architecture than its URL says"):
        known(f"file:{tmp_path}#sha256={PIN}&architecture=qwen2")


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf()[:-1])
    with pytest.raises(ConfigurationError, match="cannot be used"):
        known(f"file:{tmp_path}/tiny.gguf#sha256={PIN}")
