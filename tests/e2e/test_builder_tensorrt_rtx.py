"""GGUF → Hugging Face → ONNX → an engine for a GPU that is not here, by `forge run`, really.

Loading the engine needs the GPU. What is asked for here: that the same ONNX answers when ONNX
Runtime stands where the GPU does, that the engine is one for TensorRT for RTX, and that Triton
brings the serving template to the point where CUDA says that there is no GPU.
"""

import json
import shutil
import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forge.environments import inspect
from forge.errors import StepFailedError
from forge.serving.repository.spec import read_spec
from forge.serving.triton.server import TritonServer
from forge.store import Store, open_store
from tests.support.project_world import ROOT, World, copy_project
from tests.support.serving import environment
from tests.support.spawn import spawning

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(1800),  # the first test installs 5 GB and makes all four steps
]

PROFILE = "rtx-pro-4000-aot"
ENGINE = f"engine@{PROFILE}"
AOT = ("release", "--profile", PROFILE)
TOOLS = ROOT / "forge" / "builders" / "tools"
TEMPLATES = ROOT / "forge" / "serving" / "repository" / "templates"
SMOLLM2_PARAMETERS = 134_515_008
FP16_BYTES = 2


@pytest.fixture(scope="module")
def world(module_folder: Path) -> World:
    """A project whose store holds the engine of SmolLM2 for sm_120."""
    made = copy_project(module_folder)
    made.forge("run", *AOT, "--only", ENGINE)
    return made


@pytest.fixture(scope="module")
def tiny(world: World) -> str:
    """Pinned URL of a Qwen2 with random weights, made by transformers, with a real tokenizer."""
    folder = world.project / "qwen2"
    shutil.copytree(output(world, "huggingface"), folder)
    (folder / "model.safetensors").unlink()
    script = """
        import sys, torch
        from transformers import Qwen2Config, Qwen2ForCausalLM
        torch.manual_seed(1)
        config = Qwen2Config(vocab_size=49152, hidden_size=64, intermediate_size=128,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, eos_token_id=2)
        Qwen2ForCausalLM(config).to(torch.float16).save_pretrained(sys.argv[1])
    """
    python = environment("transformers") / "bin" / "python"
    subprocess.run([python, "-c", textwrap.dedent(script), folder], check=True, timeout=300)
    return str(world.json("checkpoint", "pin", f"file:{folder}")["url"])


def store(world: World) -> Store:
    return open_store(str(world.project / "artifacts"))


def output(world: World, step: str, *more: str) -> Path:
    """The unpacked output of a step that is stored."""
    rows = {row["step"]: row for row in world.json("run", *AOT, "--only", step, *more)}
    assert rows[step]["status"] == "hit"
    (tree,) = rows[step]["outputs"].values()
    folder = world.project / "trees" / str(tree["digest"])
    if not folder.is_dir():
        store(world).unpack(tree["digest"], folder)
    return folder


def compile_argv(onnx: Path, settings: dict[str, Any], folder: Path) -> list[str]:
    """The compiler's command line; its output goes to folder/output."""
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    python = environment("tensorrt-rtx") / "bin" / "python"
    tool = TOOLS / "tensorrt_rtx_compile.py"
    argv = [python, tool, "--checkpoint", onnx, "--settings", path, "--output", folder / "output"]
    return [str(word) for word in argv]


def settings(**engine: object) -> dict[str, Any]:
    values = {"precision": "fp16", "max_batch_size": 1, "max_input_len": 64, "max_seq_len": 128}
    return {"engine": values | engine, "hardware": {"compute_capability": "12.0"}}


def test_engine_is_compiled_here_and_says_what_it_is_bound_to(world: World) -> None:
    engine = output(world, ENGINE)
    assert {path.name for path in engine.iterdir()} == {
        "model.plan",
        "engine.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    }
    facts = json.loads((engine / "engine.json").read_text())
    assert facts["builder"] == "tensorrt-rtx"
    assert facts["runtime"] == {"tensorrt-rtx": "1.7.1.116"}
    assert facts["compute_capability"] == "12.0"
    assert facts["precision"] == {"asked": "fp16", "found": "HALF"}
    assert facts["model"]["architecture"] == "llama"
    assert facts["model"]["parameters"] == pytest.approx(SMOLLM2_PARAMETERS, rel=0.001)
    assert (engine / "model.plan").stat().st_size > SMOLLM2_PARAMETERS * FP16_BYTES


def test_second_run_compiles_nothing(world: World) -> None:
    rows = world.json("run", *AOT, "--only", ENGINE)
    chosen = [row["status"] for row in rows if row["status"] != "skipped"]
    assert chosen == ["hit"] * 4


def test_another_gpu_shares_every_step_but_the_last_and_most_bytes(world: World) -> None:
    profile = "extends: rtx-pro-4000-aot\nhardware: {compute_capability: '8.9'}\n"
    (world.project / "profiles" / "ada.yaml").write_text(profile)
    arguments = ("run", "release", "--profile", PROFILE, "--profile", "ada", "--only", "engine@*")
    rows = {row["step"]: row for row in world.json(*arguments)}
    ran = [step for step, row in rows.items() if row["status"] == "run"]
    assert ran == ["engine@ada"]
    both = [store(world).tree(rows[step]["outputs"]["engine"]["digest"]).entries
            for step in (ENGINE, "engine@ada")]  # fmt: skip
    plans = [entry for entries in both for entry in entries if entry.path == "model.plan"]
    assert plans[0].sha256 != plans[1].sha256
    assert plans[0].size == pytest.approx(plans[1].size, rel=0.01)


def test_exported_onnx_answers_with_the_serving_template_s_own_code(world: World) -> None:
    folder = output(world, "onnx")
    python = environment("optimum") / "bin" / "python"
    script = ROOT / "tests" / "support" / "onnx_answers.py"
    question = "What is the capital of France?"
    argv = [python, script, TEMPLATES / "tensorrt-rtx", folder, question, "32"]
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, check=True, timeout=300
    )
    answer = json.loads(done.stdout)
    assert answer["text"] == "The capital of France is Paris."
    assert answer["finish_reason"] == "stop"


