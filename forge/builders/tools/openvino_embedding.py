"""Compile an embedding model to OpenVINO IR. Runs in the tool environment `openvino`.

    python openvino_embedding.py --checkpoint DIR --output DIR

    OUTPUT/openvino_model.{xml,bin}   from tokens to vectors, pooling inside; weights in 16 bits
    OUTPUT/tokenizer.json             copied from the checkpoint
    OUTPUT/engine.json                limits of the model, exact versions

The checkpoint is one of sentence-transformers with a BERT encoder. Exit code 3: it is not, or a
field or tensor of it is not understood. 5: the IR could not be made. OUTPUT is written only if
everything succeeds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import embedding_checkpoint
import openvino_ir
import room
import safetensors_file
from embedding_checkpoint import EmbeddingCheckpoint, UnsupportedEmbeddingError

CONFIGURATION_ERROR = 3
STEP_FAILED = 5
ARCHITECTURES = ("bert",)
# Measured: docs/reference/builders.md.
ROOM = room.Room(memory_mib=200, memory=3.0, disk=1.0)
FP16_MAX = 65504.0
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
# Fields of config.json with the only value that the graph computes; absent is the first one.
FIXED: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "hidden_act": ("gelu",),  # the exact one, with erf; gelu_new and others are approximations
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "position_embedding_type": ("absolute",),
    "pruned_heads": ({},),
    "quantization_config": (None,),
    "tie_word_embeddings": (True, False),  # of a head that is not used
}
# Sizes and names that the tensors state as well, and what is used in training or decoding only.
READ = frozenset(
    {
        *("architectures", "hidden_size", "intermediate_size", "layer_norm_eps", "model_type"),
        *("max_position_embeddings", "num_attention_heads", "num_hidden_layers", "vocab_size"),
        *("type_vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "dtype"),
        *("torch_dtype", "transformers_version", "_name_or_path", "use_cache"),
        *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout"),
        *("gradient_checkpointing", "initializer_range", "id2label", "label2id"),
        *("directionality", "_attn_implementation_autoset"),
    }
)


def main(argv: list[str] | None = None) -> int:
    """Compile and return the exit code."""
    parser = argparse.ArgumentParser(description="Compile an embedding model to OpenVINO IR.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        compile_checkpoint(arguments.checkpoint, arguments.output)
    except room.NoRoomError as error:
        return int(room.refuse(error))
    except (UnsupportedEmbeddingError, safetensors_file.SafetensorsError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return CONFIGURATION_ERROR
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"Error: the model could not be compiled: {str(error).strip()}\n")
        return STEP_FAILED
    return 0


def compile_checkpoint(checkpoint: Path, output: Path) -> None:
    """Check everything first, then fill `output`. Raises UnsupportedEmbeddingError."""
    found = embedding_checkpoint.read_checkpoint(checkpoint)
    check_config(found.config)
    check_tokenizer(found)
    weights = room.weights_mib(found.folder)
    room.require(ROOM, f"compiling {weights} MiB of weights", output, weights)
    openvino_ir.disable_telemetry()
    arrays = read_arrays(found.folder)
    check_range(arrays)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".embedding-", dir=output.parent) as folder:
        work = Path(folder)
        save(found, arrays, work)
        shutil.copyfile(
            found.folder / embedding_checkpoint.TOKENIZER, work / embedding_checkpoint.TOKENIZER
        )
        openvino_ir.write_json(work / openvino_ir.FACTS, engine_facts(found, arrays, work))
        openvino_ir.publish(work, sorted(path.name for path in work.iterdir()), output)
    sys.stderr.write(
        f"compiled: {found.dimensions} dimensions, {found.max_seq_len} tokens, {found.pooling}"
        f" pooling{', normalized' if found.normalize else ''}\n"
    )


def check_config(config: Mapping[str, Any]) -> None:
    """Raise UnsupportedEmbeddingError for a field that the graph does not obey."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise UnsupportedEmbeddingError(
            f"the checkpoint is a {kind!r} model; supported: {', '.join(ARCHITECTURES)}\n"
            "  → use an embedding model with a BERT encoder"
        )
    for name, value in config.items():
        if name in FIXED and value not in FIXED[name]:
            raise UnsupportedEmbeddingError(f"config.json has {name} {value!r}, not supported")
        if name not in FIXED and name not in READ and value not in (None, False, 0, "", [], {}):
            raise UnsupportedEmbeddingError(f"config.json has {name!r}, which is not understood")
    file = embedding_checkpoint.CONFIG
    whole = embedding_checkpoint.whole
    whole(config, "num_hidden_layers", file)
    width, heads = whole(config, "hidden_size", file), whole(config, "num_attention_heads", file)
    if width % heads:
        raise UnsupportedEmbeddingError(f"config.json has {heads} heads for {width} dimensions")
    epsilon = config.get("layer_norm_eps", 0.0)
    if type(epsilon) not in (int, float) or not 0 <= epsilon < 1:
        raise UnsupportedEmbeddingError(f"config.json has no valid layer_norm_eps: {epsilon!r}")


