"""Make the smaller model, and say beforehand how small it would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any  # Any: keras models, operations and variables, which have no types

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.channels.atoms import Indices
from edgekit.compression.channels.groups import ChannelGraph
from edgekit.compression.flattening import copy_state, from_config, is_layer, remade, replay
from edgekit.compression.macs import Cost
from edgekit.tensors import Array

Kept = NDArray[np.bool_]  # atom -> whether it stays


def cut(graph: ChannelGraph, kept: Kept) -> Any:
    """A new model without the atoms that do not stay; the graph's own model is left as it is.

    Its outputs are those of the old model whose removed channels read as zero wherever they are read.
    """
    findings = graph.findings

    def count(atoms: Indices) -> int:
        return int(kept[atoms].sum())

    def remake(operation: Any, name: str) -> Any:
        edits = findings.edits.get(id(operation), [])
        if is_layer(operation):
            config = {**operation.get_config(), "name": name}
            for edit in edits:
                edit(config, count)
            return from_config(operation, config)
        twin = remade(operation, name)
        for edit in edits:
            edit(twin, count)
        return twin

    def read(variable: Any) -> Array:
        value = np.asarray(variable)
        for axis, atoms in findings.slices.get(id(variable), {}).items():
            value = np.compress(kept[atoms], value, axis)
        return value

    model, pairs = replay(graph.model, remake)
    for old, new in pairs:
        if is_layer(new):
            copy_state(old, new, read)
    return model


def parameters_after(graph: ChannelGraph, kept: Kept) -> int:
    """Weights of the model that `cut` would make."""
    return sum(math.prod(_shape_after(graph, kept, weight)) for weight in graph.model.weights)


def macs_after(graph: ChannelGraph, kept: Kept, costs: Sequence[Cost]) -> int:
    """Multiply-accumulates of the model that `cut` would make; `costs` are those of the graph's model."""
    total = 0
    for cost in costs:
        shape = () if cost.variable is None else _shape_after(graph, kept, cost.variable)
        total += cost.times * math.prod(shape[axis] for axis in cost.axes)
    return total


def _shape_after(graph: ChannelGraph, kept: Kept, variable: Any) -> tuple[int, ...]:
    shape = list(variable.shape)
    for axis, atoms in graph.findings.slices.get(id(variable), {}).items():
        shape[axis] = int(kept[atoms].sum())
    return tuple(shape)
