"""What a checkpoint is, read from the headers of its files; no weights are read.

A checkpoint that is damaged, incomplete, or no language model is refused with one sentence. Whether
a builder takes it is declared by the builder: forge.builders.takes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn

from forge.builders.takes import CheckpointFacts
from forge.checkpoint import gguf, huggingface
from forge.checkpoint.model_shape import shape_of_gguf
from forge.checkpoint.safetensors import WeightTensor
from forge.errors import ConfigurationError
from forge.memory.shape import ModelShape, shape_problem

__all__ = ["CheckpointHeaders", "read_headers"]

# Files that Python unpickles, and weights of other frameworks.
_PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_OTHER: Final = {".h5": "TensorFlow", ".msgpack": "Flax", ".onnx": "ONNX"}
_LFS_MAX_BYTES: Final = 1024  # a pointer has about 130
_MAX_CARD_BYTES: Final = 64 * 1024
_FRONT_MATTER: Final = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
_LICENCE: Final = re.compile(
    r"^license:[ \t]*[\"']?([A-Za-z0-9.+-]{1,64})[\"']?[ \t\r]*$", re.MULTILINE
)
_LFS: Final = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class CheckpointHeaders:
    """A checkpoint as its headers describe it.

    Attributes:
        form: `gguf` or `huggingface`.
        architecture: `model_type` of config.json, or its equivalent for a GGUF file.
        tokenizer: see CheckpointFacts.
        quantisation: see CheckpointFacts.
        weights: names of the files that hold the weights, in order.
        tensors: all tensors of these files.
        licence: as the GGUF header or the model card (README.md) states it; empty: not stated.
        shape: sizes of the model; None if they are not understood.
    """

    form: Literal["gguf", "huggingface"]
    architecture: str
    tokenizer: str
    quantisation: tuple[str, ...]
    weights: tuple[str, ...]
    tensors: tuple[WeightTensor, ...]
    licence: str = ""
    shape: ModelShape | None = None

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors; packed ones count as they are stored."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """Number of elements by type, the most frequent type first."""
        found: Counter[str] = Counter()
        for tensor in self.tensors:
            found[tensor.dtype] += tensor.elements
        return dict(found.most_common())

    @property
    def facts(self) -> CheckpointFacts:
        """What builders and URLs state."""
        return CheckpointFacts(
            self.form, self.architecture, self.tokenizer, self.quantisation, self.shape
        )


def read_headers(files: Mapping[str, Path]) -> CheckpointHeaders:
    """Read the headers of a checkpoint.

    Args:
        files: its files, by their names in the checkpoint.

    Raises:
        ConfigurationError: it is damaged, incomplete, pickled, an adapter, or no language model.
    """
    try:
        return _read(files)
    except OSError as error:
        raise ConfigurationError("The checkpoint cannot be read", why=str(error)) from None


def _read(files: Mapping[str, Path]) -> CheckpointHeaders:
    _refuse_pointers(files)
    ggufs = {name: path for name, path in files.items() if name.endswith(".gguf")}
    safetensors = [name for name in files if name.endswith(".safetensors")]
    if ggufs and safetensors:
        raise ConfigurationError(
            "The checkpoint holds GGUF files and safetensors, which are two forms of a model",
            why=f"found {min(ggufs)} and {min(safetensors)}",
            hint="select one of them with path= in the checkpoint's URL",
        )
    if ggufs:
        header = gguf.read_model(list(ggufs.values()))
        return CheckpointHeaders(
            form="gguf",
            architecture=header.model_type,
            tokenizer=header.tokenizer,
            quantisation=tuple(sorted(kind.lower() for kind in header.types)),
            weights=header.files,
            tensors=tuple(
                WeightTensor(tensor.name, tensor.kind, tensor.shape, tensor.file)
                for tensor in header.tensors
            ),
            licence=header.text("general.license"),
            shape=_possible(shape_of_gguf(header)),
        )
    huggingface.refuse_other_kinds(files)
    if not safetensors:
        _refuse_without_weights(files)
    model = huggingface.read_model(files)
    return CheckpointHeaders(
        form="huggingface",
        architecture=model.config.architecture,
        tokenizer=model.tokenizer,
        quantisation=(model.quantisation,),
        weights=model.weights,
        tensors=model.tensors,
        licence=_card_licence(files),
        shape=_possible(model.shape),
    )


def _possible(shape: ModelShape | None) -> ModelShape | None:
    """Return a shape that a URL can state; None for one that parse_shape would refuse."""
    return None if shape is None or shape_problem(shape) else shape


def _card_licence(files: Mapping[str, Path]) -> str:
    """Return `license` of the model card's front matter; empty if there is none."""
    if "README.md" not in files:
        return ""
    with files["README.md"].open("rb") as file:
        text = file.read(_MAX_CARD_BYTES).decode(errors="replace")
    front = _FRONT_MATTER.match(text)
    found = _LICENCE.search(front[1]) if front else None
    return found[1] if found else ""


def _refuse_pointers(files: Mapping[str, Path]) -> None:
    """Refuse what a clone without Git LFS leaves in place of the weights."""
    for name, path in files.items():
        if path.stat().st_size <= _LFS_MAX_BYTES and path.read_bytes().startswith(_LFS):
            raise ConfigurationError(
                f"{name} is a pointer of Git LFS and not the file itself",
                hint="run git lfs pull in the checkpoint's folder",
            )


def _refuse_without_weights(files: Mapping[str, Path]) -> NoReturn:
    suffixes = {Path(name).suffix: name for name in sorted(files, reverse=True)}
    if pickled := [suffixes[suffix] for suffix in _PICKLED if suffix in suffixes]:
        raise ConfigurationError(
            "The checkpoint's weights are pickled, which can run code when they are read",
            why=f"found {pickled[0]} and no safetensors",
            hint="use the safetensors of the same model, or write them with save_pretrained of"
            " transformers on a machine that may run the file's code",
        )
    if other := [suffix for suffix in _OTHER if suffix in suffixes]:
        raise ConfigurationError(
            f"The checkpoint's weights are those of {_OTHER[other[0]]}",
            why=f"found {suffixes[other[0]]} and no safetensors",
            hint="use the safetensors or a GGUF file of the same model",
        )
    found = ", ".join(sorted(files)[:5]) or "nothing"
    raise ConfigurationError(
        "The checkpoint has no weights",
        why=f"found {found}; supported are *.safetensors and *.gguf",
        hint="check the source and path= of the URL",
    )