def check_tokenizer(found: EmbeddingCheckpoint) -> None:
    """Raise UnsupportedEmbeddingError if single texts are more than one kind of sentence."""
    tokenizer = embedding_checkpoint.read_object(found.folder / embedding_checkpoint.TOKENIZER)
    processor = tokenizer.get("post_processor")
    if not isinstance(processor, dict):
        raise UnsupportedEmbeddingError(
            f"tokenizer.json has no valid post_processor: {processor!r}"
        )
    kind, single = processor.get("type"), processor.get("single")
    if kind == "BertProcessing":
        return
    if kind != "TemplateProcessing" or not isinstance(single, list):
        raise UnsupportedEmbeddingError(f"tokenizer.json has the post_processor {kind!r}")
    for piece in single:
        parts = piece.values() if isinstance(piece, dict) else ()
        if not parts or any(not isinstance(part, dict) for part in parts):
            raise UnsupportedEmbeddingError(f"tokenizer.json has the piece {piece!r} of a text")
        for part in parts:
            if type(part.get("type_id")) is not int or part["type_id"] != 0:
                message = f"tokenizer.json gives texts the type {part.get('type_id')!r}"
                raise UnsupportedEmbeddingError(message)


def read_arrays(folder: Path) -> dict[str, Any]:
    """Return the tensors of a folder by name. Raises UnsupportedEmbeddingError for other types."""
    import numpy as np

    arrays = {}
    try:
        tensors = safetensors_file.read_folder(folder)
    except (OverflowError, RecursionError) as error:
        raise UnsupportedEmbeddingError(
            f"the header of the weights is not valid: {error}"
        ) from None
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise UnsupportedEmbeddingError(f"tensor {name} has the type {tensor.dtype}")
        if any(size < 0 for size in tensor.shape):
            raise UnsupportedEmbeddingError(f"tensor {name} has the shape {list(tensor.shape)}")
        with tensor.file.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.size)
        arrays[name] = np.frombuffer(data, DTYPES[tensor.dtype]).reshape(tensor.shape)
    return arrays


def check_range(arrays: Mapping[str, Any]) -> None:
    """Raise UnsupportedEmbeddingError for weights that 16 bits cannot hold, or no numbers."""
    import numpy as np

    for name, array in arrays.items():
        if array.dtype.kind == "f" and array.size and not np.abs(array).max() <= FP16_MAX:
            raise UnsupportedEmbeddingError(f"tensor {name} has values that 16 bits cannot hold")


def save(found: EmbeddingCheckpoint, arrays: Mapping[str, Any], work: Path) -> None:
    """Write the IR. Raises UnsupportedEmbeddingError for missing and surplus tensors."""
    import openvino
    from openvino_bert import Tensors, encoder

    tensors = Tensors(arrays)
    try:
        check_sizes(found.config, tensors)
        model = encoder(found.config, tensors, pooling=found.pooling, normalize=found.normalize)
    except KeyError as error:
        raise UnsupportedEmbeddingError(f"the checkpoint lacks the tensor {error}") from None
    if left := tensors.left():
        raise UnsupportedEmbeddingError(
            f"the checkpoint has tensors that are not used: {openvino_ir.some(left, ', ')}"
        )
    openvino.save_model(model, work / openvino_ir.MODEL, compress_to_fp16=True)


def check_sizes(config: Mapping[str, Any], tensors: Any) -> None:
    """Compare config.json with the tables.

    Raises UnsupportedEmbeddingError if they differ, KeyError if there is no table.
    """
    tables = {
        "vocab_size": "embeddings.word_embeddings.weight",
        "max_position_embeddings": "embeddings.position_embeddings.weight",
    }
    width = config.get("hidden_size")
    for name, table in tables.items():
        shape = tensors.arrays[tensors.prefix + table].shape
        if shape != (config.get(name), width):
            raise UnsupportedEmbeddingError(
                f"config.json has {name} {config.get(name)} and hidden_size {width}, and {table}"
                f" has the shape {list(shape)}"
            )


def engine_facts(
    found: EmbeddingCheckpoint, arrays: Mapping[str, Any], work: Path
) -> dict[str, object]:
    """Return engine.json."""
    weights = openvino_ir.weight_bytes(work / openvino_ir.MODEL)
    return {
        "builder": "openvino",
        "precision": {"asked": "fp16", "found": openvino_ir.most(weights)},
        "model": {
            "architecture": str(found.config["model_type"]),
            "parameters": sum(int(array.size) for array in arrays.values()),
        },
        "embedding": {
            "dimensions": found.dimensions,
            "max_seq_len": found.max_seq_len,
            "pooling": found.pooling,
            "normalize": found.normalize,
        },
        "runtime": openvino_ir.runtime(),
    }


if __name__ == "__main__":
    sys.exit(main())
