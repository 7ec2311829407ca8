"""One SavedModel signature to ONNX, with tf2onnx: run by `edgekit.workers`, or where TensorFlow is already."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any  # Any: the request, which is JSON, and TensorFlow's objects, which have no types

import numpy as np

from edgekit import workers
from edgekit.errors import ConversionError, EdgekitError
from edgekit.quiet import no_tensorflow_warnings
from edgekit.wording import said
from edgekit_onnx.beside import data_file
from edgekit_onnx.constants import put_back, write_inside
from edgekit_onnx.graphs import name_in_file, rename_tensors
from edgekit_onnx.handlers import custom_handlers
from edgekit_onnx.keeping_order import keep_order, renumber
from edgekit_onnx.matrices import freeze_apart
from edgekit_onnx.sharing_constants import share_constants

if TYPE_CHECKING:
    from onnx import ModelProto

_LOOK_UPS = ("GatherV2", "ResourceGather")
_FAKE_QUANTIZATIONS = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
_ONE_BY_ONE = Lock()  # tf2onnx numbers names in a global


@dataclass(frozen=True)
class _Frozen:
    """A signature without variables; its tensors by their Keras names."""

    graph: Any
    inputs: dict[str, str]
    outputs: dict[str, str]
    matrices: dict[str, Any] = field(default_factory=dict)  # variables that it takes as inputs, by their tensors


def export(request: dict[str, Any]) -> dict[str, object]:
    """Write the ONNX file under the Keras names and in their order, with the batch dimension named "batch".

    With `most_bytes`, tf2onnx does not see large matrices, and what it sees has at most so many; with `data`, they are
    written to that file. Replies with the number of kernels that the graph fake-quantizes (in narrow range) for a
    product or a convolution: conversion folds those away. A table that is looked up is none.
    """
    import onnx

    frozen = _freeze(request["model"], request["signature"], request["most_bytes"])
    model = _to_onnx(frozen, request["name"], request["opset"])
    refuse_foreign(model)
    steady_scales(model)
    _write_matrices(model, frozen.matrices, request["data"])
    _arrange(model, request["inputs"], [name_in_file(name, request["inputs"]) for name in request["outputs"]])
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), request["output"])
    return {"trained_kernels": _trained_kernels(frozen.graph)}


def export_here(request: dict[str, Any], what: str) -> dict[str, object]:
    """`export` in this process, where TensorFlow is already. Raises ConversionError; `what` names the work."""
    import tensorflow as tf

    with _ONE_BY_ONE, no_tensorflow_warnings(), _collected(), tf.device("/CPU:0"):
        try:
            return export(request)
        except (EdgekitError, MemoryError):
            raise
        except Exception as problem:  # tf2onnx raises what it likes
            raise ConversionError(f"{what}: {said(problem)}") from problem


def _write_matrices(model: ModelProto, matrices: dict[str, Any], data: str | None) -> None:
    if data is not None:
        with data_file(Path(data)) as beside:
            put_back(model, matrices, beside.add)
    elif matrices:
        put_back(model, matrices, write_inside)


@contextmanager
def _collected() -> Iterator[None]:
    """Collect what tf2onnx leaves: its nodes refer to each other, and to dozens of times the weights.

    What was there before is not searched, which takes longer.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def _freeze(path: str, signature: str, most_bytes: int | None) -> _Frozen:
    """With `most_bytes`, large matrices become inputs, and what stays has at most so many."""
    import tensorflow as tf
    from tf2onnx.tf_loader import from_function, tf_optimize

    loaded = tf.saved_model.load(path)  # owns the variables: it has to outlive the freezing
    function = loaded.signatures[signature]
    keywords = sorted(function.structured_input_signature[1])  # captured tensors come after these
    inputs = {name: tensor.name for name, tensor in zip(keywords, function.inputs, strict=False)}
    outputs = {
        name: tensor.name for name, tensor in zip(sorted(function.structured_outputs), function.outputs, strict=True)
    }
    if most_bytes is None:
        return _Frozen(from_function(function, list(inputs.values()), list(outputs.values())), inputs, outputs)
    graph, matrices = freeze_apart(function, most_bytes)
    with tf.Graph().as_default():  # which its optimizer asks for
        graph = tf_optimize([*inputs.values(), *matrices], list(outputs.values()), graph)
    return _Frozen(graph, inputs, outputs, matrices)


def _to_onnx(frozen: _Frozen, name: str, opset: int) -> ModelProto:
    from tf2onnx.convert import from_graph_def

    keep_order()
    share_constants()
    model: ModelProto = from_graph_def(
        frozen.graph,
        name=name,
        input_names=[*frozen.inputs.values(), *frozen.matrices],
        output_names=list(frozen.outputs.values()),
        opset=opset,
        custom_op_handlers=custom_handlers(),
    )[0]
    names = {tensor: keras_name for keras_name, tensor in frozen.inputs.items()}
    names |= {tensor: name_in_file(keras_name, frozen.inputs) for keras_name, tensor in frozen.outputs.items()}
    model.graph.name = name
    rename_tensors(model.graph, names)
    renumber(model.graph)
    return model


def refuse_foreign(model: ModelProto) -> None:
    """Raise ConversionError for an operator that ONNX lacks: tf2onnx only logs it and leaves it in the graph."""
    from onnx import defs

    for node in model.graph.node:
        if not defs.has(node.op_type, node.domain):
            raise ConversionError(
                f"ONNX has no operator for TensorFlow's {node.op_type} (node '{node.name}'): "
                "write that layer with other operations"
            )


def steady_scales(model: ModelProto) -> None:
    """Round the scales of Resize up, in place: 5/6 in float32 times 6 is a little less than 5, and engines cut to 4."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in {node.input[2] for node in model.graph.node if node.op_type == "Resize" and len(node.input) > 2}:
        if name in constants:
            scales = np.asarray(numpy_helper.to_array(constants[name]))
            up = np.nextafter(np.nextafter(scales, np.float32(np.inf)), np.float32(np.inf))
            steady = np.where(scales == np.rint(scales), scales, up).astype(np.float32)
            constants[name].CopyFrom(numpy_helper.from_array(steady, name))


def _arrange(model: ModelProto, inputs: list[str], outputs: list[str]) -> None:
    """Put inputs and outputs into the Keras order and give their first dimension a name."""
    for values, names in ((model.graph.input, inputs), (model.graph.output, outputs)):
        found = {value.name: value for value in values}
        if set(found) != set(names):
            raise ConversionError(f"the ONNX graph has {', '.join(sorted(found))}, expected {', '.join(sorted(names))}")
        ordered = [found[name] for name in names]
        del values[:]
        values.extend(ordered)
        for value in values:
            dimensions = value.type.tensor_type.shape.dim
            if dimensions and not dimensions[0].dim_value:
                dimensions[0].dim_param = "batch"
    del model.graph.value_info[:]


def _trained_kernels(graph: Any) -> int:
    looked_up = {name for node in graph.node if node.op in _LOOK_UPS for name in node.input}
    fakes = [node for node in graph.node if node.op in _FAKE_QUANTIZATIONS and node.attr["narrow_range"].b]
    return sum(node.name not in looked_up for node in fakes)


if __name__ == "__main__":
    workers.serve(export)
