"""The Keras layers of simulated int8. Only this folder's `simulation_*` modules need Keras when they are imported.

Every layer shares the weights of the float layer that it stands for. Kernels are fake-quantized in the shape in which
the TFLite converter takes them: it loses the scales of a channel when a kernel is transposed afterwards, so kernels of
Dense layers have one scale, and 1-D convolutions are written as 2-D ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: keras tensors and layers, which have no types

import keras
import numpy as np
from keras import ops

from edgekit.compression.grids import LEVELS_IN_A_FILE, SMALLEST, Grid
from edgekit.loading import Range
from edgekit.tensors import Array

_fake_quant = keras.quantizers.fake_quant_with_min_max_vars


class Observer(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Fake-quantizes an activation to 8 bits.

    While `calibrating`, its range grows to the least and largest value that it sees; while training, it is a moving
    average of each batch's.
    """

    momentum = 0.97

    def __init__(self, *, fixed: Range | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed
        self.calibrating = False
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:  # noqa: ARG002  # the name is Keras's
        """Make the range's two variables; the first batch sets them."""
        low, high = self.fixed or (0.0, 0.0)
        self.low = self._variable("low", low)
        self.high = self._variable("high", high)

    def call(self, tensor: Any, training: bool | None = None) -> Any:
        """Observe while calibrating or training, quantize always."""
        if self.fixed is None and (self.calibrating or training):
            low = ops.minimum(ops.cast(ops.min(tensor), "float32"), 0.0)
            high = ops.maximum(ops.cast(ops.max(tensor), "float32"), 0.0)
            if self.calibrating:
                self.low.assign(ops.minimum(self.low, low))
                self.high.assign(ops.maximum(self.high, high))
            else:
                keep = ops.where(ops.equal(self.low, self.high), 0.0, self.momentum)
                self.low.assign(keep * self.low + (1 - keep) * low)
                self.high.assign(keep * self.high + (1 - keep) * high)
        return _fake_quant(tensor, self.low, self.high)

    def compute_output_spec(self, tensor: Any, training: bool | None = None) -> Any:  # noqa: ARG002
        """Dense, whatever Keras believes: it calls a product with a number sparse."""
        return keras.KerasTensor(tensor.shape, dtype=tensor.dtype)

    def set_range(self, low: float, high: float) -> None:
        """Set what training found."""
        self.low.assign(low)
        self.high.assign(high)

    def get_range(self) -> Range:
        """(min, max)."""
        return float(self.low), float(self.high)

    def _variable(self, name: str, value: float) -> Any:
        initial = keras.initializers.Constant(value)
        return self.add_weight(name=name, shape=(), initializer=initial, trainable=False, dtype="float32")


class Rounding:
    """Rounds a kernel to its grid inside a graph; gradients pass straight through."""

    def __init__(self, grid: Grid, scales: Array | None = None, *, trains: bool = True) -> None:
        """`scales`: those of a kernel that lies on its grid already; the grid is then stored as int8 with them.

        Without `trains` there are no gradients, and the converters recognize the rounding.
        """
        self.grid = grid
        self._scales = scales
        self._trains = trains

    def __call__(self, kernel: Any, factor: Any = None) -> Any:
        """A kernel, or its last axes' product with a factor per channel, on the grid."""
        if self._scales is not None:
            scales = ops.convert_to_tensor(self._scales)
            return self._stored(kernel, scales) if factor is None else self._scaled(kernel, scales, factor)
        rounded = self._quantized(kernel, self._limits(kernel), self.grid.bits)
        rounded = kernel + ops.stop_gradient(rounded - kernel) if self._trains else rounded
        return rounded if factor is None else rounded * factor

    def _scaled(self, kernel: Any, scales: Any, factor: Any) -> Any:
        return self._stored(kernel * factor, scales * ops.ones_like(factor) * ops.abs(factor))

    def _stored(self, kernel: Any, scales: Any) -> Any:
        return self._quantized(kernel, ops.maximum(scales, SMALLEST / LEVELS_IN_A_FILE) * LEVELS_IN_A_FILE, 8)

    def _quantized(self, kernel: Any, limits: Any, bits: int) -> Any:
        channels = int(np.prod(limits.shape))
        if channels == 1:
            limit = ops.reshape(limits, ())
            return _fake_quant(kernel, -limit, limit, num_bits=bits, narrow_range=True)
        per_channel = ops.reshape(limits, (channels,))
        rank = len(kernel.shape)
        trailing = next(n for n in range(1, rank + 1) if int(np.prod(kernel.shape[rank - n :])) == channels)
        flat = ops.reshape(kernel, (*kernel.shape[: rank - trailing], channels))
        faked = _fake_quant(flat, -per_channel, per_channel, num_bits=bits, narrow_range=True, axis=rank - trailing)
        return ops.reshape(faked, kernel.shape)

    def _limits(self, kernel: Any) -> Any:
        """As `Grid.limits`, without a gradient."""
        axes = self.grid.reduced(len(kernel.shape))
        limits = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
        if self.grid.clip is not None:
            used = ops.sum(ops.cast(ops.not_equal(kernel, 0), kernel.dtype), axis=axes, keepdims=True)
            squares = ops.sum(ops.square(kernel), axis=axes, keepdims=True)
            limits = ops.minimum(limits, self.grid.clip * ops.sqrt(squares / ops.maximum(used, 1)))
        return ops.stop_gradient(ops.maximum(limits, SMALLEST))


def not_rounded(kernel: Any, factor: Any = None) -> Any:
    """Stands for a Rounding where a kernel stays float."""
    return kernel if factor is None else kernel * factor


class QuantizedTables(keras.layers.Layer):  # type: ignore[misc]
    """Runs any layer with some of its kernels fake-quantized; the kernels themselves stay the float layer's."""

    def __init__(self, layer: Any, tables: Sequence[tuple[Any, Rounding]], **kwargs: Any) -> None:
        """`tables`: variables of the layer, and how each is rounded."""
        super().__init__(**kwargs)
        self.layer = layer
        self._tables = list(tables)
        self.supports_masking = True

    def call(self, *tensors: Any, **arguments: Any) -> Any:
        """The layer's output, as its int8 kernels give it."""
        mapping = [(variable, rounding(ops.convert_to_tensor(variable))) for variable, rounding in self._tables]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self.layer(*tensors, **arguments)
        for variable in self.layer.non_trainable_variables:  # a random state goes on
            value = scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)
        return outputs


