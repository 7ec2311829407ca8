"""Random cuts, and the model that a cut must equal: the original whose removed channels are made to be zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from edgekit.compression.channels.cutting import Kept, cut
from edgekit.compression.channels.groups import ChannelGraph, channel_graph
from edgekit.compression.flattening import flat

TOLERANCE = 1e-5  # of the largest output


def random_cut(graph: ChannelGraph, generator: np.random.Generator, ratio: float) -> Kept:
    """Each unit goes with a chance of `ratio`, but one unit of each layer stays."""
    gone: set[int] = set()
    for group in graph.groups:
        spared = {int(generator.choice(graph.roots[block.atoms])) for block in group.blocks}
        gone |= {unit for unit in group.units.tolist() if generator.random() < ratio and unit not in spared}
    return graph.without(gone)


def zeroed(graph: ChannelGraph, kept: Kept, *, readers: bool = False) -> Any:
    """The original with zeros in the weights that make removed channels.

    `readers` silences the weights that read them too: where an activation makes something of zero, that is what counts.
    """
    model = flat(graph.model)
    for old_layer, layer in zip(graph.model._flatten_layers(), model._flatten_layers(), strict=True):
        for old, variable in zip(old_layer._trainable_variables, layer._trainable_variables, strict=True):
            _silence(graph, kept, layer, old, variable, readers)
        if isinstance(layer, keras.layers.BatchNormalization):
            _silence(graph, kept, layer, old_layer.moving_mean, layer.moving_mean, readers)
    return model


def _silence(graph: ChannelGraph, kept: Kept, layer: Any, old: Any, variable: Any, readers: bool) -> None:
    value = np.array(variable.numpy())
    for axis, atoms in graph.findings.slices.get(id(old), {}).items():
        if readers or axis in _making(layer, variable):
            places = [1] * value.ndim
            places[axis] = -1
            value = value * kept[atoms].reshape(places)
    variable.assign(value)


def _making(layer: Any, variable: Any) -> tuple[int, ...]:
    """Axes of a variable along which it makes what comes out of the layer."""
    last = len(variable.shape) - 1
    if last == 0:
        return (0,)  # biases, scales and means
    if layer.name in ("query", "key"):
        return ()
    if layer.name == "value":
        return (1,) if last == 2 else (0,)  # of the heads
    if variable.name == "depthwise_kernel" or isinstance(layer, keras.layers.DepthwiseConv2D):
        return ()
    return (last - 1,) if isinstance(layer, keras.layers.Conv2DTranspose | keras.layers.Conv1DTranspose) else (last,)


def predicted(model: Any, columns: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    ordered = [columns[tensor.name] for tensor in model.inputs]
    outputs = model(keras.tree.pack_sequence_as(model._inputs_struct, ordered), training=False)
    return [np.asarray(output) for output in keras.tree.flatten(outputs)]


def difference(one: Any, other: Any, columns: Mapping[str, np.ndarray]) -> float:
    """The largest difference of two models' outputs, as a fraction of the first one's largest output."""
    pairs = zip(predicted(one, columns), predicted(other, columns), strict=True)
    return max(float(np.abs(left - right).max() / np.abs(left).max()) for left, right in pairs)


def check_random_cut(
    model: Any, columns: Mapping[str, np.ndarray], seed: int, *, readers: bool = False
) -> tuple[float, Any]:
    """Cut at random and compare; the difference, which is asserted to be in tolerance, and the smaller model."""
    graph = channel_graph(flat(model))
    generator = np.random.default_rng(seed)
    kept = random_cut(graph, generator, generator.uniform(0.1, 0.9))
    smaller = cut(graph, kept)
    original = zeroed(graph, kept, readers=readers)
    assert smaller.count_params() < model.count_params()
    found = difference(original, smaller, columns)
    assert found <= TOLERANCE
    return found, smaller
