"""BatchNormalization as a factor and a shift of the layer before it.

Source: Jacob et al. 2018, section 3.2, equation 14.
"""

from __future__ import annotations

from typing import Any  # Any: keras layers, which have no types

import numpy as np

from edgekit.compression.graph import activation_name, calls, consumers
from edgekit.loading import import_keras
from edgekit.tensors import Array


def foldable(model: Any) -> dict[str, Any]:
    """Layer name -> the BatchNormalization over its output channels that is its only consumer."""
    layers = import_keras().layers
    uses, counts = consumers(model), calls(model)
    outputs = {tensor._keras_history.operation.name for tensor in model.outputs}
    folds = {}
    for layer in model.layers:
        norm: Any = uses[layer.name][0] if len(uses[layer.name]) == 1 else None
        if not isinstance(norm, layers.BatchNormalization) or not isinstance(layer, _linear_layers(layers)):
            continue
        called_once = counts[layer.name] == counts[norm.name] == 1
        channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
        over_channels = norm.axis in (-1, len(layer.output.shape) - 1) and channels_last
        if called_once and over_channels and activation_name(layer) == "linear" and layer.name not in outputs:
            folds[layer.name] = norm
    return folds


def folded_weights(layer: Any, norm: Any) -> list[Array]:
    """The layer's weights, bias included, with the normalization in them; in the order of `set_weights`."""
    bias = np.asarray(layer.bias) if layer.use_bias else np.float32(0)
    *before, last = [np.asarray(weight) for weight in layer.weights if weight is not layer.bias]
    factor = normalization_factor(norm)
    shift = (np.asarray(norm.beta) if norm.center else 0.0) + (bias - np.asarray(norm.moving_mean)) * factor
    return [*before, last * shaped_factor(layer, factor), shift.astype(np.float32)]


def normalization_factor(norm: Any) -> Array:
    """What the normalization multiplies each channel by, shape (channels,)."""
    deviation = np.sqrt(np.asarray(norm.moving_variance) + np.float32(norm.epsilon))
    factor: Array = (np.asarray(norm.gamma) if norm.scale else np.float32(1)) / deviation
    return factor.astype(np.float32)


def shaped_factor(layer: Any, factor: Any) -> Any:
    """A factor for each output channel, in a shape that multiplies the layer's (last) kernel."""
    layers = import_keras().layers
    if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
        return factor.reshape(layer.kernel.shape[-2:])
    if isinstance(layer, layers.Conv1DTranspose | layers.Conv2DTranspose):
        return factor[:, None]
    return factor


def _linear_layers(layers: Any) -> tuple[Any, ...]:
    plain = (layers.Conv1D, layers.Conv2D, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Dense)
    return (*plain, layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
