"""TensorRT Edge-LLM for real, on a CPU: quantise, check, export, check, through `forge run`."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forge import environments
from forge.builders import edge_llm, flags
from forge.store import Store, open_store
from tests.support.project_world import ROOT, World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.network,
    pytest.mark.builders,
    pytest.mark.timeout(3600),
]

MIB = 2**20
TOOLS = ROOT / "forge" / "builders" / "tools"


@dataclass(frozen=True)
class Project:
    """A fresh project whose tool environments are this checkout's."""

    world: World

    @property
    def store(self) -> Store:
        return open_store(str(self.world.project / "artifacts"), environment={})

    def engine(self, profile: str, *more: str) -> str:
        """Make the engine of one profile; returns what was said."""
        name = f"engine@{profile}"
        return self.world.forge(
            "run", "release", "--profile", profile, "--only", name, *more
        ).stderr

    def outputs(self, step: str) -> list[dict[str, str]]:
        """Digests by output name of every time a step ran, the last one last."""
        found = []
        for path in (self.world.project / "artifacts" / "actions").glob("*.json"):
            action = json.loads(path.read_text())
            if action["step"] == step:
                made = {name: tree["digest"] for name, tree in action["outputs"].items()}
                found.append((path.stat().st_mtime_ns, made))
        return [made for _, made in sorted(found, key=lambda pair: pair[0])]

    def output(self, step: str, output: str) -> str:
        """Digest of the tree a step made last."""
        return self.outputs(step)[-1][output]

    def json(self, step: str, output: str, path: str) -> Any:
        """A JSON document of such a tree."""
        return json.loads(self.store.read_file(self.output(step, output), path, max_bytes=MIB))


