import json
import os
from pathlib import Path
from typing import Any

import pytest

from forge.errors import ConfigurationError, ForgeError
from forge.serving.repository.render import Runtime, config_pbtxt, make_spec, render
from forge.serving.repository.spec import EngineFacts, Spec, read_spec
from forge.serving.steps.render import main
from tests.support.compiler import wanted
from tests.support.serving import profile_fields
from tests.support.serving import render_settings as settings

TEXT = {"text.py", "chat_template.py", "plain_text.py", "tool_prompt.py"}
FORMS = {"repetitions.py"} | {
    f"json_{name}.py"
    for name in ("facts", "grammar", "numbers", "patterns", "rules", "schema", "strings", "values")
}
FACTS = EngineFacts(builder="openvino", runtime={"openvino-genai": "2026.4.1.0"})


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / "deep").mkdir(parents=True)
    (folder / "engine.json").write_text(FACTS.model_dump_json())
    (folder / "openvino_model.bin").write_bytes(b"weights")
    (folder / "deep" / "more.bin").write_bytes(b"more")
    return folder


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("nvidia-pytriton==0.7.0 --hash=sha256:00\n")
    return path


@pytest.mark.parametrize(
    ("change", "parameter", "value"),
    [
        ("engine__max_batch_size", "max_batch_size", 7),
        ("engine__max_input_len", "max_input_len", 77),
        ("engine__max_seq_len", "max_seq_len", 777),
        ("serving__default_max_tokens", "default_max_tokens", 70),
        ("serving__kv_cache_mib", "kv_cache_mib", 700),
        ("serving__max_num_batched_tokens", "max_num_batched_tokens", 70),
        ("serving__kv_cache_fraction", "kv_cache_fraction", 0.7),
    ],
)
def test_config_follows_each_profile_field(change: str, parameter: str, value: float) -> None:
    before = config_pbtxt(make_spec(settings(), FACTS))
    after = config_pbtxt(make_spec(settings(**{change: value}), FACTS))
    wanted = f'parameters {{ key: "{parameter}", value: {{ string_value: "{value}" }} }}'
    assert wanted in after
    assert wanted not in before
    changed = [new for new in after.splitlines() if new not in before.splitlines()]
    assert changed == [wanted]


def test_config_names_the_model_and_the_cache_size() -> None:
    text = config_pbtxt(
        make_spec(settings(serving__model="answers", serving__kv_cache_mib=2048), FACTS)
    )
    assert text.startswith('name: "answers"\n')
    assert 'key: "kv_cache_mib", value: { string_value: "2048" }' in text


def test_render_writes_the_whole_tree(engine: Path, lock: Path, tmp_path: Path) -> None:
    output = tmp_path / "tree"
    spec = render(engine, settings(), Runtime(lock), output)
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert files == {
        "serving.json",
        "runtime/requirements.lock",
        "models/llm/config.pbtxt",
        "models/llm/1/batching.py",
        "models/llm/1/chat_template.py",
        "models/llm/1/choice.py",
        "models/llm/1/forms.py",
        *(f"models/llm/1/{name}" for name in FORMS),
        "models/llm/1/model.py",
        "models/llm/1/model_io.py",
        "models/llm/1/pieces.py",
        "models/llm/1/plain_text.py",
        "models/llm/1/runtime_tokenizer.py",
        "models/llm/1/sampling.py",
        "models/llm/1/scorer.py",
        "models/llm/1/text.py",
        "models/llm/1/tool_prompt.py",
        "models/llm/1/turns.py",
        "models/llm/1/engine/engine.json",
        "models/llm/1/engine/openvino_model.bin",
        "models/llm/1/engine/deep/more.bin",
    }
    assert read_spec(output) == spec.model_copy(update={"settings": {}})
    assert spec.runtime == {"openvino-genai": "2026.4.1.0"}
    assert spec.golden[0].expect == ("Paris",)


