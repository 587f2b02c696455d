"""The checks of the tool scripts that need none of NVIDIA's packages, on hand-made files."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from forge.builders.tools import (
    edge_llm_engine,
    edge_llm_quantise,
    tensorrt_llm_convert,
)
from forge.serving.repository.spec import EngineFacts, read_document

MIB = 2**20


def checkpoint(folder: Path, algorithm: str | None, dtypes: dict[str, int]) -> Path:
    folder.mkdir()
    config = {"quantization": {"quant_algo": algorithm}}
    (folder / "hf_quant_config.json").write_text(json.dumps(config))
    offset, header = 0, {}
    for number, (dtype, size) in enumerate(dtypes.items()):
        header[f"layer.{number}.weight"] = {
            "dtype": dtype,
            "shape": [size],
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    return folder


class TestQuantise:
    def test_share_of_the_quantised_bytes_is_told(self, tmp_path: Path) -> None:
        made = checkpoint(tmp_path / "c", "NVFP4", {"U8": 300, "F16": 100})
        assert edge_llm_quantise.check(made, "nvfp4") == 0.75

    @pytest.mark.parametrize(
        ("algorithm", "dtypes", "says"),
        [
            (None, {"U8": 1}, "hf_quant_config.json is None"),
            ("FP8", {"U8": 1}, "hf_quant_config.json is 'FP8'"),
            ("NVFP4", {"F16": 10}, "no weight of the checkpoint is U8"),
        ],
        ids=["claims nothing", "claims another", "claims it and did nothing"],
    )
    def test_tool_that_quantised_nothing_is_found_out(
        self, tmp_path: Path, algorithm: str | None, dtypes: dict[str, int], says: str
    ) -> None:
        made = checkpoint(tmp_path / "c", algorithm, dtypes)
        with pytest.raises(edge_llm_quantise.QuantisationError, match=says):
            edge_llm_quantise.check(made, "nvfp4")

    def test_checkpoint_without_a_claim_is_found_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self._run(tmp_path, "nvfp4", "pass") == 3
        assert "hf_quant_config.json cannot be read" in capsys.readouterr().err

    def test_tool_that_fails_fails_the_step(self, tmp_path: Path) -> None:
        assert self._run(tmp_path, "nvfp4", "raise SystemExit(7)") == 5

    @pytest.mark.parametrize(
        ("quantisation", "config", "says"),
        [
            ("int4_awq", {"hidden_size": 576, "intermediate_size": 1536}, "hidden_size 576"),
            ("int4_awq", {"hidden_size": 256, "intermediate_size": 700}, "intermediate_size 700"),
            (
                "nvfp4",
                {"hidden_size": 64, "num_attention_heads": 3, "head_dim": 8},
                "num_attention_heads * head_dim 24",
            ),
        ],
    )
    def test_layers_that_are_no_whole_blocks_are_refused_before_anything_runs(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        quantisation: str,
        config: dict[str, int],
        says: str,
    ) -> None:
        program = f"open({str(tmp_path / 'ran')!r}, 'w')"
        assert self._run(tmp_path, quantisation, program, config) == 3
        assert says in capsys.readouterr().err
        assert not (tmp_path / "ran").exists()

    def _run(
        self, folder: Path, quantisation: str, program: str, config: dict[str, int] | None = None
    ) -> int:
        of_no_layers = {"model_type": "llama", "tie_word_embeddings": True, "num_hidden_layers": 0}
        whole = {**of_no_layers, **(config or {"hidden_size": 256})}
        (folder / "config.json").write_text(json.dumps(whole))
        tensor = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
        names = ("model.embed_tokens.weight", "model.norm.weight")
        header = json.dumps(dict.fromkeys(names, tensor)).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        argv = ["--checkpoint", str(folder), "--output", str(folder / "out")]
        argv += ["--quantisation", quantisation, "--calibration", str(folder / "texts.jsonl")]
        argv += ["--architectures", "llama"]
        return edge_llm_quantise.main([*argv, "--", sys.executable, "-c", program])


RECORD = {
    "sm": 110,
    "quantisation": "nvfp4",
    "model": "llama",
    "versions": {"tensorrt-edgellm": "0.11.0"},
}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "export" / "llm"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(bytes(2 * MIB))
    (folder / "embedding.safetensors").write_bytes(bytes(MIB))
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "export.json").write_text(json.dumps(RECORD))
    return tmp_path


def engine(folder: Path, settings: dict[str, Any], *command: str) -> tuple[int, Path]:
    (folder / "settings.json").write_text(json.dumps(settings))
    output = folder / "engine"
    argv = ["--export", str(folder / "export"), "--record", str(folder / "record")]
    argv += ["--settings", str(folder / "settings.json"), "--output", str(output)]
    output.mkdir(exist_ok=True)
    return edge_llm_engine.main([*argv, *(("--", *command) if command else ())]), output


SETTINGS = {
    "engine": {"precision": "nvfp4"},
    "compiler": ["llm_build", "--onnxDir", "${source}", "--engineDir", "${engine}"],
}


class TestEdgeLlmEngine:
    def test_tree_carries_the_export_and_how_a_device_compiles_it(self, exported: Path) -> None:
        code, output = engine(exported, SETTINGS)
        assert code == 0
        facts = read_document(output / "engine.json", EngineFacts)
        wanted = facts.compile_on_device
        assert wanted is not None
        assert wanted.tool == "llm_build"
        assert wanted.arguments == ("--onnxDir", "${source}", "--engineDir", "${engine}")
        assert wanted.memory_mib == 4 * 3  # four times the weights, which have 3 MiB
        assert wanted.disk_mib == 3
        assert facts.runtime == {"tensorrt-edgellm": "0.11.0"}
        weights = output / wanted.source / "model.onnx.data"
        assert weights.stat().st_ino == (exported / "export/llm/model.onnx.data").stat().st_ino

    def test_digest_follows_bytes_and_names_and_nothing_else(self, exported: Path) -> None:
        first = self._digest(exported)
        assert self._digest(exported) == first
        (exported / "export" / "llm" / "model.onnx").write_bytes(b"GRAPH")
        second = self._digest(exported)
        assert second != first
        (exported / "export" / "llm" / "model.onnx").rename(exported / "export" / "llm" / "m.onnx")
        assert self._digest(exported) not in {first, second}

    def test_runner_without_the_compiler_says_where_to_get_it(
        self, exported: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _ = engine(exported, SETTINGS, "llm_build_that_is_not_here")
        assert code == 3
        assert "docs/how-to/add-a-sku.md" in capsys.readouterr().err

    def test_compiler_that_writes_nothing_is_found_out(
        self, exported: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, _ = engine(exported, SETTINGS, "true")
        assert code == 3
        assert "did not write llm.engine" in capsys.readouterr().err

    def test_compiler_that_fails_fails_the_step(self, exported: Path) -> None:
        assert engine(exported, SETTINGS, "false")[0] == 5

    def test_missing_record_is_told(
        self, exported: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (exported / "record" / "export.json").unlink()
        assert engine(exported, SETTINGS)[0] == 3
        assert "export.json cannot be read" in capsys.readouterr().err

    def _digest(self, folder: Path) -> str:
        _, output = engine(folder, SETTINGS)
        digest: str = json.loads((output / "engine.json").read_text())["compile_on_device"][
            "digest"
        ]
        for path in sorted(output.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        return digest


class TestTensorRtLlm:
    def test_calibration_texts_become_a_local_data_set(self, tmp_path: Path) -> None:
        source = tmp_path / "calibration.jsonl"
        source.write_text('{"article": "Grüße"}\n{"article": "two"}\n')
        tensorrt_llm_convert.write_dataset(source, tmp_path / "set")
        lines = (tmp_path / "set" / "train.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [{"text": "Grüße"}, {"text": "two"}]

    @pytest.mark.parametrize(
        ("name", "algorithm", "asked", "code"),
        [
            ("config.json", "FP8", "FP8", 0),
            ("hf_quant_config.json", "FP8", "FP8", 0),
            ("config.json", None, "none", 0),
            ("config.json", None, "FP8", 3),
            ("config.json", "W8A16", "FP8", 3),
        ],
    )
    def test_precision_that_came_out_is_held_against_the_one_asked_for(
        self, tmp_path: Path, name: str, algorithm: str | None, asked: str, code: int
    ) -> None:
        output = tmp_path / "out"
        output.mkdir()
        (output / name).write_text(json.dumps({"quantization": {"quant_algo": algorithm}}))
        (tmp_path / "texts.jsonl").write_text('{"article": "x"}\n')
        model = tmp_path / "model"
        model.mkdir()
        (model / "config.json").write_text('{"model_type": "llama"}')
        argv = ["--checkpoint", str(model), "--architectures", "llama", "--output", str(output)]
        argv += ["--algorithm", asked, "--calibration"]
        argv += [str(tmp_path / "texts.jsonl"), "--dataset", str(tmp_path / "set")]
        argv += ["--", sys.executable, "-c", "pass"]
        assert tensorrt_llm_convert.main(argv) == code
