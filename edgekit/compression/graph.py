"""Reading and rewriting a flat Functional model's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # Any: keras operations and tensors, which have no types

from edgekit.compression.flattening import nodes
from edgekit.loading import import_keras

_ACTIVATIONS_OF_CLASSES = {
    "ReLU": "relu", "Relu": "relu", "Relu6": "relu6", "Softmax": "softmax", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Silu": "silu", "HardSilu": "hard_silu", "HardSigmoid": "hard_sigmoid", "Gelu": "gelu",
}  # fmt: skip


def consumers(model: Any) -> dict[str, list[Any]]:
    """Operation name -> the operations that take its output in this model, one entry for each use.

    A layer keeps nodes of every model it was ever called in, so only this model's nodes are read.
    """
    found: dict[str, list[Any]] = {operation.name: [] for operation in model.operations}
    for node in nodes(model):
        for tensor in node.arguments.keras_tensors:
            found[tensor._keras_history.operation.name].append(node.operation)
    return found


def calls(model: Any) -> dict[str, int]:
    """Operation name -> how often this model calls it."""
    found = {operation.name: 0 for operation in model.operations}
    for node in nodes(model):
        found[node.operation.name] += 1
    return found


def rewrite(model: Any, call: Callable[..., Any], call_input: Callable[[Any, Any], Any]) -> Any:
    """A new model with the same inputs and outputs, in which `call(operation, *args, **kwargs)` stands for each call.

    `call_input(operation, tensor)` stands for each input.
    """
    keras = import_keras()
    structure: dict[int, Any] = {}
    tensors: dict[int, Any] = {}
    for tensor in model.inputs:
        given = keras.Input(
            batch_shape=tensor.shape,
            dtype=tensor.dtype,
            sparse=tensor.sparse,
            name=tensor._keras_history.operation.name,
        )
        given.name = tensor.name
        structure[id(tensor)] = given
        tensors[id(tensor)] = call_input(tensor._keras_history.operation, given)
    for node in nodes(model):
        args, kwargs = node.arguments.fill_in(tensors)
        results = keras.tree.flatten(call(node.operation, *args, **kwargs))
        tensors.update({id(tensor): result for tensor, result in zip(node.outputs, results, strict=True)})
    inputs = keras.tree.map_structure(lambda tensor: structure[id(tensor)], model._inputs_struct)
    outputs = [tensors[id(tensor)] for tensor in model.outputs]
    return keras.Model(inputs, keras.tree.pack_sequence_as(model._outputs_struct, outputs), name=model.name)


def activation_name(layer: Any) -> str:
    """`"relu"`, `"softmax"`, …; `"linear"` for an operation without an activation."""
    known = _ACTIVATIONS_OF_CLASSES.get(type(layer).__name__)
    if known is not None:
        return known
    activation = getattr(layer, "activation", None)
    if activation is None:
        return "linear"
    return str(getattr(activation, "__name__", type(activation).__name__))