@pytest.mark.parametrize(
    ("builder", "beside"),
    [
        ("openvino", {"forms.py", "runtime_tokenizer.py", "scorer.py"} | FORMS),
        ("tensorrt-rtx", {"generation.py", "gpu.py"}),
        ("onnx-runtime", {"cuda_driver.py", "generation.py", "session.py"}),
    ],
)
def test_every_template_brings_what_its_model_imports(
    builder: str, beside: set[str], engine: Path, lock: Path, tmp_path: Path
) -> None:
    facts = EngineFacts(builder=builder, runtime={builder: "1.2.3"})
    (engine / "engine.json").write_text(facts.model_dump_json())
    spec = render(engine, settings(), Runtime(lock), tmp_path / "tree")
    found = {path.name for path in (tmp_path / "tree/models/llm/1").glob("*.py")}
    shared = {
        "batching.py",
        "choice.py",
        "model_io.py",
        "pieces.py",
        "sampling.py",
        "turns.py",
    } | TEXT
    assert found == {"model.py"} | shared | beside
    assert spec.runtime == {builder: "1.2.3"}


def test_render_links_the_engine_instead_of_copying(
    engine: Path, lock: Path, tmp_path: Path
) -> None:
    render(engine, settings(), Runtime(lock), tmp_path / "tree")
    linked = tmp_path / "tree/models/llm/1/engine/openvino_model.bin"
    assert linked.samefile(engine / "openvino_model.bin")


def test_render_is_the_same_bytes_wherever_it_is_written(
    engine: Path, lock: Path, tmp_path: Path
) -> None:
    trees = []
    for name in ("one", "another/place"):
        render(engine, settings(), Runtime(lock), tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        trees.append([(str(p.relative_to(tmp_path / name)), p.read_bytes()) for p in files])
    assert trees[0] == trees[1]
    assert not [path for path, data in trees[0] if os.fsencode(tmp_path) in data]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine__max_input_len": 1024}, "leaves no room for an answer"),
        ({"serving__environment": None}, "serving.environment names none"),
        ({"serving__server": "container", "serving__image": "triton:latest"}, "none by digest"),
        ({"smoke__golden": []}, "smoke.golden is empty"),
    ],
)
def test_make_spec_refuses_settings_that_contradict(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_spec(settings(**changes), FACTS)


def test_spec_says_how_slow_the_profile_lets_a_device_be() -> None:
    floor = {"ttft_ms_max": 500, "output_tokens_per_s_min": None}
    spec = make_spec(settings(serving__probe=floor), FACTS)
    assert spec.model_dump(mode="json")["probe"] == floor


def test_make_spec_refuses_a_builder_without_templates() -> None:
    with pytest.raises(ConfigurationError, match="'another' yet"):
        make_spec(settings(), EngineFacts(builder="another", runtime={}))


@pytest.mark.parametrize("builder", ["edge-llm", "tensorrt-llm"])
def test_streaming_models_bring_the_shared_queue_and_take_every_limit(
    engine: Path, lock: Path, tmp_path: Path, builder: str
) -> None:
    (engine / "engine.json").write_text(json.dumps({"builder": builder, "runtime": {}}))
    output = tmp_path / "tree"
    render(
        engine,
        settings(serving__kv_cache_fraction=0.35, engine__max_seq_len=777),
        Runtime(lock),
        output,
    )
    model = output / "models" / "llm"
    found = {path.name for path in (model / "1").iterdir()}
    shared = {"model_io.py", "pieces.py", "sampling.py", "streaming.py", "tool_prompt.py"}
    own_text = set() if builder == "edge-llm" else TEXT  # its runtime makes tokens of messages
    assert found == {"engine", "model.py", "turns.py"} | shared | own_text
    text = (model / "config.pbtxt").read_text()
    assert 'key: "kv_cache_fraction", value: { string_value: "0.35" }' in text
    assert 'key: "kv_cache_mib", value: { string_value: "null" }' in text
    assert 'key: "max_seq_len", value: { string_value: "777" }' in text


def test_engine_the_device_compiles_reaches_serving_json(
    engine: Path, lock: Path, tmp_path: Path
) -> None:
    facts = {"builder": "edge-llm", "runtime": {}, "compile_on_device": wanted().model_dump()}
    (engine / "engine.json").write_text(json.dumps(facts))
    render(engine, settings(), Runtime(lock), tmp_path / "tree")
    assert read_spec(tmp_path / "tree").compile_on_device == wanted()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tool", "/bin/sh"),
        ("tool", "../sh"),
        ("source", "../../etc"),
        ("produces", ["../llm.engine"]),
    ],
)
def test_compile_that_leaves_its_place_is_refused(
    engine: Path, lock: Path, tmp_path: Path, field: str, value: Any
) -> None:
    document = wanted().model_dump() | {field: value}
    facts = {"builder": "edge-llm", "runtime": {}, "compile_on_device": document}
    (engine / "engine.json").write_text(json.dumps(facts))
    with pytest.raises(ForgeError):  # by the one that writes it or by the one that reads it
        _written_and_read(engine, lock, tmp_path / "tree")


