"""Trace a decoder to ONNX without a copy of its weights. Runs in the environment `optimum`.

optimum-onnx says what the inputs and outputs of a family are and patches its code for the trace;
its own export puts the weights into a protocol buffer and copies them several times. Here they
are inputs of the traced graph, which then become initialisers in one file next to it, written one
by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TASK = "text-generation-with-past"
DATA = "model.onnx_data"  # optimum's name for the weights next to model.onnx
INLINE_BYTES = 1024  # smaller tensors stay in model.onnx: shape inference reads them
ALIGNMENT = 4096  # so that a runtime can map each of them


class ExportError(Exception):
    """The model cannot be exported."""


def export(model: Any, output: Path, opset: int) -> None:
    """Write output/model.onnx and the weights next to it. Raises ExportError."""
    config = _onnx_config(model)
    path = output / "model.onnx"
    static = _trace(model, config, path, opset)
    weights = {name: tensor.detach() for name, tensor in model.state_dict(keep_vars=True).items()}
    for name, tensor in model.named_buffers():
        weights.setdefault(name, tensor.detach())
    _attach(path, weights, static)


def _onnx_config(model: Any) -> Any:
    from optimum.exporters.onnx.convert import _get_submodels_and_onnx_configs
    from optimum.exporters.tasks import TasksManager

    TasksManager.standardize_model_attributes(model)
    kind = model.config.model_type
    supported = TasksManager._SUPPORTED_MODEL_TYPE  # noqa: SLF001
    if kind not in supported or TASK not in TasksManager.get_supported_tasks_for_model_type(
        kind, "onnx", library_name="transformers"
    ):
        raise ExportError(f"optimum-onnx has no export of {kind!r} models")
    model.config.use_cache = True
    _, parts = _get_submodels_and_onnx_configs(
        model=model,
        task=TASK,
        monolith=False,
        custom_onnx_configs={},
        custom_architecture=False,
        float_dtype="fp16",
        fn_get_submodels=None,
        preprocessors=[],
        _variant="default",
        library_name="transformers",
        model_kwargs=None,
    )
    if len(parts) != 1:
        raise ExportError(f"optimum-onnx exports a {kind!r} model as {len(parts)} graphs")
    return next(iter(parts.values()))[1]


def _trace(model: Any, config: Any, path: Path, opset: int) -> Mapping[str, list[int]]:
    """Write the graph, weights as inputs; return the shape of each output of the dummy inputs."""
    import torch
    from optimum.exporters.onnx.convert import check_dummy_inputs_are_allowed
    from optimum.utils import DEFAULT_DUMMY_SHAPES

    model = model.eval()
    model.config.return_dict = True
    for name, value in (config.values_override or {}).items():
        setattr(model.config, name, value)
    inputs = config.generate_dummy_inputs(framework="pt", **DEFAULT_DUMMY_SHAPES)
    inputs = config.rename_ambiguous_inputs(inputs)
    options = {"logits_to_keep": 0} if _takes(model, "logits_to_keep") else {}
    with (
        torch.no_grad(),
        config.patch_model_for_export(model, model_kwargs=options),
        _shapes_without_weights(),
    ):
        check_dummy_inputs_are_allowed(model, inputs)
        names = config.ordered_inputs(model)
        torch.onnx.export(
            model,
            (inputs,),
            f=str(path),
            input_names=list(names),
            output_names=list(config.outputs),
            dynamic_axes={**names, **config.outputs},
            do_constant_folding=False,  # it would write tied weights twice
            export_params=False,
            keep_initializers_as_inputs=True,
            opset_version=opset,
            dynamo=False,
        )
    return _static_shapes(model, inputs)


@contextmanager
def _shapes_without_weights() -> Iterator[None]:
    """Let the exporter infer shapes without a copy of the weights.

    Its pass writes all weights into a protocol buffer, only to know shapes, which the graph's
    inputs state. The graph is the same without; the small tensors may be shapes themselves.
    """
    import torch

    name = "_jit_pass_onnx_graph_shape_type_inference"
    infer = getattr(torch._C, name)  # noqa: SLF001 - torch.onnx calls it there

    def with_small(graph: Any, parameters: Mapping[str, Any], opset: int) -> None:
        small = {key: one for key, one in parameters.items() if one.nbytes < INLINE_BYTES}
        infer(graph, small, opset)

    setattr(torch._C, name, with_small)  # noqa: SLF001
    try:
        yield
    finally:
        setattr(torch._C, name, infer)  # noqa: SLF001


def _takes(model: Any, name: str) -> bool:
    from inspect import signature

    return name in signature(model.forward).parameters


def _static_shapes(model: Any, inputs: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return shapes for the axes of outputs that never change: vocabulary, heads, head size."""
    shapes = {"logits": [0, 0, int(model.config.vocab_size)]}
    for layer, (key, value) in enumerate(inputs.get("past_key_values", ())):
        shapes[f"present.{layer}.key"] = [int(size) for size in key.shape]
        shapes[f"present.{layer}.value"] = [int(size) for size in value.shape]
    return shapes


def _attach(path: Path, weights: Mapping[str, Any], static: Mapping[str, list[int]]) -> None:
    """Turn the weights among the graph's inputs into initialisers."""
    import onnx

    document = onnx.load(str(path), load_external_data=False)
    graph = document.graph
    used = {name for node in _nodes(graph) for name in node.input}
    twins = _twins(weights, [one.name for one in graph.input if one.name in weights])
    for node in _nodes(graph):
        for index, name in enumerate(node.input):
            node.input[index] = twins.get(name, name)
    needed = [one.name for one in graph.input if one.name in weights and one.name in used]
    needed = [name for name in needed if name not in twins]
    kept = [one for one in graph.input if one.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)
    _name_static_axes(graph, static)
    with path.with_name(DATA).open("wb") as file:
        for name in needed:
            graph.initializer.append(_initialiser(file, name, weights[name]))
    onnx.save(document, str(path))


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield all nodes, those of subgraphs (If, Loop) too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _twins(weights: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    """Return the first name of each tensor that has several, as tied embeddings."""
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
    found = {}
    for name in names:
        tensor = weights[name]
        place = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if first.setdefault(place, name) != name and tensor.numel():
            found[name] = first[place]
    return found


def _initialiser(file: Any, name: str, tensor: Any) -> Any:
    import onnx
    from onnx import helper

    array = tensor.contiguous().numpy()
    entry = onnx.TensorProto(name=name, dims=list(array.shape))
    entry.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    if array.nbytes < INLINE_BYTES:
        entry.raw_data = array.tobytes()
        return entry
    file.write(bytes(-file.tell() % ALIGNMENT))
    offset = file.tell()
    file.write(memoryview(array).cast("B"))
    entry.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", DATA), ("offset", offset), ("length", array.nbytes)):
        entry.external_data.add(key=key, value=str(value))
    return entry


def _name_static_axes(graph: Any, static: Mapping[str, list[int]]) -> None:
    """Give the axes that never change their size; the trace has invented names for them."""
    inputs = {axis.dim_param for one in graph.input for axis in one.type.tensor_type.shape.dim}
    inputs |= {"batch_size", "sequence_length", "past_sequence_length + sequence_length"}
    for output in graph.output:
        for axis, size in zip(
            output.type.tensor_type.shape.dim, static.get(output.name, ()), strict=False
        ):
            if axis.dim_param and axis.dim_param not in inputs and size:
                axis.dim_value = size
