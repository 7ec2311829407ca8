"""Multiply-accumulates of a model, counted from its shapes.

Convolutions, dense layers, recurrent layers, attention and matrix products count; normalization, activations, sums and
pooling do not, as is usual, nor do layers that Keras does not bring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any  # Any: keras layers, tensors and variables, which have no types

from edgekit.compression.flattening import graph_of, nodes


@dataclass(frozen=True)
class Cost:
    """`times` multiply-accumulates for each entry along some axes of a variable, for one sample."""

    times: int
    variable: Any = None  # None where no weight takes part
    axes: tuple[int, ...] = ()

    def total(self) -> int:
        """Multiply-accumulates of the whole."""
        return self.times * math.prod(int(self.variable.shape[axis]) for axis in self.axes)


def macs(model: Any) -> int:
    """Multiply-accumulates for one sample; a layer that is used twice counts twice."""
    return sum(cost.total() for cost in costs(model))


def costs(model: Any) -> Iterator[Cost]:
    """What the calls of a Functional or Sequential model cost, nested models included."""
    for node in nodes(graph_of(model) or model):
        inner = graph_of(node.operation)
        if inner is None:
            yield from _costs(node.operation, node)
        else:
            yield from costs(inner)


def _costs(layer: Any, node: Any) -> Iterator[Cost]:
    rule = _RULES.get(type(layer).__name__)
    if rule is not None and type(layer).__module__.startswith("keras."):
        yield from rule(layer, node)


def _all(variable: Any, times: int) -> Cost:
    return Cost(times, variable, tuple(range(len(variable.shape))))


def _inputs(node: Any) -> list[Any]:
    return list(node.arguments.keras_tensors)


def _places(layer: Any, tensor: Any) -> int:
    """Positions of a tensor at which a convolution's kernel is applied: all axes but batch and channels."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return math.prod(tensor.shape[2:] if first else tensor.shape[1:-1])


def _convolution(layer: Any, node: Any) -> Iterator[Cost]:
    yield _all(layer.kernel, _places(layer, node.outputs[0]))


def _transposed(layer: Any, node: Any) -> Iterator[Cost]:
    yield _all(layer.kernel, _places(layer, _inputs(node)[0]))


def _separable(layer: Any, node: Any) -> Iterator[Cost]:
    places = _places(layer, node.outputs[0])
    yield _all(layer.depthwise_kernel, places)
    yield _all(layer.pointwise_kernel, places)


def _dense(layer: Any, node: Any) -> Iterator[Cost]:
    yield _all(layer.kernel, math.prod(_inputs(node)[0].shape[1:-1]))


def _einsum_dense(layer: Any, node: Any) -> Iterator[Cost]:
    given, made = layer.equation.split("->")
    letters = given.split(",")[1]
    sizes = dict(zip(letters, layer.kernel.shape, strict=True))
    shared = math.prod(size for letter, size in sizes.items() if letter in made)
    yield _all(layer.kernel, math.prod(node.outputs[0].shape[1:]) // shared)


def _recurrent(layer: Any, node: Any) -> Iterator[Cost]:
    yield from _cell(layer, _inputs(node)[0].shape[1])


def _cell(layer: Any, steps: int) -> Iterator[Cost]:
    yield _all(layer.cell.kernel, steps)
    yield _all(layer.cell.recurrent_kernel, steps)


def _bidirectional(layer: Any, node: Any) -> Iterator[Cost]:
    for inner in (layer.forward_layer, layer.backward_layer):
        if hasattr(getattr(inner, "cell", None), "recurrent_kernel"):
            yield from _cell(inner, _inputs(node)[0].shape[1])


def _attention(layer: Any, node: Any) -> Iterator[Cost]:
    arguments = dict(zip(("query", "value", "key"), node.arguments.args, strict=False)) | node.arguments.kwargs
    queries = math.prod(arguments["query"].shape[1:-1])
    values = math.prod(arguments["value"].shape[1:-1])
    yield _all(layer._query_dense.kernel, queries)
    yield _all(layer._key_dense.kernel, values)
    yield _all(layer._value_dense.kernel, values)
    if getattr(layer, "_use_gate", False):
        yield _all(layer._gate_dense.kernel, queries)
    yield _all(layer._output_dense.kernel, queries)
    yield Cost(queries * values * (layer.key_dim + layer.value_dim), layer._query_dense.kernel, (1,))  # for each head


def _matmul(_layer: Any, node: Any) -> Iterator[Cost]:
    left = next(item for item in (*node.arguments.args, *node.arguments.kwargs.values()) if hasattr(item, "shape"))
    yield Cost(math.prod(node.outputs[0].shape[1:]) * left.shape[-1])


def _einsum(layer: Any, node: Any) -> Iterator[Cost]:
    given = layer.subscripts.split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for letters, tensor in zip(given, _inputs(node), strict=False):
        sizes.update({letter: size or 1 for letter, size in zip(letters, tensor.shape, strict=False)})
    yield Cost(math.prod(sizes.values()))


def _dot(layer: Any, node: Any) -> Iterator[Cost]:
    left = _inputs(node)[0]
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    yield Cost(math.prod(node.outputs[0].shape[1:]) * left.shape[axis])


def _time_distributed(layer: Any, node: Any) -> Iterator[Cost]:
    yield from _costs(layer.layer, node)  # the time is one of the positions


_Rule = Callable[[Any, Any], Iterator[Cost]]

_BY_RULE: Mapping[_Rule, str] = {
    _convolution: "Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D",
    _transposed: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
    _separable: "SeparableConv1D SeparableConv2D",
    _dense: "Dense",
    _einsum_dense: "EinsumDense",
    _recurrent: "LSTM GRU SimpleRNN",
    _bidirectional: "Bidirectional",
    _attention: "MultiHeadAttention",
    _matmul: "Matmul",
    _einsum: "Einsum",
    _dot: "Dot",
    _time_distributed: "TimeDistributed",
}
_RULES: Mapping[str, _Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
