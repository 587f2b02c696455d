"""GGUF → Hugging Face → ONNX → an fp32 graph, its receipt, and Triton serving it on the CPU.

A GPU for it is not here. The same graph, session code, ONNX Runtime and Triton are executed with
the CPU provider, and compared with transformers.
"""

import json
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forge.accuracy.gate import AccuracySettings, gate
from forge.accuracy.receipt import Receipt
from forge.builders import onnx_runtime
from forge.environments import inspect
from forge.errors import StepFailedError
from forge.serving.repository.spec import read_spec
from forge.serving.triton.accuracy_probe import check_accuracy, read_probe
from forge.serving.triton.httpx_transport import triton_client
from forge.serving.triton.server import TritonServer
from forge.store import open_store
from tests.support.project_world import ROOT, World, copy_project
from tests.support.receipts import PROFILE as LIMITS
from tests.support.serving import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(2400),  # the first test installs 9 GB and makes all steps
]

PROFILE = "tesla-p40"
# The wheels of the environment are 2 GB, of CUDA most of all: they are left to the index.
RELEASE = ("release", "--profile", PROFILE, "--set", "serving.packages=index")
TOOLS = ROOT / "forge" / "builders" / "tools"
SUPPORT = ROOT / "tests" / "support"
TEMPLATES = ROOT / "forge" / "serving" / "repository" / "templates"
SMOLLM2_PARAMETERS = 134_515_008
GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# Tiny model of tests/support/tiny_models.py → the family it is of.
FAMILIES = {
    "llama": "llama",
    "llama3": "llama",
    "qwen2": "qwen2",
    "mistral-window": "mistral",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt_oss-full": "gpt_oss",
    "granite": "granite",
    "cohere": "cohere",
    "falcon": "falcon",
    "olmo2": "olmo2",
    "smollm3": "smollm3",
    "stablelm": "stablelm",
}


@pytest.fixture(scope="module")
def world(module_folder: Path) -> World:
    """A project whose store holds the receipt, and so the engine, of SmolLM2."""
    made = copy_project(module_folder / "project")
    made.forge("run", *RELEASE, "--only", f"repository@{PROFILE}")
    return made


@pytest.fixture(scope="module")
def engine(world: World) -> Path:
    return output(world, f"engine@{PROFILE}")


def output(world: World, step: str) -> Path:
    """The unpacked output of a step that is stored."""
    rows = {row["step"]: row for row in world.json("run", *RELEASE, "--only", step)}
    assert rows[step]["status"] == "hit"
    (tree,) = rows[step]["outputs"].values()
    folder = world.project / "trees" / str(tree["digest"])
    if not folder.is_dir():
        open_store(str(world.project / "artifacts")).unpack(tree["digest"], folder)
    return folder


def python(name: str, script: Path, *words: object) -> str:
    """Run a script in a tool environment; return what it printed."""
    argv = [environment(name) / "bin" / "python", script, *words]
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
        env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_engine_says_what_it_is_and_what_it_is_bound_to(engine: Path) -> None:
    facts = json.loads((engine / "engine.json").read_text())
    assert facts["builder"] == "onnx-runtime"
    assert facts["runtime"] == onnx_runtime.RUNTIME
    assert facts["precision"] == {"asked": "fp32", "found": "FLOAT"}
    assert facts["model"]["architecture"] == "llama"
    assert facts["model"]["parameters"] == pytest.approx(SMOLLM2_PARAMETERS, rel=0.001)
    assert (engine / "model.onnx_data").stat().st_size == pytest.approx(
        4 * SMOLLM2_PARAMETERS, rel=0.01
    )
    assert {"tokenizer.json", "config.json", "generation_config.json"} <= {
        path.name for path in engine.iterdir()
    }


def test_engine_computes_what_its_checkpoint_computes(world: World) -> None:
    folder = output(world, f"accuracy@{PROFILE}")
    receipt = Receipt.model_validate_json((folder / "receipt.json").read_bytes())
    assert receipt.precision == "fp32"
    assert gate(receipt, AccuracySettings.model_validate({"accuracy": LIMITS})).passed
    assert set(receipt.sections) == {"short", "batch", "long", "decode"}
    for section in receipt.sections.values():
        assert section.kl_mean is not None
        assert section.kl_mean <= 0.0001  # the reference is fp32 too
        assert section.same_top is not None
        assert section.same_top >= 0.999