def _written_and_read(engine: Path, lock: Path, tree: Path) -> Spec:
    render(engine, settings(), Runtime(lock), tree)
    return read_spec(tree)


def test_container_needs_no_lock_and_an_environment_does(engine: Path, tmp_path: Path) -> None:
    image = f"triton@sha256:{'a' * 64}"
    contained = settings(serving__server="container", serving__image=image)
    render(engine, contained, None, tmp_path / "tree")
    assert read_spec(tmp_path / "tree").image == image
    with pytest.raises(ConfigurationError, match="its lock is not given"):
        render(engine, settings(), None, tmp_path / "other")


def test_render_refuses_a_link_in_the_engine(engine: Path, lock: Path, tmp_path: Path) -> None:
    (engine / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        render(engine, settings(), Runtime(lock), tmp_path / "tree")


def test_engine_of_another_builder_than_the_profiles_is_refused() -> None:
    """The step's key holds the template of the profile's builder alone."""
    assert make_spec(settings(engine__builder="openvino"), FACTS).builder == "openvino"
    with pytest.raises(ConfigurationError, match="made by builder openvino"):
        make_spec(settings(engine__builder="edge-llm"), FACTS)


def test_command_says_which_field_is_wrong(
    engine: Path, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(profile_fields(engine__max_batch_size=0)))
    argv = ["--engine", str(engine), "--settings", str(path), "--lock", str(lock)]
    assert main([*argv, "--output", str(tmp_path / "tree")]) == 3
    assert "engine.max_batch_size" in capsys.readouterr().err
    assert not (tmp_path / "tree").exists()


def test_command_ends_with_3_when_the_engine_has_no_description(
    engine: Path, lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (engine / "engine.json").unlink()
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(profile_fields()))
    argv = ["--engine", str(engine), "--settings", str(path), "--lock", str(lock)]
    assert main([*argv, "--output", str(tmp_path / "tree")]) == 3
    assert "engine.json cannot be read" in capsys.readouterr().err


def test_read_spec_refuses_a_path_that_leaves_the_tree(
    engine: Path, lock: Path, tmp_path: Path
) -> None:
    from forge.errors import TrustError

    render(engine, settings(), Runtime(lock), tmp_path / "tree")
    path = tmp_path / "tree" / "serving.json"
    path.write_text(path.read_text().replace('"repository":"models"', '"repository":"../up"'))
    with pytest.raises(TrustError, match="Unsafe path"):
        read_spec(tmp_path / "tree")


def test_the_wheels_of_the_environment_are_part_of_the_tree_and_linked(
    engine: Path, lock: Path, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "tiny-1.0-py3-none-any.whl").write_bytes(b"PK")
    render(engine, settings(), Runtime(lock, wheels), tmp_path / "tree")
    (found,) = (tmp_path / "tree/runtime/wheels").iterdir()
    assert found.samefile(wheels / "tiny-1.0-py3-none-any.whl")
    # A device of an earlier version reads this document, and refuses a field it does not know.
    render(engine, settings(), Runtime(lock), tmp_path / "without")
    documents = {(tmp_path / name / "serving.json").read_bytes() for name in ("tree", "without")}
    assert len(documents) == 1
