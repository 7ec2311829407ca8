"""An independent copy of a model without nested models: what graph surgery starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any  # Any: keras models, operations and tensors, which have no types

from edgekit.errors import ModelError
from edgekit.loading import import_keras, unique_names
from edgekit.wording import said

Remake = Callable[[Any, str], Any]  # (operation, name) -> a new operation of that name, not yet called


def flat(model: Any) -> Any:
    """A copy of a Functional or Sequential model in which nested models are replayed inline.

    The copy has its own layers with the same weights and state, and is uncompiled; shared layers stay shared, input and
    output names and structure stay. Layers keep their names, except that an inner layer whose name is taken gets its
    model's name before it, and that the inner layer that makes an output of the whole model gets the output's name.
    Raises ModelError for a layer that cannot be made again from its own config.
    """
    made, pairs = replay(model, remade)
    for old, new in pairs:
        if is_layer(new):
            copy_state(old, new)
    return made


def replay(model: Any, remake: Remake) -> tuple[Any, list[tuple[Any, Any]]]:
    """Call the operations that `remake` makes in the model's order; the new model, and (old, new) operations.

    The given model and its layers are left as they are: not even a node is added to them.
    """
    graph = graph_of(model) or model
    replayed = _Replay(graph, remake)
    keras = import_keras()
    inputs = {id(tensor): replayed.input(tensor) for tensor in graph.inputs}
    outputs = replayed.run(graph, list(inputs.values()), None)
    named = [
        replayed.named(made, name, is_direct=_maker(tensor)[1] is not None)
        for tensor, made, name in zip(graph.outputs, outputs, unique_names(graph.output_names), strict=True)
    ]
    structure = keras.tree.map_structure(lambda tensor: inputs[id(tensor)], graph._inputs_struct)
    packed = keras.tree.pack_sequence_as(graph._outputs_struct, named)
    return keras.Model(structure, packed, name=model.name), replayed.pairs


def remade(operation: Any, name: str) -> Any:
    """The operation again, from its config; without weights yet."""
    if not is_layer(operation):
        twin = copy.copy(operation)  # keras.ops hold settings alone
        twin._inbound_nodes, twin._outbound_nodes, twin.name = [], [], name
        return twin
    return from_config(operation, {**operation.get_config(), "name": name})


def from_config(layer: Any, config: dict[str, Any]) -> Any:
    """A new layer of the same class. Raises ModelError when the class cannot be made from its own config."""
    own = {"safe_mode": False} if isinstance(layer, import_keras().layers.Lambda) else {}  # its code is here already
    try:
        return type(layer).from_config(_unbuilt(config), **own)
    except Exception as problem:  # the class may be the user's
        raise ModelError(
            f"layer '{layer.name}' ({type(layer).__name__}) cannot be made again from its config ({said(problem)}); "
            "its class needs a get_config with every argument of its __init__, and functions in it must be registered "
            "with keras.saving.register_keras_serializable"
        ) from problem


def _unbuilt(config: Any) -> Any:
    """Without the shapes that wrapped layers were built for: what they get now may be narrower."""
    if isinstance(config, list | tuple):
        return type(config)(map(_unbuilt, config))
    if not isinstance(config, dict):
        return config
    return {key: _unbuilt(value) for key, value in config.items() if not (key == "build_config" and "config" in config)}


def copy_state(old: Any, new: Any, read: Callable[[Any], Any] = lambda variable: variable) -> None:
    """Give a layer the weights, the random state and the vocabularies of another of its class.

    `read` gives the value for a variable of the old layer: where the new one is smaller, a part of it.
    """
    for ours, theirs in zip(new.variables, old.variables, strict=True):
        ours.assign(read(theirs))
    for ours, theirs in zip(new._flatten_layers(), old._flatten_layers(), strict=True):
        if hasattr(theirs, "get_vocabulary"):
            ours.set_vocabulary(theirs.get_vocabulary())
        if hasattr(theirs, "finalize_state"):
            ours.finalize_state()  # Normalization computes with a copy of its weights


def nodes(model: Any) -> Iterator[Any]:
    """The calls of a Functional model in the order of their execution, inputs left out."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def is_layer(operation: Any) -> bool:
    """True for a layer, False for an operation of keras.ops."""
    return isinstance(operation, import_keras().Layer)


