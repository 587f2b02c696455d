"""A Hugging Face checkpoint: config.json, safetensors, tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forge.checkpoint.model_config import ModelConfig, read_config, read_document
from forge.checkpoint.model_shape import shape_of_config
from forge.checkpoint.safetensors import WeightTensor, read_safetensors
from forge.errors import ConfigurationError
from forge.memory.shape import ModelShape

__all__ = ["HuggingFaceModel", "read_model", "refuse_other_kinds"]

CONFIG: Final = "config.json"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
ADAPTER: Final = "adapter_config.json"
_FILE: Final = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
# Mistral's own form of the same weights, which transformers does not read.
_OTHER_FORM: Final = re.compile(r"consolidated.*\.safetensors")
# File → kind of tokenizer; the first one that is there counts.
_TOKENIZERS: Final = {
    "tokenizer.json": "tokenizer.json",
    "tokenizer.model": "tokenizer.model",
    "spiece.model": "spiece.model",
    "sentencepiece.bpe.model": "sentencepiece.bpe.model",
    "tekken.json": "tekken.json",
    "vocab.json": "vocab.json",
    "vocab.txt": "vocab.txt",
}
# What older quantisers wrote next to a config.json that does not mention them.
_QUANTISERS: Final = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
}
# Types that only quantised weights have, and names of tensors that belong to packed ones.
_PACKED_DTYPES: Final = ("F8_", "F4", "F6_")
_PACKED_NAMES: Final = (".qweight", ".qzeros", ".weight_packed", ".weight_scale", ".SCB", ".absmax")


@dataclass(frozen=True, slots=True)
class HuggingFaceModel:
    """The headers of a Hugging Face checkpoint.

    Attributes:
        config: what config.json states.
        tokenizer: kind of tokenizer, e.g. `tokenizer.json`; `none` if there is none.
        quantisation: method, e.g. `gptq`; `none` for original weights.
        weights: names of the files that hold the weights.
        tensors: all tensors of these files.
        shape: sizes of the model; None if they are not understood.
    """

    config: ModelConfig
    tokenizer: str
    quantisation: str
    weights: tuple[str, ...]
    tensors: tuple[WeightTensor, ...]
    shape: ModelShape | None = None


def refuse_other_kinds(files: Mapping[str, Path]) -> None:
    """Raise ConfigurationError for adapters, pipelines of diffusers and embedding models."""
    if "model_index.json" in files:
        raise ConfigurationError(
            "The checkpoint is a pipeline of diffusers, which makes images",
            why="it has a model_index.json",
            hint="use a causal language model",
        )
    if ADAPTER in files:
        _refuse_adapter(files)
    if "config_sentence_transformers.json" in files:
        raise ConfigurationError(
            "The checkpoint is a model of sentence-transformers, which makes embeddings",
            why="it has a config_sentence_transformers.json",
            hint="use a causal language model; a bundle's second model is given as --embedding, and"
            " pinned by: forge checkpoint pin --embedding URL",
        )


def _refuse_adapter(files: Mapping[str, Path]) -> None:
    base = read_document(files[ADAPTER], ADAPTER).get("base_model_name_or_path")
    what = "a LoRA adapter and not a model"
    if WEIGHTS in files or INDEX in files:
        what = "a model with a LoRA adapter next to it, which transformers would load instead"
    raise ConfigurationError(
        f"The checkpoint is {what}",
        why=f"{ADAPTER} names the base model {base!r}" if base else f"it has an {ADAPTER}",
        hint="merge the adapter into its base model with merge_and_unload and save_pretrained of"
        " peft, and use that folder",
    )


def read_model(files: Mapping[str, Path]) -> HuggingFaceModel:
    """Read the headers of a checkpoint that has safetensors.

    Raises:
        ConfigurationError: config.json or a shard is missing, or a file is not valid.
        OSError: a file cannot be read.
    """
    if CONFIG not in files:
        _refuse_without_config(files)
    config = read_config(files[CONFIG])
    weights = _weights(files)
    tensors = tuple(tensor for name in weights for tensor in read_safetensors(files[name], name))
    if not tensors:
        raise ConfigurationError(
            "The checkpoint has no tensors",
            why=f"{weights[0]} is empty",
            hint="download the checkpoint again",
        )
    _check_unique(tensors)
    if weights != (WEIGHTS,):
        _check_index(files, weights, tensors)
    method = config.quantisation
    if method == "none":
        method = _unstated_quantisation(files, tensors)
    document = read_document(files[CONFIG], CONFIG)
    shape = shape_of_config(document, tensors, packed=method != "none")
    return HuggingFaceModel(config, _tokenizer(files), method, weights, tensors, shape)


def _refuse_without_config(files: Mapping[str, Path]) -> None:
    nested = sorted(name for name in files if name.endswith(f"/{CONFIG}"))
    raise ConfigurationError(
        "The checkpoint has no config.json next to its weights",
        why=f"found {nested[0]}" if nested else "config.json says which model the weights are of",
        hint="use that folder as the source of the URL"
        if nested
        else "add it to path= of the URL: ?path=*.safetensors&path=*.json",
    )


def _weights(files: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the names of the files that transformers would read."""
    found = sorted(
        name
        for name in files
        if name.endswith(".safetensors") and "/" not in name and not _OTHER_FORM.fullmatch(name)
    )
    if INDEX not in files:
        if found == [WEIGHTS]:
            return (WEIGHTS,)
        _refuse_without_index(found)
    mapped = sorted(set(_weight_map(files).values()))
    if missing := [name for name in mapped if name not in found]:
        raise ConfigurationError(
            f"The checkpoint is incomplete: {', '.join(missing[:8])} missing",
            why=f"{INDEX} names {len(mapped)} files",
            hint="download the missing files; check path= of the URL",
        )
    if extra := [name for name in found if name not in mapped]:
        raise ConfigurationError(
            f"{INDEX} does not name {', '.join(extra[:8])}",
            why="which of the files are the model's cannot be known",
            hint="select the files of one model with path= in the URL",
        )
    return tuple(mapped)


