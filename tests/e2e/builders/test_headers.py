"""Headers as Forge reads them, compared with the formats' own packages."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from forge.builders.takes import CONVERTED_GGUF
from forge.builders.tools import gguf_header
from forge.checkpoint.files import selected
from forge.checkpoint.headers import read_headers
from forge.checkpoint.model_config import quantisation, read_config
from forge.checkpoint.safetensors import DTYPE_BITS, read_safetensors
from forge.errors import ConfigurationError
from tests.support.checkpoints import safetensors
from tests.support.serving import GGUF_SHA256, checkpoint, environment

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.builders]


def python(program: str, *arguments: str | Path) -> Any:
    """What a program in the environment `transformers` prints as JSON."""
    interpreter = environment("transformers") / "bin" / "python"
    done = subprocess.run(
        [interpreter, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


READ = """
import json, sys
from gguf import GGUFReader
reader = GGUFReader(sys.argv[1])
values = {}
for name, field in reader.fields.items():
    value = field.contents()
    values[name] = len(value) if isinstance(value, list) else value
tensors = [[t.name, [int(n) for n in t.shape], t.tensor_type.name, t.data_offset, int(t.n_bytes)]
    for t in reader.tensors]
print(json.dumps({"values": values, "tensors": tensors}))
"""


def test_demos_model_is_read_as_the_gguf_package_reads_it() -> None:
    (path,) = checkpoint().glob("*.gguf")
    found = gguf_header.read(path)
    reference = python(READ, path)
    own = {key: value for key, value in reference["values"].items() if not key.startswith("GGUF.")}
    assert dict(found.values) == own
    (start,) = found.data_starts
    assert [
        [one.name, list(one.shape), one.kind, start + one.offset, one.size] for one in found.tensors
    ] == reference["tensors"]


def test_demos_model_is_described_as_its_publisher_does() -> None:
    found = read_headers(selected(checkpoint(), ("*.gguf",)))
    assert GGUF_SHA256  # of this very file
    assert (found.form, found.architecture) == ("gguf", "llama")
    assert found.tokenizer == "gpt2/smollm"
    assert found.parameters == 134_515_008
    assert found.quantisation == ("f32", "q4_1", "q8_0")


TYPES = """
import json
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors import numpy
known = {int(t): [t.name, *GGML_QUANT_SIZES[t]] for t in GGMLQuantizationType}
read = [t.name.lower() for t in quants._type_traits] + ["f32", "f16"]
print(json.dumps({"types": known, "dequantised": sorted(read)}))
"""


def test_table_of_types_is_that_of_the_gguf_package() -> None:
    reference = python(TYPES)
    own = {str(number): list(row) for number, row in gguf_header.TENSOR_TYPES.items()}
    assert own == reference["types"]
    assert sorted(CONVERTED_GGUF.quantisations) == reference["dequantised"]


ARCHITECTURES = """
import json
from gguf.constants import MODEL_ARCH_NAMES
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
print(json.dumps({"gguf": sorted(MODEL_ARCH_NAMES.values()),
    "types": sorted(CONFIG_MAPPING_NAMES)}))
"""


def test_names_of_architectures_are_those_of_both_packages() -> None:
    """A row of the table names one of llama.cpp's architectures and one of transformers' types."""
    reference = python(ARCHITECTURES)
    plain = {name.replace("-", "_") for name in reference["gguf"]}
    assert set(gguf_header.MODEL_TYPES) <= plain
    assert set(gguf_header.MODEL_TYPES.values()) <= set(reference["types"])
    assert set(CONVERTED_GGUF.architectures) <= set(reference["types"])


WRITE = """
import sys, numpy
from gguf import GGUFWriter
writer = GGUFWriter(sys.argv[1], "qwen2", split_max_tensors=2)
writer.add_name("Split"); writer.add_block_count(1); writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("qwen2"); writer.add_token_list(["a", "b"])
for number in range(5):
    writer.add_tensor(f"blk.{number}.attn_q.weight", numpy.ones((2, 32), numpy.float32))
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file()
writer.close()
print("{}")
"""


def test_split_file_that_the_gguf_package_writes_is_one_checkpoint(tmp_path: Path) -> None:
    python(WRITE, tmp_path / "m.gguf")
    files = selected(tmp_path, ())
    assert len(files) == 3
    found = read_headers(files)
    assert found.weights == tuple(f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3))
    assert (found.architecture, len(found.tensors), found.parameters) == ("qwen2", 5, 320)
    del files["m-00002-of-00003.gguf"]
    with pytest.raises(ConfigurationError) as caught:
        read_headers(files)
    assert "missing: m-00002-of-00003.gguf" in caught.value.why


CONFIGS = """
import json, pathlib, sys
from transformers import AutoConfig
from transformers.models.auto import modeling_auto as auto
tables = {"causal": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "seq2seq": auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "speech": auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    "vision": auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES}
found = {}
for table, names in tables.items():
    for kind, name in names.items():
        try:
            config = AutoConfig.for_model(kind)
            config.architectures = [name if isinstance(name, str) else name[0]]
            path = pathlib.Path(sys.argv[1], f"{table}-{kind}.json")
            path.write_text(config.to_json_string(use_diff=False))
        except Exception:  # a composite model without a default
            continue
        found[path.name] = getattr(config, "is_encoder_decoder", False)
