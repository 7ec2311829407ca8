"""Simulated int8 convolutions, and layers that scale each channel, which integer kernels compute as convolutions."""

from __future__ import annotations

from typing import Any  # Any: keras tensors and layers, which have no types

import keras
from keras import ops

from edgekit.compression.folding import shaped_factor
from edgekit.compression.simulation_layers import Rounding


class QuantizedConvolution(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
    """Conv1D, Conv2D and their depthwise forms with a fake-quantized kernel.

    With `norm`, the BatchNormalization after it is computed in the kernel: its statistics are kept, its factor and
    shift are trained. That is for kernels whose shared values folding would spread.
    """

    def __init__(self, layer: Any, rounding: Rounding, norm: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.norm = norm
        self._rounding = rounding

    def call(self, tensor: Any) -> Any:
        """The layer's output, as its int8 kernel gives it."""
        layer = self.layer
        factor, shift = (None, layer.bias) if self.norm is None else normalization(self.norm, layer.bias)
        kernel = ops.convert_to_tensor(layer.kernel)
        factor = None if factor is None else shaped_factor(layer, factor)
        outputs = convolved(layer, tensor, kernel, self._rounding, factor)
        outputs = outputs if shift is None else ops.add(outputs, shift)
        return outputs if layer.activation is None else layer.activation(outputs)


class QuantizedSeparableConvolution(keras.layers.Layer):  # type: ignore[misc]
    """SeparableConv1D and 2D: two convolutions, with a range between them."""

    def __init__(self, layer: Any, roundings: tuple[Rounding, Rounding], between: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self.between = between
        self._roundings = roundings

    def call(self, tensor: Any, training: bool | None = None) -> Any:
        """The layer's output, as its int8 kernels give it."""
        layer = self.layer
        depthwise, pointwise = self._roundings
        outputs = convolved(layer, tensor, ops.convert_to_tensor(layer.depthwise_kernel), depthwise, is_depthwise=True)
        outputs = self.between(outputs, training=training)
        outputs = _pointwise(outputs, ops.convert_to_tensor(layer.pointwise_kernel), pointwise)
        outputs = outputs if layer.bias is None else ops.add(outputs, layer.bias)
        return outputs if layer.activation is None else layer.activation(outputs)


class QuantizedScaling(keras.layers.Layer):  # type: ignore[misc]
    """A factor and a shift for each channel, as a depthwise convolution of 1x1: each factor is exact in int8.

    Stands for BatchNormalization, whose statistics are kept, Normalization, Rescaling and LayerScale.
    """

    def __init__(self, layer: Any, rounding: Rounding, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        self._rounding = rounding
        self.supports_masking = True

    def call(self, tensor: Any) -> Any:
        """The layer's output."""
        channels = tensor.shape[-1]
        factor, shift = (ops.broadcast_to(ops.reshape(part, (-1,)), (channels,)) for part in scaling(self.layer))
        kernel = self._rounding(ops.reshape(factor, (1, 1, channels, 1)))
        flat = ops.cast(tensor, "float32")
        image = flat if len(tensor.shape) == 4 else ops.reshape(flat, (-1, 1, _between(tensor.shape), channels))
        outputs = ops.add(ops.depthwise_conv(image, kernel), shift)
        return ops.reshape(outputs, (-1, *tensor.shape[1:]))


def scaling(layer: Any) -> tuple[Any, Any]:
    """The factor and the shift of a layer that scales, each a scalar or of shape (channels,)."""
    layers = keras.layers
    if isinstance(layer, layers.BatchNormalization):
        return normalization(layer, None)
    if isinstance(layer, layers.Normalization):
        mean, deviation = layer.mean, ops.maximum(ops.sqrt(layer.variance), keras.backend.epsilon())
        return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    if isinstance(layer, layers.Rescaling):
        return ops.convert_to_tensor(layer.scale, "float32"), ops.convert_to_tensor(layer.offset, "float32")
    return ops.convert_to_tensor(layer.gamma), ops.zeros((1,))


def normalization(norm: Any, bias: Any) -> tuple[Any, Any]:
    """What a BatchNormalization in inference multiplies its input (which has no bias yet) by, and what it adds."""
    factor = ops.rsqrt(ops.convert_to_tensor(norm.moving_variance) + norm.epsilon)
    factor = factor * norm.gamma if norm.scale else factor
    mean = ops.convert_to_tensor(norm.moving_mean) if bias is None else norm.moving_mean - bias
    shift = -mean * factor
    return factor, (shift + norm.beta if norm.center else shift)


def convolved(
    layer: Any, tensor: Any, kernel: Any, rounding: Rounding, factor: Any = None, *, is_depthwise: bool | None = None
) -> Any:
    """A convolution along one or two axes with a rounded kernel; along one, it is written as one along two."""
    if is_depthwise is None:
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
    is_1d = len(tensor.shape) == 3
    strides, dilation = _pair(layer.strides, is_1d), _pair(layer.dilation_rate, is_1d)
    padding = layer.padding
    if padding == "causal":
        tensor = ops.pad(tensor, [[0, 0], [dilation[1] * (kernel.shape[0] - 1), 0], [0, 0]])
        padding = "valid"
    if is_1d:
        tensor, kernel = ops.expand_dims(tensor, 1), ops.expand_dims(kernel, 0)
    rounded = rounding(kernel, factor)
    if not is_depthwise and kernel.shape[-2] == 1 and tensor.shape[-1] > 1:  # a group for each channel
        rounded, is_depthwise = ops.reshape(rounded, (*kernel.shape[:2], tensor.shape[-1], -1)), True
    compute = ops.depthwise_conv if is_depthwise else ops.conv
    outputs = compute(
        tensor, rounded, strides=strides, padding=padding, dilation_rate=dilation,
        data_format="channels_last",
    )  # fmt: skip
    return ops.squeeze(outputs, 1) if is_1d else outputs


def _pointwise(tensor: Any, kernel: Any, rounding: Rounding) -> Any:
    if len(tensor.shape) == 4:
        return ops.conv(tensor, rounding(kernel), data_format="channels_last")
    outputs = ops.conv(ops.expand_dims(tensor, 1), rounding(ops.expand_dims(kernel, 0)), data_format="channels_last")
    return ops.squeeze(outputs, 1)


def _pair(sizes: Any, is_1d: bool) -> tuple[int, int]:
    """Keras gives strides and dilations as a number or one for each axis."""
    each = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    if is_1d:
        return (1, int(each[0]))
    return (int(each[0]), int(each[-1]))


def _between(shape: Any) -> int:
    """The number of positions of one sample."""
    size = 1
    for length in shape[1:-1]:
        size *= length
    return size
