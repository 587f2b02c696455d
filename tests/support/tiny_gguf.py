"""Write a Hugging Face folder as llama.cpp's converter does. Runs in `transformers`.

    python tiny_gguf.py FOLDER TOKENIZER PRE OUTPUT.gguf [f16|bf16|q8_0] [PARTS]

FOLDER holds config.json and model.safetensors, TOKENIZER a tokenizer.json; PRE is the name of its
kind, or `spm`. With PARTS, the file is split into so many. Written from convert_hf_to_gguf.py, and
independent of what reads it.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3"}
PERMUTED = {"llama", "granite", "smollm3"}
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
GEMMA = {"post_attention_layernorm": "post_attention_norm",
         "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}  # fmt: skip


def main(argv: list[str]) -> int:
    """Write one file."""
    folder, tokenizer, pre, output = Path(argv[0]), Path(argv[1]), argv[2], argv[3]
    kind = argv[4] if len(argv) > 4 else "f16"
    tensors = load_file(folder / "model.safetensors")
    parts = int(argv[5]) if len(argv) > 5 else 1
    config = json.loads((folder / "config.json").read_text())
    architecture = ARCHITECTURES.get(config["model_type"], config["model_type"])
    most = math.ceil((len(tensors) + 1) / parts) if parts > 1 else 0
    writer = gguf.GGUFWriter(output, architecture, split_max_tensors=most)
    add_numbers(writer, config, architecture)
    add_rope(writer, config)
    add_tokenizer(writer, tokenizer, pre, config)
    for name, values in tensors.items():
        add_tensor(writer, name, values.float(), config, architecture, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return 0


def head_size(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def add_numbers(writer: gguf.GGUFWriter, config: dict[str, Any], architecture: str) -> None:
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(1)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    if architecture == "granite":
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if architecture in {"gemma2", "gemma3"}:
        writer.add_sliding_window(config["sliding_window"])
    else:
        writer.add_rope_dimension_count(head_size(config))


def add_rope(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_size(config)))


def llama3_factors(rope: dict[str, Any], head: int) -> np.ndarray:
    trained = rope["original_max_position_embeddings"]
    low_wavelength = trained / rope["low_freq_factor"]
    high_wavelength = trained / rope["high_freq_factor"]
    found = []
    for frequency in 1.0 / (rope["rope_theta"] ** (torch.arange(0, head, 2).float() / head)):
        wavelength = 2 * math.pi / frequency
        if wavelength < high_wavelength:
            found.append(1.0)
        elif wavelength > low_wavelength:
            found.append(rope["factor"])
        else:
            smooth = (trained / wavelength - rope["low_freq_factor"]) / (
                rope["high_freq_factor"] - rope["low_freq_factor"]
            )
            found.append(float(1 / ((1 - smooth) / rope["factor"] + smooth)))
    return np.array(found, np.float32)


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, pre: str, config: dict[str, Any]) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    model = document["model"]
    size = config["vocab_size"]
    texts = [f"[PAD{index}]" for index in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for text, index in model["vocab"].items():
        if index >= size:
            continue
        texts[index], kinds[index] = text, gguf.TokenType.NORMAL
        if pre.startswith("spm") and len(text) == 6 and text.startswith("<0x"):
            kinds[index] = gguf.TokenType.BYTE
    for token in document["added_tokens"]:
        if token["id"] < size:
            special = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
            texts[token["id"]], kinds[token["id"]] = token["content"], special
    around = document["post_processor"]
    if pre.startswith("spm"):
        kinds[model["vocab"]["<unk>"]] = gguf.TokenType.UNKNOWN
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores([-float(index) for index in range(size)])
        writer.add_unk_token_id(model["vocab"]["<unk>"])
        writer.add_add_space_prefix(not pre.endswith("no-prefix"))
        writer.add_add_bos_token("<s>" in str(around) or "bos" in str(around))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
        writer.add_token_merges(merges)
        if pre not in {"llama-bpe", "tekken"}:  # llama.cpp knows that they begin with BOS
            writer.add_add_bos_token(False)
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    if isinstance(config.get("bos_token_id"), int):
        writer.add_bos_token_id(config["bos_token_id"])
    ends = config["eos_token_id"]
    writer.add_eos_token_id(ends[-1] if isinstance(ends, list) else ends)
    writer.add_chat_template("{{ messages }}")


def add_tensor(
    writer: gguf.GGUFWriter,
    name: str,
    values: torch.Tensor,
    config: dict[str, Any],
    architecture: str,
    kind: str,
) -> None:
    gemma = architecture.startswith("gemma")
    if gemma and name.endswith("norm.weight"):
        values = values + 1
    name = name.removeprefix("model.")
    if name in {"embed_tokens.weight", "norm.weight", "lm_head.weight"}:
        outer = {"embed_tokens.weight": "token_embd", "norm.weight": "output_norm"}
        there = f"{outer.get(name, 'output')}.weight"
    else:
        _, layer, rest = name.split(".", 2)
        base, end = rest.rsplit(".", 1)
        part = GEMMA.get(base) or NAMES[base] if gemma else NAMES[base]
        there = f"blk.{layer}.{part}.{end}"
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(part)
        if heads and architecture in PERMUTED:
            values = permuted(values, config[heads])
    array = values.numpy()
    if array.ndim == 1:
        writer.add_tensor(there, array)
    elif kind == "f16":
        writer.add_tensor(there, array.astype(np.float16))
    else:
        target = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}
        packed = gguf.quants.quantize(array, target[kind])
        writer.add_tensor(there, packed, raw_dtype=target[kind])


def permuted(values: torch.Tensor, heads: int) -> torch.Tensor:
    rest = values.shape[1:]
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *rest)
    return halves.swapaxes(1, 2).reshape(values.shape)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
