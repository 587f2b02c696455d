"""A tree with a second model, and that trees without one are what they were."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from forge.errors import ConfigurationError
from forge.serving.repository.render import EmbeddingModel, Runtime, render
from forge.serving.repository.spec import read_spec
from tests.support.serving import render_settings

FACTS = {"dimensions": 3, "max_seq_len": 16, "pooling": "mean", "normalize": True}
RUNTIME = {"openvino": "2026.4.1"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Two engines and a lock."""
    for name in ("engine", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "openvino_model.xml").write_text(name)
    write(tmp_path / "engine", builder="openvino", runtime=RUNTIME)
    write(tmp_path / "second", builder="openvino", runtime=RUNTIME, embedding=FACTS)
    (tmp_path / "requirements.lock").write_text("nvidia-pytriton==0.7.0 --hash=sha256:00\n")
    return tmp_path


def write(folder: Path, **facts: Any) -> None:
    (folder / "engine.json").write_text(json.dumps(facts))


def rendered(made: Path, name: str = "minilm", probe: Path | None = None, **changes: Any) -> Path:
    second = EmbeddingModel(made / "second", name, probe)
    runtime = Runtime(made / "requirements.lock")
    settings = render_settings(**changes)
    render(made / "engine", settings, runtime, made / "tree", embedding=second)
    return made / "tree"


def test_the_second_model_has_a_folder_a_configuration_and_limits_of_its_own(made: Path) -> None:
    tree = rendered(made)
    folder = tree / "models" / "embedding"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    modules = ("embedding_batches", "embedding_words", "encoder", "model", "model_io", "sampling",
               "turns")  # fmt: skip
    assert files == {
        "config.pbtxt",
        "1/engine/engine.json",
        "1/engine/openvino_model.xml",
        *(f"1/{name}.py" for name in modules),
    }
    assert (folder / "1/engine/openvino_model.xml").read_text() == "second"
    config = (folder / "config.pbtxt").read_text()
    assert config.startswith('name: "embedding"\n')
    assert 'key: "max_seq_len", value: { string_value: "16" }' in config
    spec = read_spec(tree)
    assert spec.models == ("llm", "embedding")
    assert spec.embedding
    assert (spec.embedding.name, spec.embedding.dimensions) == ("minilm", 3)
    assert spec.max_seq_len == 1024


def test_a_tree_without_it_is_read_and_written_as_by_earlier_versions(made: Path) -> None:
    lock = Runtime(made / "requirements.lock")
    render(made / "engine", render_settings(), lock, made / "tree")
    document = json.loads((made / "tree" / "serving.json").read_bytes())
    assert "embedding" not in document
    assert {path.name for path in (made / "tree" / "models").iterdir()} == {"llm"}
    assert read_spec(made / "tree").models == ("llm",)


def test_the_two_models_have_different_names_in_triton(made: Path) -> None:
    tree = rendered(made, serving__model="embedding")
    assert read_spec(tree).models == ("embedding", "embedding_model")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"builder": "tensorrt-rtx", "runtime": {}, "embedding": FACTS}, "tensorrt-rtx"),
        ({"builder": "openvino", "runtime": {"openvino": "1"}, "embedding": FACTS}, "openvino"),
        ({"builder": "openvino", "runtime": RUNTIME}, "embedding"),
        (
            {"builder": "openvino", "runtime": RUNTIME, "embedding": {**FACTS, "pooling": "max"}},
            "pooling",
        ),
    ],
)
def test_a_second_model_that_cannot_be_served_is_refused(
    made: Path, facts: dict[str, Any], why: str
) -> None:
    write(made / "second", **facts)
    with pytest.raises(ConfigurationError, match=why):
        rendered(made)


@pytest.mark.parametrize("name", ["", "a b", "../x", "a" * 65])
def test_a_name_that_is_not_valid_is_refused(made: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        rendered(made, name)


def test_the_probe_is_part_of_the_tree_and_checked(made: Path) -> None:
    vector = base64.b64encode(struct.pack("<3f", 1, 0, 0)).decode()
    probe = made / "probe.json"
    probe.write_text(json.dumps({"texts": ["a"], "embeddings": [vector], "tools": {"torch": "2"}}))
    tree = rendered(made, probe=probe)
    kept = json.loads((tree / "embedding.json").read_bytes())
    assert kept == {"schema_version": 1, "texts": ["a"], "embeddings": [vector]}


def test_a_probe_that_is_not_valid_is_refused(made: Path) -> None:
    (made / "probe.json").write_text(json.dumps({"texts": ["a"], "embeddings": []}))
    with pytest.raises(ConfigurationError, match=r"probe\.json"):
        rendered(made, probe=made / "probe.json")
