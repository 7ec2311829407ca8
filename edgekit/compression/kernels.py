"""The tables of weights that compression works on: which layer owns each, and how its axes are meant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal  # Any: keras layers and variables, which have no types

import numpy as np

from edgekit.loading import import_keras
from edgekit.tensors import Array

Kind = Literal["kernel", "depthwise", "embedding"]


@dataclass(frozen=True)
class Kernel:
    """A table of weights of rank 2 or more."""

    name: str  # what patterns match and messages say: the layer's name, with its owner's before it in a composite layer
    layer: Any  # the innermost keras layer
    variable: Any
    kind: Kind
    outputs: tuple[int, ...]  # the axes of output channels (depthwise: of channels); the others are reduced over

    def read(self) -> Array:
        """The weights as a float32 matrix: rows are reduced over, columns are output channels."""
        return self.to_matrix(np.asarray(self.variable, np.float32))

    def write(self, matrix: Array) -> None:
        """Set the weights from what `read` gives."""
        self.variable.assign(self.from_matrix(matrix))

    def to_matrix(self, values: Array) -> Array:
        """Values of the variable's shape -> shape (rows, columns); neighbouring rows are neighbouring inputs."""
        return values.transpose(self._order).reshape(-1, self.columns)

    def from_matrix(self, matrix: Array) -> Array:
        """The way back."""
        shape = [self.variable.shape[axis] for axis in self._order]
        return matrix.reshape(shape).transpose(np.argsort(self._order))

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.variable.shape)

    @property
    def rows(self) -> int:
        """Number of weights that each output channel reduces over."""
        return self.size // self.columns

    @property
    def reduced(self) -> tuple[int, ...]:
        """The axes that are reduced over."""
        return tuple(axis for axis in range(len(self.variable.shape)) if axis not in self.outputs)

    @property
    def input_channels(self) -> int:
        """How many rows are the inputs of one position: a k×k convolution has k·k times as many rows."""
        if isinstance(self.layer, import_keras().layers.EinsumDense):
            return self.rows
        return int(self.variable.shape[self.reduced[-1]])

    @property
    def columns(self) -> int:
        """Number of output channels."""
        return math.prod(self.variable.shape[axis] for axis in self.outputs)

    @property
    def _order(self) -> list[int]:
        return [*self.reduced, *self.outputs]


def kernels(model: Any, *, frozen: bool = False) -> list[Kernel]:
    """Every trainable kernel and embedding of a model, nested models and composite layers included, each once.

    `frozen`: those that do not train, instead.
    """
    found: dict[int, Kernel] = {}
    for name, layer in _named_layers(model, ""):
        for variable in layer._trainable_variables:
            kernel = _kernel(name, layer, variable) if variable.trainable != frozen else None
            if kernel is not None:
                found.setdefault(id(variable), kernel)
    return list(found.values())


def unknown_tables(model: Any) -> list[tuple[str, str, tuple[int, ...]]]:
    """(layer, weight, shape) of every trainable weight of rank 2 or more that is neither a kernel nor a bias."""
    found: dict[int, tuple[str, str, tuple[int, ...]]] = {}
    for name, layer in _named_layers(model, ""):
        for variable in layer._trainable_variables:
            if len(variable.shape) > 1 and variable.name != "bias" and _kernel(name, layer, variable) is None:
                found[id(variable)] = (name, str(variable.name), tuple(variable.shape))
    return list(found.values())


def _named_layers(owner: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """(name, innermost layer); nested models add nothing to the name, composite layers such as attention do."""
    keras = import_keras()
    for layer in owner.layers if isinstance(owner, keras.Model) else owner._layers:
        name = f"{prefix}{layer.name}"
        if layer._trainable_variables:
            yield name, layer
        if layer._layers:
            yield from _named_layers(layer, prefix if isinstance(layer, keras.Model) else f"{name}/")


def _kernel(name: str, layer: Any, variable: Any) -> Kernel | None:
    layers = import_keras().layers
    rank = len(variable.shape)
    if rank < 2 or variable.name not in _TABLES or "float" not in str(variable.dtype):
        return None
    label = f"{name}/{variable.name}" if variable.name in _SECOND_TABLES else name
    if isinstance(layer, layers.Embedding):
        return Kernel(label, layer, variable, "embedding", (1,))
    if variable.name == "depthwise_kernel" or isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
        return Kernel(label, layer, variable, "depthwise", (rank - 2, rank - 1))
    return Kernel(label, layer, variable, "kernel", _output_axes(layers, layer, rank))


_SECOND_TABLES = ("recurrent_kernel", "depthwise_kernel", "pointwise_kernel")  # in layers that have several
_TABLES = ("kernel", "_kernel", "embeddings", *_SECOND_TABLES)


def _output_axes(layers: Any, layer: Any, rank: int) -> tuple[int, ...]:
    if isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose):
        return (rank - 2,)
    if isinstance(layer, layers.EinsumDense):
        inputs, output = layer.equation.split("->")
        letters = inputs.split(",")[1]
        return tuple(axis for axis, letter in enumerate(letters) if letter in output)
    return (rank - 1,)
