"""Inputs of an ONNX graph that become its constants, with their values in it or in a file beside it.

What only turns or reshapes one is done here, once, as tf2onnx does it with constants that it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any  # Any: TensorFlow's variables, which have no types

import numpy as np

from edgekit.tensors import Array
from edgekit_onnx.graphs import Graph, rename_tensors, taken_names

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_KEEPS, _TURNS, _RESHAPES = "Identity", "Transpose", "Reshape"


@dataclass(frozen=True)
class _Constant:
    """What an input takes, after these steps: an operator's type, with the axes or the sizes that it is given."""

    input: str
    steps: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def after(self, operator: str, numbers: tuple[int, ...]) -> _Constant:
        return _Constant(self.input, (*self.steps, (operator, numbers)))

    def values(self, variable: Any) -> Array:
        values: Array = variable.numpy()
        for operator, numbers in self.steps:
            if operator == _TURNS:
                values = values.transpose(numbers or None)
            else:
                sizes = zip(numbers, (*values.shape, *numbers), strict=False)
                values = values.reshape([number or size for number, size in sizes])  # 0 keeps the size
        return values


def put_back(model: ModelProto, variables: Mapping[str, Any], write: Callable[[TensorProto, Array], None]) -> None:
    """Let the inputs of a graph that `variables` are named by be its constants, in place; `write` puts their values."""
    from onnx import helper

    found, graph = _found(model, variables), model.graph
    kept = [value for value in graph.input if value.name not in variables]
    del graph.input[:]
    graph.input.extend(kept)
    used = set(taken_names(graph))
    taken = used | {value.name for value in (*graph.input, *graph.output)}
    names = _named({name: constant for name, constant in found.items() if name in used}, variables, taken)
    rename_tensors(graph, {name: names[constant] for name, constant in found.items() if constant in names})
    Graph(model).remove_unused()  # sizes of what was reshaped
    for constant, name in names.items():  # one at a time: copies of all would be as large as the model
        values = constant.values(variables[constant.input])
        tensor = graph.initializer.add(name=name, dims=values.shape)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        write(tensor, values)


def write_inside(tensor: TensorProto, values: Array) -> None:
    """Put the values into the tensor itself."""
    tensor.raw_data = np.ascontiguousarray(values).tobytes()


def _found(model: ModelProto, inputs: Mapping[str, Any]) -> dict[str, _Constant]:
    """By the names of tensors; the nodes that made them of the inputs are taken out."""
    look_up, found = Graph(model), {name: _Constant(name) for name in inputs}
    for node in list(model.graph.node):
        constant = _after(node, found, look_up)
        if constant is not None and node.output[0] not in look_up.outputs:
            found[node.output[0]] = constant
            model.graph.node.remove(node)
    return found


def _after(node: NodeProto, found: Mapping[str, _Constant], look_up: Graph) -> _Constant | None:
    """What a node makes of a constant; None where it does more than turn or reshape one."""
    source = found.get(node.input[0]) if node.input else None
    if source is None or node.op_type not in (_KEEPS, _TURNS, _RESHAPES):
        return None
    if node.op_type == _KEEPS:
        return source
    attributes = {item.name: item for item in node.attribute}
    if node.op_type == _TURNS:
        return source.after(_TURNS, tuple(attributes["perm"].ints) if "perm" in attributes else ())
    if node.input[1] not in look_up.constants or "allowzero" in attributes:
        return None
    return source.after(_RESHAPES, tuple(look_up.array(node.input[1]).tolist()))


def _named(constants: Mapping[str, _Constant], variables: Mapping[str, Any], taken: set[str]) -> dict[_Constant, str]:
    """Each constant's name: the variable's, with a number behind it where that is another tensor's."""
    names: dict[_Constant, str] = {}
    for constant in constants.values():
        if constant not in names:
            stem = variables[constant.input].name.split(":")[0]
            name, number = stem, 1
            while name in taken or name in names.values():
                number += 1
                name = f"{stem}_{number}"
            names[constant] = name
    return names
