"""Quantise a tiny model of one family, execute it, and let ModelOpt itself compute the same.

    python modelopt_work.py FAMILY FOLDER CALIBRATION TEXT PRECISION…

Runs in the tool environment `transformers` with forge/builders/tools in PYTHONPATH. Writes
FOLDER/checkpoint, FOLDER/reference, and for each precision FOLDER/PRECISION (the checkpoint),
FOLDER/receipt-PRECISION and FOLDER/PRECISION.npz: logits of our execution of the stored tensors
(`ours`), and of ModelOpt's model in memory, before it is exported (`modelopts`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import modelopt_quantise  # before torch: it hides GPUs
import numpy as np
import receipt
import reference
import torch
import torch_receipt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.015,
    "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 1024,
}  # fmt: skip
FAMILIES: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
    "llama": (torch.float16, {"rope_parameters": LLAMA3}),
    "mistral": (torch.bfloat16, {"sliding_window": None, "head_dim": 64}),
    "qwen2": (torch.float16, {"tie_word_embeddings": False}),
    "qwen3": (torch.bfloat16, {"head_dim": 128, "tie_word_embeddings": True}),
    "phi3": (torch.bfloat16, {"tie_word_embeddings": False}),
}


def make(family: str, folder: Path) -> None:
    """Write a model of random weights, with a tokenizer whose tokens are bytes."""
    dtype, more = FAMILIES[family]
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(SIZES | more)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif "embed_tokens" in name:
                parameter.normal_(0, 0.06)
            elif "lm_head" in name:
                parameter.normal_(0, 0.1)
    model.to(dtype).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {one: number + 2 for number, one in enumerate(alphabet)} | {"<s>": 0, "</s>": 1}
    plain = Tokenizer(models.BPE(vocabulary, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.save_pretrained(folder)


def modelopts(checkpoint: Path, texts: list[str], precision: str, tokens: list[int]) -> Any:
    """Logits of ModelOpt's own quantised model, in float32."""
    from modelopt.torch import quantization

    _, model, forward = modelopt_quantise.load(checkpoint, texts)
    configuration = getattr(quantization, modelopt_quantise.CONFIGURATIONS[precision])
    quantization.quantize(model, configuration, forward)
    if precision == "fp8":
        modelopt_quantise.share_scales(model)  # else ModelOpt's weights are others
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def nvfp4_on_cpu() -> None:
    """Put ModelOpt's own NVFP4 tensor in the place of its kernel, which needs CUDA."""
    from modelopt.torch.quantization import tensor_quant
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    def rounded(value: Any, block: int, amax: Any, *_formats: int) -> Any:
        packed, scale, double = NVFP4QTensor.quantize(value, block, None, amax.float() / (6 * 448))
        sizes = {-1: block}
        return packed.dequantize(value.dtype, scale=scale, double_scale=double, block_sizes=sizes)

    tensor_quant.dynamic_block_quantize_op = rounded


def main(family: str, folder: Path, calibration: Path, text: Path, precisions: list[str]) -> None:
    """Do all of it."""
    torch.set_num_threads(1)
    checkpoint = folder / "checkpoint"
    make(family, checkpoint)
    wanted = ["--checkpoint", str(checkpoint), "--text", str(text)]
    assert reference.main([*wanted, "--output", str(folder / "reference")]) == 0
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"engine": {"max_batch_size": 4, "max_seq_len": 2048}}))
    texts = modelopt_quantise.read_texts(calibration)
    tokens = list(json.loads(text.read_text())["passages"][2].encode()[:200])
    tokens = [token + 2 for token in tokens]
    nvfp4_on_cpu()
    for precision in precisions:
        engine = folder / precision
        argv = ["--checkpoint", str(checkpoint), "--output", str(engine), "--precision", precision]
        assert modelopt_quantise.main([*argv, "--calibration", str(calibration)]) == 0
        argv = ["--engine", str(engine), "--reference", str(folder / "reference")]
        argv += ["--settings", str(settings), "--output", str(folder / f"receipt-{precision}")]
        assert receipt.main(torch_receipt.Scorer, torch_receipt.need_of, argv) == 0
        np.savez(
            folder / f"{precision}.npz",
            ours=torch_receipt.Scorer(engine).score([tokens])[0],
            modelopts=modelopts(checkpoint, texts, precision, tokens),
        )


if __name__ == "__main__":
    name, place, samples, words, *wanted = sys.argv[1:]
    main(name, Path(place), Path(samples), Path(words), wanted)