print(json.dumps(found))
"""
# Language models of transformers' table whose default config has images as input, or another class.
OTHERS = {"bert-generation", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2",
          "llama4", "mllama", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "reformer"}  # fmt: skip


def test_default_config_of_each_language_model_is_taken_and_of_each_other_kind_refused(
    tmp_path: Path,
) -> None:
    taken = set()
    written = python(CONFIGS, tmp_path)
    for name in written:
        with contextlib.suppress(ConfigurationError):
            read_config(tmp_path / name)
            taken.add(name)
    decoders = {
        name for name, encoder in written.items() if name.startswith("causal-") and not encoder
    }
    assert len(decoders) > 100
    assert taken == decoders - {f"causal-{kind}.json" for kind in OTHERS}


QUANTISERS = """
import json
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as known
found = {}
for name, kind in known.items():
    for arguments in ({}, {"bits": 4}, {"load_in_4bit": True}):
        try:
            found[name] = kind(**arguments).to_dict()
            json.dumps(found[name])
            break
        except Exception:  # requires a package or an argument
            found.pop(name, None)
print(json.dumps(found))
"""


def test_quantisation_config_of_each_of_transformers_methods_is_named() -> None:
    found = python(QUANTISERS)
    assert {"gptq", "awq", "fp8", "mxfp4"} <= set(found)
    for name, document in found.items():
        expected = name.removesuffix("_4bit").removesuffix("_8bit")
        expected = "fp8" if name == "mxfp8" else expected  # as transformers 5.14 writes it
        assert quantisation({"quantization_config": document}) == expected


SAVE = """
import json, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2, vocab_size=128,
    num_attention_heads=4)
model = LlamaForCausalLM(config).to(torch.bfloat16)
model.save_pretrained(sys.argv[1], max_shard_size="50KB")
print(json.dumps({name: list(tensor.shape) for name, tensor in model.state_dict().items()}))
"""


def test_shards_that_transformers_writes_are_one_model_with_all_its_tensors(tmp_path: Path) -> None:
    expected = python(SAVE, tmp_path)
    found = read_headers(selected(tmp_path, ()))
    assert len(found.weights) > 1
    assert {one.name: list(one.shape) for one in found.tensors} == expected
    assert set(found.dtypes) == {"BF16"}
    assert (found.tokenizer, found.quantisation) == ("none", ("none",))
    (tmp_path / found.weights[1]).unlink()
    with pytest.raises(ConfigurationError, match=f"incomplete: {found.weights[1]} missing"):
        read_headers(selected(tmp_path, ()))


OPEN = """
import json, pathlib, sys
from safetensors import safe_open
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        with safe_open(path, framework="numpy") as file:
            found[path.name] = sorted(file.keys())
    except Exception as error:
        found[path.name] = None
print(json.dumps(found))
"""


def test_safetensors_that_the_own_package_refuses_are_refused_and_the_others_read(
    tmp_path: Path,
) -> None:
    """Files with changed bytes, tables with changed offsets, each type with one byte too many."""
    chance = random.Random(7)  # noqa: S311
    whole = safetensors({"a": "F32", "model.b": "BF16", "c": "U8"})
    for number in range(400):
        made = bytearray(whole)
        for _ in range(chance.randint(0, 2)):
            made[chance.randrange(len(made))] = chance.choice(b'0123456789[]{}",:abF')
        (tmp_path / f"bytes-{number:03d}").write_bytes(made[: chance.choice([len(made), 40, -1])])
    for dtype, bits in DTYPE_BITS.items():
        for extra in (0, 1):
            row = {"dtype": dtype, "shape": [8], "data_offsets": [0, bits + extra]}
            text = json.dumps({"a": row}).encode()
            data = struct.pack("<Q", len(text)) + text + bytes(bits + extra)
            (tmp_path / f"type-{dtype}-{extra}").write_bytes(data)
    reference = python(OPEN, tmp_path)
    assert any(reference.values())
    for path in sorted(tmp_path.iterdir()):
        try:
            names = sorted(one.name for one in read_safetensors(path, path.name))
        except ConfigurationError:
            names = None
        assert names == reference[path.name], path.name
