"""The two Keras layers of simulated int8. Only this module needs Keras when it is imported."""

from __future__ import annotations

from typing import Any  # Any: keras tensors, which have no types

import keras
from keras import ops

from edgekit.loading import Range

_fake_quant = keras.quantizers.fake_quant_with_min_max_vars
_SMALLEST = 1e-6  # an all-zero kernel channel still needs a scale


class Observer(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Fake-quantizes an activation to 8 bits; while training, its range is a moving average of what it sees."""

    momentum = 0.97

    def __init__(self, *, fixed: Range | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed

    def build(self, input_shape: Any) -> None:  # noqa: ARG002  # the name is Keras's
        """Make the range's two variables; the first training batch sets them."""
        low, high = self.fixed or (0.0, 0.0)
        self.low = self._variable("low", low)
        self.high = self._variable("high", high)

    def call(self, tensor: Any, training: bool | None = None) -> Any:
        """Observe while training, quantize always."""
        if training and self.fixed is None:
            keep = ops.where(ops.equal(self.low, self.high), 0.0, self.momentum)
            self.low.assign(keep * self.low + (1 - keep) * ops.minimum(ops.min(tensor), 0.0))
            self.high.assign(keep * self.high + (1 - keep) * ops.maximum(ops.max(tensor), 0.0))
        return _fake_quant(tensor, self.low, self.high)

    def set_range(self, low: float, high: float) -> None:
        """Set what training found."""
        self.low.assign(low)
        self.high.assign(high)

    def get_range(self) -> Range:
        """(min, max)."""
        return float(self.low), float(self.high)

    def _variable(self, name: str, value: float) -> Any:
        return self.add_weight(name=name, shape=(), initializer=keras.initializers.Constant(value), trainable=False)


class QuantizedKernel(keras.layers.Layer):  # type: ignore[misc]
    """Runs a layer with its kernel fake-quantized; the kernel itself stays the float layer's."""

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, tensor: Any) -> Any:
        """The layer's output, as its int8 kernel gives it."""
        kernel = self.layer.kernel
        with keras.StatelessScope(state_mapping=[(kernel, self._quantized(kernel))]):
            return self.layer(tensor)

    def _quantized(self, kernel: Any) -> Any:
        value = ops.convert_to_tensor(kernel)
        axes = scale_axes(self.layer)
        if axes is None:
            limit = ops.maximum(ops.max(ops.abs(value)), _SMALLEST)
            return _fake_quant(value, -limit, limit, narrow_range=True)
        flat = ops.reshape(value, (*kernel.shape[: len(axes)], -1))  # depthwise: (h, w, channels * multiplier)
        limit = ops.maximum(ops.max(ops.abs(flat), axis=axes), _SMALLEST)
        return ops.reshape(_fake_quant(flat, -limit, limit, narrow_range=True, axis=len(axes)), kernel.shape)


def scale_axes(layer: Any) -> tuple[int, ...] | None:
    """The kernel axes that share one scale; None is one scale for the whole kernel.

    Dense kernels have one scale: the TFLite converter transposes them and loses track of per-channel axes.
    """
    if isinstance(layer, keras.layers.Dense):
        return None
    return (0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (0, 1, 2)
