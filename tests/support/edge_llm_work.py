"""Work of tests in the environment `edge-llm`: tiny models, and what transformers computes of them.

    edge_llm_work.py make NAME FOLDER
    edge_llm_work.py compare EXPORT CHECKPOINT     divergences as JSON; no code of ours computes
                                                   the expected logits
    edge_llm_work.py formats                       numpy's values beside NVIDIA's own functions

The reference of a quantised checkpoint is transformers with dequantised weights (ModelOpt's own
NVFP4QTensor for NVFP4) and NVIDIA's own fake quantisation of each layer's input.
"""

# mypy: disable-error-code="import-not-found"
# The packages are those of the environment.

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

TOOLS = Path(__file__).resolve().parents[2] / "forge" / "builders" / "tools"
sys.path.insert(0, str(TOOLS))

VOCABULARY = 512
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "initializer_range": 0.08, "max_position_embeddings": 4096,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
ALPHA = {"type": "dynamic", "rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama3": ("llama", {"rope_scaling": LLAMA3, "rope_theta": 500000.0}),
    "llama-yarn": ("llama", {"rope_scaling": YARN, "head_dim": 128, "tie_word_embeddings": True}),
    "llama-linear": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-gelu": ("llama", {"hidden_act": "gelu"}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 64}),
    "qwen2": ("qwen2", {"rope_theta": 1000000.0}),
    "qwen3": ("qwen3", {"head_dim": 128, "tie_word_embeddings": True}),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 64, "rope_scaling": ALPHA}),
    "gemma2": ("gemma2", {"head_dim": 64, "sliding_window": 64}),
    "granite": (
        "granite",
        {"embedding_multiplier": 12.0, "logits_scaling": 8.0, "residual_multiplier": 0.22},
    ),
}


def make(name: str, folder: Path) -> None:
    """Write a model of random weights, and a tokenizer trained on the calibration texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    kind, more = MODELS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**COMMON, **more}))
    model = model.to(torch.float16)
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            if parameter.endswith("bias"):
                value.normal_(0, 0.2)
            elif "norm" in parameter:
                value.copy_(torch.rand_like(value) + 0.5)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = (TOOLS.parent / "data" / "calibration.jsonl").read_text("utf-8").splitlines()
    tokenizer.train_from_iterator((json.loads(line)["article"] for line in texts), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        pad_token="</s>",
    )  # fmt: skip
    fast.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
    fast.save_pretrained(folder)


def reference(checkpoint: Path) -> Any:
    """Return transformers' model in fp32 of a checkpoint, quantised or not."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint)
    if not hasattr(config, "quantization_config"):
        return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tensors = stored(checkpoint)
    state = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and f"{name}.weight_scale" in tensors:
            state[f"{name}.weight"] = dequantised(name, module, tensors)
    for name in model.state_dict():
        if name not in state and name in tensors:
            state[name] = tensors[name].float()
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert missing == (["lm_head.weight"] if config.tie_word_embeddings else []), missing
    model.tie_weights()
    return model


def stored(checkpoint: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def dequantised(
    name: str, layer: torch.nn.Module, tensors: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return a layer's weight, and make the layer quantise its input as the exported graph."""
    from modelopt.torch.quantization.qtensor import NVFP4QTensor
    from tensorrt_edgellm.models import ops

    weight, scale = tensors[f"{name}.weight"], tensors[f"{name}.weight_scale"]
    given = tensors.get(f"{name}.input_scale")
    smooth = tensors.get(f"{name}.pre_quant_scale")
    if f"{name}.weight_scale_2" in tensors:
        packed = NVFP4QTensor(
            torch.Size([weight.shape[0], weight.shape[1] * 2]), torch.float32, weight
        )
        layer.register_forward_pre_hook(
            lambda _, args: (ops._nvfp4_act_qdq_eager(args[0].half(), given).float(),)
        )
        dense: torch.Tensor = packed.dequantize(
            dtype=torch.float32, scale=scale, double_scale=tensors[f"{name}.weight_scale_2"],
            block_sizes={-1: 16},
        )  # fmt: skip
        return dense
    if weight.dtype == torch.float8_e4m3fn:
        layer.register_forward_pre_hook(
            lambda _, args: (
                ops._fp8_dequantize_eager(ops._fp8_quantize_eager(args[0], given), given).float(),
            )
        )
        return weight.float() * scale.float()
    if smooth is not None:
        layer.register_forward_pre_hook(lambda _, args: (args[0] * smooth.float(),))
    values = torch.empty(weight.shape[0] * 2, weight.shape[1])
    values[0::2], values[1::2] = (weight & 15).float(), (weight >> 4).float()
    values[values > 7] -= 16
    return values * scale.float().repeat_interleave(weight.shape[1] // scale.shape[1], 1)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def compare(export: Path, checkpoint: Path) -> dict[str, Any]:
    """Return correlation and divergence by length, alone and as a batch, and through the cache."""
    from edge_llm_receipt import GraphScorer

    scorer, model = GraphScorer(export), reference(checkpoint)
    random = np.random.default_rng(0)
    found: dict[str, Any] = {"precision": scorer.precision}
    for lengths in ((12,), (300, 120), (1000,)):
        rows = [random.integers(3, VOCABULARY, length).tolist() for length in lengths]
        for row, logits in zip(rows, scorer.score(rows), strict=True):
            with torch.no_grad():
                wanted = model(torch.tensor([row])).logits[0].float().numpy()
            found[str(len(row))] = figures(wanted, logits)
    row = random.integers(3, VOCABULARY, 200).tolist()
    whole = scorer.score([row])[0][139:-1]
    found["decode"] = figures(whole, scorer.decode(row[:140], row[140:]))
    return found


def figures(wanted: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    correlation = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(wanted, logits, strict=True)]
    p, q = log_softmax(wanted), log_softmax(logits)
    divergence = float((np.exp(p) * (p - q)).sum(-1).mean())
    return {"correlation": float(np.mean(correlation)), "kl": divergence}


def formats() -> dict[str, bool]:
    """Return whether values are bit for bit those of NVIDIA's functions."""
    import edge_llm_formats as ours
    from tensorrt_edgellm.checkpoint import repacking
    from tensorrt_edgellm.models import ops

    torch.manual_seed(0)
    values = torch.cat([torch.randn(64, 256) * 3, torch.zeros(1, 256), torch.full((1, 256), 2e4)])
    values = values.half()
    scale = torch.tensor(0.0013)
    codes, scales = ours.quantise_e2m1(values.numpy(), scale.numpy(), 16)
    blocks = ours.dequantise(scales, scale.half().numpy())
    fp4 = ours.dequantise(codes, blocks, -1, 16)
    step = torch.tensor(0.0113, dtype=torch.float16)
    fp8 = ours.dequantise(ours.quantise_e4m3(values.numpy(), step.numpy()), step.numpy())
    theirs = ops._fp8_dequantize_eager(ops._fp8_quantize_eager(values, step), step)
    nibbles = np.random.default_rng(0).integers(0, 16, (192, 320)).astype(np.int16)
    packed = repacking.repack_to_cutedsl_fragment(nibbles)
    return {
        "e2m1": bool((fp4 == ops._nvfp4_act_qdq_eager(values, scale).numpy()).all()),
        "e4m3": bool((fp8 == theirs.numpy()).all()),
        "int4": bool((ours.unpack_int4(packed, 192, 320) == nibbles - 8).all()),
    }


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "make":
        make(arguments[0], Path(arguments[1]))
    else:
        done = formats() if command == "formats" else compare(*map(Path, arguments))
        sys.stdout.write(json.dumps(done) + "\n")