def _refuse_without_index(found: Sequence[str]) -> None:
    if not found:
        raise ConfigurationError(
            "The checkpoint has no weights next to its config.json",
            why=f"supported are {WEIGHTS}, or shards with {INDEX}",
            hint="check the source and path= of the URL",
        )
    shards = [match for match in map(_SHARD.fullmatch, found) if match]
    if len(shards) == len(found) and len({(one["stem"], one["count"]) for one in shards}) == 1:
        count = int(shards[0]["count"])
        there = {int(one["number"]) for one in shards}
        missing = [number for number in range(1, count + 1) if number not in there]
        absent = [f"{shards[0]['stem']}-{n:05d}-of-{count:05d}.safetensors" for n in missing[:8]]
        raise ConfigurationError(
            f"The checkpoint is incomplete: {', '.join([*absent, INDEX])} missing",
            why=f"it has {len(found)} of {count} shards and no index",
            hint="download the missing files; check path= of the URL",
        )
    raise ConfigurationError(
        f"The checkpoint's weights are not in {WEIGHTS}, nor in shards with an index",
        why=f"found {', '.join(found[:8])}",
        hint=f"select the files of one model with path= in the URL; a single one must be {WEIGHTS}",
    )


def _weight_map(files: Mapping[str, Path]) -> dict[str, str]:
    found = read_document(files[INDEX], INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise ConfigurationError(f"{INDEX} is not valid", why="it has no weight_map")
    for name in found.values():
        if not isinstance(name, str) or not _FILE.fullmatch(name):
            raise ConfigurationError(f"{INDEX} is not valid", why=f"it names the file {name!r}")
    return found


def _check_unique(tensors: Sequence[WeightTensor]) -> None:
    places: dict[str, str] = {}
    for tensor in tensors:
        if tensor.name in places:
            raise ConfigurationError(
                f"Tensor {tensor.name!r} is in {places[tensor.name]} and in {tensor.file}",
                hint="select the files of one model with path= in the URL",
            )
        places[tensor.name] = tensor.file


def _check_index(
    files: Mapping[str, Path], weights: Sequence[str], tensors: Sequence[WeightTensor]
) -> None:
    """Raise ConfigurationError if the index and the headers of the shards differ."""
    mapped = _weight_map(files)
    places = {tensor.name: tensor.file for tensor in tensors}
    for name in sorted(mapped.keys() | places.keys()):
        if mapped.get(name) != places.get(name):
            raise ConfigurationError(
                f"{INDEX} and its {len(weights)} shards differ in tensor {name!r}",
                why=f"the index has it in {mapped.get(name, 'no file')}, found in"
                f" {places.get(name, 'no file')}",
                hint="download the checkpoint again",
            )


def _unstated_quantisation(files: Mapping[str, Path], tensors: Sequence[WeightTensor]) -> str:
    """Return the quantisation that config.json does not state; `none` if there is none."""
    for name, method in _QUANTISERS.items():
        if name in files:
            return method
    for tensor in tensors:
        if tensor.dtype.startswith(_PACKED_DTYPES):
            return tensor.dtype.lower()
        if tensor.name.endswith(_PACKED_NAMES):
            return "unknown"
    return "none"


def _tokenizer(files: Mapping[str, Path]) -> str:
    for name, kind in _TOKENIZERS.items():
        if name in files:
            return kind
    return "tiktoken" if any(name.endswith(".tiktoken") for name in files) else "none"