def test_answers_are_the_tokens_of_transformers(world: World, engine: Path, tmp_path: Path) -> None:
    """Greedy ones, of prompts shorter and longer than a piece, computed in turns."""
    script = tmp_path / "greedy.py"
    script.write_text(
        textwrap.dedent("""
        import json, sys, torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        text = "The history of the city begins with the river. " * 20
        prompts = [tokenizer(one).input_ids for one in (text, "def add(a, b):", "Paris is")]
        found = []
        for ids in prompts:
            made = model.generate(torch.tensor([ids]), max_new_tokens=40, min_new_tokens=40,
                                  do_sample=False, repetition_penalty=1.0)
            found.append([ids, made[0, len(ids):].tolist()])
        print(json.dumps(found))
    """)
    )
    expected = json.loads(python("transformers", script, output(world, "huggingface")))
    assert len(expected[0][0]) > 128
    requests = tmp_path / "requests.json"
    requests.write_text(json.dumps([[prompt, len(answer)] for prompt, answer in expected]))
    answers = SUPPORT / "onnx_runtime_answers.py"
    found = json.loads(python("triton-onnx-runtime", answers, TEMPLATES, engine, requests))
    assert found == [answer for _, answer in expected]


@pytest.fixture(scope="module")
def served(world: World, module_folder: Path) -> Iterator[TritonServer]:
    """The repository as it is released, but for the name of its provider."""
    work = module_folder / "served"
    tree = work / "tree"
    shutil.copytree(output(world, f"repository@{PROFILE}"), tree)
    spec = read_spec(tree)
    config = tree / spec.repository / spec.model / "config.pbtxt"
    assert config.read_text().count(GPU) == 1
    config.write_text(config.read_text().replace(GPU, CPU))
    installed = inspect(environment("triton-onnx-runtime"))
    with TritonServer.start(tree, spec, installed, work=work / "work") as server:
        server.wait_ready(240)
        yield server


def test_triton_serves_it(served: TritonServer) -> None:
    asked: dict[str, Any] = {"text_input": "What is the capital of France?", "max_tokens": 32}
    url = f"{served.url}/v2/models/llm/generate_stream"
    with triton_client() as client:
        said = client.post(url, json=asked, timeout=120).text
    events = [json.loads(line.removeprefix("data: ")) for line in said.splitlines() if line]
    text = "".join(event["text_output"] for event in events)
    assert text == "The capital of France is Paris."
    assert events[-1]["finish_reason"] == "stop"


def test_served_model_scores_the_tokens_of_its_receipt(world: World, served: TritonServer) -> None:
    probe = read_probe(output(world, f"repository@{PROFILE}"))
    assert probe is not None
    for agreement in check_accuracy(served.url, "llm", probe, together=4):
        assert agreement.positions == 64
        assert agreement.mean < 0.001