class QuantizedDense(keras.layers.Layer):  # type: ignore[misc]
    """Dense, or an EinsumDense that is one: a product with a kernel over the last axes, at any rank."""

    def __init__(self, layer: Any, rounding: Rounding, factor: float = 1.0, **kwargs: Any) -> None:
        """`factor` multiplies the result, inside the integer kernel."""
        super().__init__(**kwargs)
        self.layer = layer
        self._rounding = rounding
        self._factor = factor
        self._contracted = contracted_axes(layer)
        self.supports_masking = True

    def call(self, tensor: Any) -> Any:
        """Computed on a matrix, which keeps the integer kernel whole."""
        kernel = ops.convert_to_tensor(self.layer.kernel)
        rows = int(np.prod(kernel.shape[: self._contracted]))
        outer, inner = tensor.shape[: -self._contracted], kernel.shape[self._contracted :]
        is_matrix = len(tensor.shape) == len(kernel.shape) == 2
        factor = None if self._factor == 1 else ops.convert_to_tensor(self._factor, "float32")
        matrix = self._rounding(kernel if len(kernel.shape) == 2 else ops.reshape(kernel, (rows, -1)), factor)
        outputs = ops.matmul(tensor if is_matrix else ops.reshape(tensor, (-1, rows)), matrix)
        if self.layer.bias is not None:
            bias = ops.reshape(ops.broadcast_to(self.layer.bias, inner), (-1,))
            outputs = ops.add(outputs, bias if factor is None else bias * factor)
        if self.layer.activation is not None:
            outputs = self.layer.activation(outputs)
        return outputs if is_matrix else ops.reshape(outputs, (-1, *outer[1:], *inner))


def contracted_axes(layer: Any) -> int:
    """How many trailing axes of its input a Dense or EinsumDense reduces; 0 when it does something else."""
    if isinstance(layer, keras.layers.Dense):
        return 1
    inputs, rest = layer.equation.replace(" ", "").split(",")
    kernel, output = rest.split("->")
    count = sum(letter in inputs for letter in kernel)
    batch, contracted, produced = inputs[: len(inputs) - count], kernel[:count], kernel[count:]
    bias = layer.bias
    bias_fits = bias is None or len([size for size in bias.shape if size != 1]) <= len(produced)
    matches = inputs == batch + contracted and output == batch + produced and batch and bias_fits
    return count if matches and "." not in layer.equation else 0