@pytest.fixture(scope="module")
def project(module_folder: Path) -> Project:
    folder = module_folder / "edge-llm"
    for name in ("pipelines", "stages", "profiles", "dockerfiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    cache = ROOT / ".forge" / "environments"
    cache.mkdir(parents=True, exist_ok=True)
    (folder / ".forge").mkdir()
    (folder / ".forge" / "environments").symlink_to(cache)
    return Project(World(folder))


@pytest.fixture(scope="module")
def environment() -> Path:
    lock = ROOT / "dockerfiles" / "edge-llm" / "requirements.lock"
    cache = ROOT / ".forge" / "environments"
    return environments.ensure("edge-llm", lock, python="3.11", cache=cache)


@pytest.fixture(scope="module")
def huggingface(project: Project, module_folder: Path) -> Path:
    """The fp16 checkpoint the chain makes of the demo's GGUF file."""
    chosen = ("--profile", "jetson-agx-thor", "--only", "huggingface")
    project.world.forge("run", "release", *chosen)
    folder = module_folder / "hf"
    project.store.unpack(project.output("huggingface", "checkpoint"), folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(environment: Path, huggingface: Path, module_folder: Path) -> Path:
    """A tiny Qwen3 of random weights, with the tokenizer of the demo's model."""
    model = module_folder / "qwen3"
    python = environment / "bin" / "python"
    subprocess.run([python, "-c", QWEN3, huggingface, model], check=True, timeout=900)
    return model


@pytest.fixture(scope="module")
def qwen3(project: Project, checkpoint: Path) -> str:
    """Return the URL of the tiny model."""
    said = project.world.forge("checkpoint", "pin", f"file:{checkpoint}").stdout
    url = next(line for line in said.splitlines() if line.startswith("file:"))
    return url if "architecture=" in url else f"{url}&architecture=qwen3"


QWEN3 = """
import sys, torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
torch.manual_seed(0)
config = Qwen3Config(vocab_size=len(tokenizer), hidden_size=256, intermediate_size=512,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
    max_position_embeddings=4096, tie_word_embeddings=True)
Qwen3ForCausalLM(config).half().save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
"""


@pytest.fixture(scope="module")
def thor(project: Project, qwen3: str) -> Project:
    """A project with the engine of a small model in Thor's own precision."""
    project.engine("jetson-agx-thor", "--model", qwen3)
    return project


def test_nvfp4_for_thor_is_what_came_out_and_what_is_recorded(thor: Project) -> None:
    record = thor.json("export@jetson-agx-thor", "record", "export.json")
    assert (record["sm"], record["quantisation"], record["model"]) == (110, "nvfp4", "qwen3")
    assert record["operators"]["trt::TRT_FP4DynamicQuantize"] >= 2
    assert record["versions"]["tensorrt-edgellm"] == "0.11.0"


@pytest.mark.exhaustive
def test_demos_model_in_nvfp4_for_thor_is_what_came_out(project: Project) -> None:
    """Minutes: 135 million weights are quantised, exported and executed."""
    project.engine("jetson-agx-thor")
    record = project.json("export@jetson-agx-thor", "record", "export.json")
    assert (record["sm"], record["quantisation"], record["model"]) == (110, "nvfp4", "llama")
    assert record["operators"]["trt::TRT_FP4DynamicQuantize"] >= 30


def test_engine_for_the_device_is_the_export_and_how_to_compile_it(thor: Project) -> None:
    facts = thor.json("engine@jetson-agx-thor", "engine", "engine.json")
    wanted = facts["compile_on_device"]
    tree = thor.store.tree(thor.output("engine@jetson-agx-thor", "engine"))
    weights = sum(
        entry.size for entry in tree.entries if entry.path.endswith((".data", ".safetensors"))
    )
    assert wanted["memory_mib"] == 4 * -(-weights // MIB)
    assert wanted["tool"] == "llm_build"
    assert {"llm/model.onnx", "llm/tokenizer.json", "engine.json"} <= {
        entry.path for entry in tree.entries
    }


def test_second_run_finds_all_of_it_in_the_store(thor: Project, qwen3: str) -> None:
    said = thor.engine("jetson-agx-thor", "--model", qwen3)
    assert said.count(": stored ") == 5, said
    assert "▶" not in said


def test_export_for_another_sm_has_the_same_bytes_and_another_record(
    thor: Project, qwen3: str
) -> None:
    """The SM is in the key and not in the graph: so what comes after is not built again for it."""
    sm = "hardware.compute_capability='12.0'"
    thor.engine("jetson-agx-thor", "--model", qwen3, "--set", sm)
    exports: dict[int, set[str]] = {}
    for outputs in thor.outputs("export@jetson-agx-thor"):
        data = thor.store.read_file(outputs["record"], "export.json", max_bytes=MIB)
        record = json.loads(data)
        if (record["model"], record["quantisation"]) == ("qwen3", "nvfp4"):
            exports.setdefault(record["sm"], set()).add(outputs["export"])
    assert set(exports) == {110, 120}
    assert exports[110] == exports[120]


def test_fp16_for_orin_is_not_quantised(thor: Project, qwen3: str) -> None:
    said = thor.engine("jetson-agx-orin", "--model", qwen3)
    assert "quantise@" not in said
    record = thor.json("export@jetson-agx-orin", "record", "export.json")
    assert (record["sm"], record["quantisation"]) == (87, "fp16")


def test_int4_of_a_model_it_cannot_cut_into_blocks_is_refused_at_once(project: Project) -> None:
    """SmolLM2's layers are 576 wide: ModelOpt 0.45 fails on that after twenty minutes."""
    chosen = ("--profile", "jetson-agx-orin", "--only", "engine@jetson-agx-orin")
    int4 = ("--set", "engine.precision=int4")
    done = project.world.forge("run", "release", *chosen, *int4, fails=3)
    assert "multiples of 128, but this model has hidden_size 576" in done.stderr


def test_exporters_own_quantization_changes_nothing_and_is_found_out(
    environment: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Should this begin to fail, the exporter quantises: then the quantise step can go."""
    python, tool = environment / "bin" / "python", environment / "bin" / "tensorrt-edgellm-export"
    places: list[str | Path] = ["--export", tmp_path / "export", "--record", tmp_path / "record"]
    asked: list[str | Path] = ["--quantisation", "nvfp4", "--sm", "110"]
    asked += ["--architectures", "qwen3"]
    done = subprocess.run(
        [python, TOOLS / "edge_llm_export.py", "--checkpoint", checkpoint, *places, *asked,
         "--", tool, checkpoint, tmp_path / "export", "--target-sm", "110",
         "--quantization", "nvfp4"],
        capture_output=True, text=True, check=False, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "expected a graph in nvfp4, found fp16" in done.stderr
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("profile", "precision", "quantisation", "operator"),
    [
        ("jetson-agx-thor", "nvfp4", "nvfp4", "TRT_FP4DynamicQuantize"),
        ("jetson-agx-orin", "int4", "int4_awq", "Int4GroupwiseGemm"),
        ("jetson-agx-thor", "fp8", "fp8", "ai.onnx::QuantizeLinear"),
    ],
)
def test_another_architecture_goes_all_the_way_in_every_precision(
    thor: Project, qwen3: str, profile: str, precision: str, quantisation: str, operator: str
) -> None:
    thor.engine(profile, "--model", qwen3, "--set", f"engine.precision={precision}")
    record = thor.json(f"export@{profile}", "record", "export.json")
    assert (record["model"], record["quantisation"]) == ("qwen3", quantisation)
    assert record["operators"]["trt_edgellm::AttentionPlugin"] == 2
    assert any(operator in name for name in record["operators"]), record


def test_options_are_the_installed_tools_own(environment: Path) -> None:
    """The YAML files say nothing the tools do not take; export may leave some out on purpose."""
    program = """
import argparse, importlib, json, sys
class Found(Exception): pass
def dump(self, args=None, namespace=None):
    subs = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
    parser = subs[0].choices["llm"] if subs else self
    print(json.dumps({name: {"choices": [str(c) for c in a.choices or []],
                             "flag": a.nargs == 0, "required": a.required}
                      for a in parser._actions for name in a.option_strings}))
    sys.exit(0)
argparse.ArgumentParser.parse_args = dump
importlib.import_module(sys.argv[1]).main()
"""
    modules = {
        "tensorrt-edgellm-quantize": "tensorrt_edgellm.scripts.quantize",
        "tensorrt-edgellm-export": "tensorrt_edgellm.scripts.export",
    }
    for name, module in modules.items():
        done = subprocess.run(
            [environment / "bin" / "python", "-c", program, module],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        real = json.loads(done.stdout.splitlines()[-1])
        for option, known in flags.load(name).options.items():
            assert option in real, f"{name} has no {option}"
            assert (known.kind == "flag") == real[option]["flag"], f"{name} {option}"
            assert list(known.choices) == real[option]["choices"], f"{name} {option}"
            assert known.required == real[option]["required"], f"{name} {option}"


def test_architectures_are_text_models_of_the_wheels_registry(environment: Path) -> None:
    program = (
        "import json; from experimental.builder.models.registry import FAMILIES;"
        "from experimental.builder.core.contracts import Component as C;"
        "print(json.dumps([t for f in FAMILIES for t, c in f.variants.items() if c == {C.LLM}]))"
    )
    done = subprocess.run(
        [environment / "bin" / "python", "-c", program],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert set(edge_llm.ARCHITECTURES) <= set(json.loads(done.stdout))


def test_triton_model_makes_the_calls_the_real_package_takes(
    environment: Path, tmp_path: Path
) -> None:
    """NVIDIA's own Python code runs; only its native module, which needs CUDA, is stood in."""
    shutil.copy(TEMPLATES / "edge-llm" / "model.py", tmp_path)
    for name in (
        "model_io.py",
        "pieces.py",
        "sampling.py",
        "streaming.py",
        "tool_prompt.py",
        "turns.py",
    ):
        shutil.copy(TEMPLATES / "shared" / name, tmp_path)
    engine = tmp_path / "engine"
    engine.mkdir()
    (engine / "llm.engine").write_bytes(b"")
    (engine / "config.json").write_text('{"builder_config": {"max_input_len": 64}}')
    done = subprocess.run(
        [environment / "bin" / "python", "-c", NATIVE, engine],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["pieces"] == [["Par", 1, 9, ""], ["is", 1, 9, ""], ["", 0, 9, "stop"]]
    assert said["engine"] == [str(engine), "", 2]
    assert said["request"] == {"temperature": 1.0, "top_k": 1, "max_generate_length": 30}
    assert said["cancelled"] is True
    assert said["shut_down"] is True


TEMPLATES = ROOT / "forge" / "serving" / "repository" / "templates"
NATIVE = """
import json, sys, types
from collections import deque
from pathlib import Path
from unittest.mock import MagicMock
sys.modules["triton_python_backend_utils"] = MagicMock()
sys.path.insert(0, ".")
said = {"cancelled": False, "shut_down": False}

class Chunk:
    def __init__(self, text, finished=False):
        self.text, self.finished, self.reason = text, finished, "END_ID"
        self.token_ids, self.prompt_token_count, self.logprobs = [1] * bool(text), 9, []

class Channel:
    @staticmethod
    def create():
        return Channel()
    def __init__(self):
        self.left = deque([Chunk("Par"), Chunk("is"), Chunk("", True)])
    def set_skip_special_tokens(self, value):
        pass
    def wait_pop(self, timeout_ms):
        return self.left.popleft() if self.left else None
    def is_finished(self):
        return not self.left
    def is_cancelled(self):
        return False
    def cancel(self):
        said["cancelled"] = True

class Engine:
    def __init__(self, bundle, media, loras, model_dir, cache, *, max_batch_size):
        said["engine"] = [bundle, model_dir, max_batch_size]
    def submit(self, request):
        said["request"] = {name: getattr(request, name)
                           for name in ("temperature", "top_k", "max_generate_length")}
        return MagicMock()
    def shutdown(self, mode):
        said["shut_down"] = True

native = MagicMock()
native.StreamChannel, native.RequestEngine = Channel, Engine
for name in ("NOT_FINISHED", "END_ID", "LENGTH", "CANCELLED", "ERROR", "STOP_WORDS"):
    setattr(native.FinishReason, name, name)
import tensorrt_edgellm.runtime as runtime
runtime.load = lambda: native
import model
from sampling import Sampling
from streaming import Limits, Wanted
from turns import Conversation
asked = Conversation([{"role": "user", "content": "France?"}])
served = model.TritonPythonModel()
served.limits = Limits(max_batch_size=2, max_input_len=64, max_seq_len=128, default_max_tokens=16)
served.load(Path(sys.argv[1]), served.limits)
pieces = list(served.generate(Wanted(asked, 30, Sampling())))
said["pieces"] = [[p.text, p.tokens, p.input_tokens, p.finish_reason] for p in pieces]
gone = served.generate(Wanted(asked, 30, Sampling()))
next(gone)
gone.close()
served.close()
print(json.dumps(said))
"""