def test_machine_without_a_gpu_serves_nothing(world: World, tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU here: serving it is what the smoke step does")
    tree = output(world, f"repository@{PROFILE}")
    installed = inspect(environment("triton-onnx-runtime"))
    with (
        TritonServer.start(tree, read_spec(tree), installed, work=tmp_path) as server,
        pytest.raises(StepFailedError) as caught,
    ):
        server.wait_ready(180)
    assert "This model requires an NVIDIA GPU, and no driver is installed" in caught.value.why


def test_families_have_the_logits_of_their_models(tmp_path: Path) -> None:
    """In fp32, at 12, 300 and 3,000 tokens; transformers in fp32 is the reference."""
    models = tmp_path / "models"
    models.mkdir()
    python("transformers", SUPPORT / "tiny_models.py", models, *FAMILIES)
    python("transformers", SUPPORT / "tiny_tokenizers.py", tmp_path / "tokenizers")
    for name in FAMILIES:
        for path in (tmp_path / "tokenizers" / "smollm").iterdir():
            shutil.copyfile(path, models / name / path.name)
    for tool, kind, source, target in (
        ("transformers", "huggingface", "models", "huggingface"),
        ("optimum", "onnx", "huggingface", "onnx"),
    ):
        made = conversions(tmp_path, tool, kind, source, target)
        assert {name: words for name, (code, words) in made.items() if code} == {}
    settings = tmp_path / "engine.json"
    settings.write_text(
        json.dumps({"engine": {"precision": "fp32"}, "runtime": onnx_runtime.RUNTIME})
    )
    for name in FAMILIES:
        script, engine = TOOLS / "onnx_runtime_engine.py", tmp_path / "engines" / name
        engine.mkdir(parents=True)
        argv = ("--checkpoint", tmp_path / "onnx" / name, "--settings", settings)
        python("optimum", script, *argv, "--output", engine)
    found = conversions(tmp_path, "optimum", "onnx-logits", "engines", "models", suffix=".npz")
    assert set(found) == set(FAMILIES)
    for name, lengths in found.items():
        assert min(min(rows) for rows in lengths.values()) > 0.999999, name
    assert set(FAMILIES.values()) == set(onnx_runtime.ARCHITECTURES)


def conversions(
    folder: Path, environment: str, kind: str, source: str, target: str, suffix: str = ""
) -> dict[str, Any]:
    """Run tests/support/conversions.py for every family; results by model."""
    pairs = [
        [str(folder / source / name), str(folder / target / f"{name}{suffix}")] for name in FAMILIES
    ]
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(pairs))
    found = json.loads(python(environment, SUPPORT / "conversions.py", kind, path))
    return {Path(one).name: result for one, result in found.items()}


def test_graph_whose_files_are_hard_links_is_read_and_gives_the_same_engine(
    world: World, engine: Path, tmp_path: Path
) -> None:
    """As a store gives them to a step; onnx's own reader refuses them."""
    for name in ("one", "two"):
        shutil.copytree(output(world, "onnx"), tmp_path / name, copy_function=os.link)
    settings = tmp_path / "settings.json"
    runtime = onnx_runtime.RUNTIME
    settings.write_text(json.dumps({"engine": {"precision": "fp32"}, "runtime": runtime}))
    argv = ("--checkpoint", tmp_path / "two", "--settings", settings)
    python("optimum", TOOLS / "onnx_runtime_engine.py", *argv, "--output", tmp_path / "out")
    for name in ("model.onnx", "model.onnx_data", "engine.json"):
        assert (tmp_path / "out" / name).read_bytes() == (engine / name).read_bytes()


DAMAGES = {
    "not a graph": ("document = None", "not a valid ONNX graph"),
    "no cache": (
        (
            "kept = [one for one in document.graph.input if 'past' not in one.name];"
            "del document.graph.input[:]; document.graph.input.extend(kept)"
        ),
        "has no input past_key_values.*",
    ),
    "weights elsewhere": (
        (
            "tensor = next(one for one in document.graph.initializer if one.external_data);"
            "tensor.external_data[0].value = '../elsewhere'"
        ),
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_graph_that_cannot_be_used_is_refused(
    world: World, tmp_path: Path, damage: str, message: str
) -> None:
    onnx = tmp_path / "onnx"
    shutil.copytree(output(world, "onnx"), onnx)
    script = tmp_path / "damage.py"
    script.write_text(
        "import onnx, sys\n"
        "document = onnx.load(sys.argv[1], load_external_data=False)\n"
        f"{damage}\n"
        "data = document.SerializeToString() if document else b'no graph'\n"
        "open(sys.argv[1], 'wb').write(data)\n"
    )
    python("optimum", script, onnx / "model.onnx")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"engine": {"precision": "fp32"}, "runtime": {}}))
    argv = (environment("optimum") / "bin" / "python", TOOLS / "onnx_runtime_engine.py")
    options = ("--checkpoint", onnx, "--settings", settings, "--output", tmp_path / "out")
    done = subprocess.run(
        [str(word) for word in (*argv, *options)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 3, done.stderr
    assert message in done.stderr
    assert list((tmp_path / "out").iterdir()) == []