class _Replay:
    def __init__(self, graph: Any, remake: Remake) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self._remake = remake
        self._made: dict[int, Any] = {}
        self._output_names = _output_names(graph)
        own = {operation.name for operation in graph.operations if graph_of(operation) is None}
        self._top = {id(operation) for operation in graph.operations}
        self._taken = {*own, *self._output_names.values()}

    def input(self, tensor: Any) -> Any:
        name = tensor._keras_history.operation.name
        made = import_keras().Input(batch_shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, name=name)
        made.name = tensor.name  # differs from its layer's where the user named neither
        return made

    def run(self, graph: Any, values: Sequence[Any], training: bool | None, owner: str = "") -> list[Any]:
        """The graph's outputs for given inputs; `training` is what its caller fixed, else None."""
        tensors = {id(tensor): value for tensor, value in zip(graph.inputs, values, strict=True)}
        flatten = import_keras().tree.flatten
        for node in nodes(graph):
            args, kwargs = node.arguments.fill_in(tensors)
            if training is not None and getattr(node.operation, "_call_has_training_arg", False):
                kwargs["training"] = training
            inner = graph_of(node.operation)
            if inner is None:
                results = flatten(self._twin(node.operation, owner)(*args, **kwargs))
            else:
                given = _inner_inputs(inner, args[0] if args else kwargs["inputs"])
                results = self.run(inner, given, kwargs.get("training", training), node.operation.name)
            tensors.update({id(tensor): result for tensor, result in zip(node.outputs, results, strict=True)})
        return [tensors[id(tensor)] for tensor in graph.outputs]

    def named(self, tensor: Any, name: str, *, is_direct: bool) -> Any:
        """The output; where a nested model only hands an input through, an Identity that has its name."""
        return tensor if is_direct else import_keras().layers.Identity(name=name)(tensor)

    def _twin(self, operation: Any, owner: str) -> Any:
        if id(operation) not in self._made:
            self._made[id(operation)] = self._remake(operation, self._free_name(operation, owner))
            self.pairs.append((operation, self._made[id(operation)]))
        return self._made[id(operation)]

    def _free_name(self, operation: Any, owner: str) -> str:
        if id(operation) in self._output_names:
            return self._output_names[id(operation)]
        if id(operation) in self._top:
            return str(operation.name)
        name, number = operation.name, 1
        while name in self._taken:
            name = f"{owner}_{operation.name}" + (f"_{number}" if number > 1 else "")
            number += 1
        self._taken.add(name)
        return str(name)


def graph_of(operation: Any) -> Any:
    """The Functional graph that a model or a nested model runs; None for what has none of its own."""
    keras = import_keras()
    if not isinstance(operation, keras.Model) or not type(operation).call.__module__.startswith("keras."):
        return None
    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if hasattr(operation, "_nodes_by_depth") else None


def _inner_inputs(inner: Any, given: Any) -> list[Any]:
    """What a nested model was called with, in the order and in the types of its inputs."""
    keras = import_keras()
    by_name = isinstance(given, dict) and not isinstance(inner._inputs_struct, dict)
    values = [given[tensor.name] for tensor in inner.inputs] if by_name else keras.tree.flatten(given)
    return [
        value if value.dtype == tensor.dtype else keras.ops.cast(value, tensor.dtype)
        for value, tensor in zip(values, inner.inputs, strict=True)
    ]


def _maker(tensor: Any) -> tuple[Any, Any]:
    """(tensor, the operation that makes it), looked for inside nested models; None where an inner input is returned."""
    history = tensor._keras_history
    inner = graph_of(history.operation)
    if inner is None:
        return tensor, history.operation
    within = inner.outputs[history.tensor_index]
    if any(within is given for given in inner.inputs):
        return within, None
    return _maker(within)


def _output_names(graph: Any) -> dict[int, str]:
    """Operation inside a nested model -> the name that the whole model's output has from that nested model."""
    names: dict[int, str] = {}
    for tensor, name in zip(graph.outputs, unique_names(graph.output_names), strict=True):
        operation = _maker(tensor)[1]
        if operation is not None and operation is not tensor._keras_history.operation:
            names.setdefault(id(operation), name)
    return names