def test_conversion_keeps_the_rotary_base_for_transformers_4_and_5(world: World) -> None:
    config = json.loads((output(world, "huggingface") / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100_000
    exported = json.loads((output(world, "onnx") / "config.json").read_text())
    assert exported["rope_theta"] == 100_000


def test_another_architecture_goes_the_same_way(world: World, tiny: str) -> None:
    assert "&architecture=qwen2&" in tiny
    world.forge("run", *AOT, "--model", tiny, "--only", ENGINE)
    engine = output(world, ENGINE, "--model", tiny)
    facts = json.loads((engine / "engine.json").read_text())
    assert facts["model"]["architecture"] == "qwen2"
    assert facts["compute_capability"] == "12.0"


def test_architecture_the_builder_does_not_know_is_refused_before_anything_is_fetched(
    world: World,
) -> None:
    url = f"file:/nowhere#sha256={'0' * 64}&architecture=gpt2"
    done = world.forge("plan", *AOT, "--model", url, fails=3)
    assert "does not support 'gpt2' models" in done.stderr
    assert "llama, mistral" in done.stderr


def test_url_that_names_another_architecture_stops_the_release(world: World, tiny: str) -> None:
    wrong = tiny.replace("&architecture=qwen2&", "&architecture=llama&")
    done = world.forge("run", *AOT, "--model", wrong, "--only", ENGINE, fails=3)
    assert "it is 'qwen2', the URL says architecture=llama" in done.stderr


def test_compute_capability_this_tensorrt_cannot_compile_for_is_refused(
    world: World, tmp_path: Path
) -> None:
    asked = settings() | {"hardware": {"compute_capability": "11.0"}}
    argv = compile_argv(output(world, "onnx"), asked, tmp_path)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3
    assert "it supports 7.5, 8.0, 8.6, 8.9, 12.0, 12.1" in done.stderr
    assert list((tmp_path / "output").iterdir()) == []


def test_weights_of_another_precision_than_asked_for_are_refused(
    world: World, tiny: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "onnx"
    shutil.copytree(output(world, "onnx", "--model", tiny), wrong)
    script = """
        import sys, onnx, numpy as np
        from onnx import TensorProto as T, helper, numpy_helper
        weights = numpy_helper.from_array(np.ones((49152, 64), np.float32), "w")
        ids = helper.make_tensor_value_info("input_ids", T.INT64, ["batch", "new"])
        out = helper.make_tensor_value_info("logits", T.FLOAT, ["batch", "new", 64])
        node = helper.make_node("Gather", ["w", "input_ids"], ["logits"])
        graph = helper.make_graph([node], "g", [ids], [out], [weights])
        opsets = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), sys.argv[1])
    """
    (wrong / "model.onnx").unlink()
    python = environment("optimum") / "bin" / "python"
    subprocess.run([python, "-c", textwrap.dedent(script), wrong / "model.onnx"], check=True)
    argv = compile_argv(wrong, settings(), tmp_path)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 3
    assert "engine.precision is fp16, but the network's weights are FLOAT" in done.stderr


@contextmanager
def compiling(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A compiler that has begun to compile."""
    with spawning() as spawn:
        process = spawn(argv, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        deadline = time.monotonic() + 120
        for line in process.stderr:
            if line.startswith("Building engine"):
                break
            assert time.monotonic() < deadline, "it never began"
        yield process
        process.communicate(timeout=60)


def test_killed_compiler_leaves_nothing(world: World, tmp_path: Path) -> None:
    argv = compile_argv(output(world, "onnx"), settings(), tmp_path)
    with compiling(argv) as process:
        process.send_signal(signal.SIGKILL)
    assert list((tmp_path / "output").iterdir()) == []


def test_triton_brings_the_template_to_the_point_where_there_is_no_gpu(
    world: World, tmp_path: Path
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU here: serving it is what the smoke step does")
    repository = f"repository@{PROFILE}"
    world.forge("run", *AOT, "--only", repository)
    tree = output(world, repository)
    spec = read_spec(tree)
    assert spec.runtime == {"tensorrt-rtx": "1.7.1.116"}
    installed = inspect(environment("triton-tensorrt-rtx"))
    with (
        TritonServer.start(tree, spec, installed, work=tmp_path) as server,
        pytest.raises(StepFailedError) as caught,
    ):
        server.wait_ready(180)
    assert "CUDA driver version is insufficient" in caught.value.why
    assert "cudaStreamCreate" in caught.value.why
