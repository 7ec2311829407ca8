"""Which axes of a layer's weights are channels: convolutions, dense layers, embeddings, normalization, scales."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgekit.compression.channels.atoms import Indices, Layout
from edgekit.compression.channels.calls import Call, channel_axis, from_end
from edgekit.compression.channels.shape_rules import Rule, is_elementwise


def _result(call: Call, made: Indices, axis: int = -1) -> list[Layout]:
    """Layouts of the channels that the layer's weights make, after its activation."""
    if not is_elementwise(getattr(call.layer, "activation", None)):
        call.fix(made, f"the activation of {call.label} looks at all channels at once")
    return [Layout(axis, made) for _ in call.outputs]


def convolution(call: Call) -> list[Layout]:
    """Kernel (..., inputs of a group, outputs)."""
    layer, tensor = call.layer, call.tensors[0]
    axis = channel_axis(layer, tensor)
    inputs = call.read("inputs", call.on_axis(tensor, axis))
    groups, width = layer.groups, len(inputs) // layer.groups
    if groups > 1 and width == 1:
        return _depthwise(call, inputs, layer.filters // groups, axis)
    outputs = call.make("outputs", layer.filters)
    for atoms in (inputs, outputs) if groups > 1 else ():  # a channel goes with those of its place in other groups
        call.unite(np.resize(atoms[: len(atoms) // groups], len(atoms)), atoms)
    call.cut(layer._kernel, {-2: inputs[:width], -1: outputs})
    call.cut(layer.bias, {0: outputs})
    call.set_size("filters", outputs)
    return _result(call, outputs, axis)


def _depthwise(call: Call, inputs: Indices, multiplier: int, axis: int) -> list[Layout]:
    """A convolution whose groups have one channel each: kernel (..., 1, channels times multiplier)."""
    outputs = np.repeat(inputs, multiplier)
    call.cut(call.layer._kernel, {-1: outputs})
    call.cut(call.layer.bias, {0: outputs})
    call.set_size("filters", outputs)
    call.set_size("groups", inputs)
    return _result(call, outputs, axis)


def depthwise_convolution(call: Call) -> list[Layout]:
    """Kernel (..., channels, multiplier)."""
    layer, tensor = call.layer, call.tensors[0]
    axis = channel_axis(layer, tensor)
    inputs = call.read("inputs", call.on_axis(tensor, axis))
    outputs = np.repeat(inputs, layer.depth_multiplier)
    call.cut(layer.kernel, {-2: inputs})
    call.cut(layer.bias, {0: outputs})
    return _result(call, outputs, axis)


def separable_convolution(call: Call) -> list[Layout]:
    """A depthwise kernel, then a pointwise one (..., channels times multiplier, outputs)."""
    layer, tensor = call.layer, call.tensors[0]
    axis = channel_axis(layer, tensor)
    inputs = call.read("inputs", call.on_axis(tensor, axis))
    outputs = call.make("outputs", layer.filters)
    call.cut(layer.depthwise_kernel, {-2: inputs})
    call.cut(layer.pointwise_kernel, {-2: np.repeat(inputs, layer.depth_multiplier), -1: outputs})
    call.cut(layer.bias, {0: outputs})
    call.set_size("filters", outputs)
    return _result(call, outputs, axis)


def transposed_convolution(call: Call) -> list[Layout]:
    """Kernel (..., outputs, inputs)."""
    layer, tensor = call.layer, call.tensors[0]
    if getattr(layer, "groups", 1) != 1:
        return call.refuse(f"{call.label} has groups")
    axis = channel_axis(layer, tensor)
    inputs = call.read("inputs", call.on_axis(tensor, axis))
    outputs = call.make("outputs", layer.filters)
    call.cut(layer._kernel if hasattr(layer, "_kernel") else layer.kernel, {-2: outputs, -1: inputs})
    call.cut(layer.bias, {0: outputs})
    call.set_size("filters", outputs)
    return _result(call, outputs, axis)


def dense(call: Call) -> list[Layout]:
    """Kernel (inputs, outputs)."""
    layer = call.layer
    inputs = call.read("inputs", call.on_axis(call.tensors[0], -1))
    outputs = call.make("outputs", layer.units)
    call.cut(layer._kernel, {0: inputs, 1: outputs})
    call.cut(layer.bias, {0: outputs})
    call.set_size("units", outputs)
    return _result(call, outputs)


def einsum_dense(call: Call) -> list[Layout]:
    """An EinsumDense that is a Dense over the last axis, such as "abc,cd->abd"."""
    layer = call.layer
    given, made = layer.equation.split("->")
    given, kernel = given.split(",")
    if len(kernel) != 2 or given[-1] != kernel[0] or made != given[:-1] + kernel[1]:
        return call.refuse(f"{call.label} computes {layer.equation}, which is not followed")
    if layer.bias_axes not in (None, kernel[1]):
        return call.refuse(f"{call.label} has a bias along the axes {layer.bias_axes}")
    inputs = call.read("inputs", call.on_axis(call.tensors[0], -1))
    outputs = call.make("outputs", layer._kernel.shape[1])
    call.cut(layer._kernel, {0: inputs, 1: outputs})
    call.cut(layer.bias, {0: outputs})
    head = tuple(layer.partial_output_shape[:-1])
    call.edit(lambda config, count: config.update(output_shape=(*head, count(outputs))))
    return _result(call, outputs)


def embedding(call: Call) -> list[Layout]:
    """Table (tokens, outputs)."""
    tensor = call.tensors[0]
    call.fix(call.layout(tensor).atoms, f"{call.label} looks tokens up")
    outputs = call.make("outputs", call.layer.output_dim)
    call.cut(call.layer._embeddings, {1: outputs})
    call.set_size("output_dim", outputs)
    return [Layout(-1, outputs)]


def batch_normalization(call: Call) -> list[Layout]:
    """Four vectors along the channels."""
    layer, tensor = call.layer, call.tensors[0]
    axis = from_end(layer.axis, tensor)
    channels = call.read("channels", call.on_axis(tensor, axis))
    for weight in layer.weights:
        call.cut(weight, {0: channels})
    return [Layout(axis, channels)]


def group_normalization(call: Call) -> list[Layout]:
    """Statistics of one group do not see the others: whole groups can go."""
    layer, tensor = call.layer, call.tensors[0]
    axis = from_end(layer.axis, tensor)
    channels = call.read("channels", call.on_axis(tensor, axis))
    size = 1 if layer.groups == -1 else len(channels) // layer.groups
    call.unite(np.repeat(channels[::size], size), channels)
    for weight in layer.weights:
        call.cut(weight, {0: channels})
    if layer.groups != -1:
        call.edit(lambda config, count: config.update(groups=count(channels) // size))
    return [Layout(axis, channels)]


def statistics_over_channels(call: Call) -> list[Layout]:
    """LayerNormalization and RMSNormalization: with fewer channels, the statistics would be others."""
    layer, tensor = call.layer, call.tensors[0]
    layout = call.layout(tensor)
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    for weight in layer.weights:
        call.cut(weight, {})
    if layout.axis in [from_end(axis, tensor) for axis in axes]:
        return call.refuse(
            f"{call.label} takes its statistics over all channels, so that none can go without changing them"
        )
    return [layout]


def unit_normalization(call: Call) -> list[Layout]:
    """A sum of squares over the channels does not miss those that are zero."""
    return [call.layout(call.tensors[0])]


def parametric_relu(call: Call) -> list[Layout]:
    """A slope for each place, or shared along axes."""
    layer, layout = call.layer, call.layout(call.tensors[0])
    shared = layer.alpha.shape[layout.axis] == 1
    channels = layout.atoms if shared else call.read("channels", layout.atoms)
    call.cut(layer.alpha, {} if shared else {layout.axis: channels})
    return [Layout(layout.axis, channels)]


def layer_scale(call: Call) -> list[Layout]:
    """A factor for each channel (keras.applications' ConvNeXt)."""
    channels = call.read("channels", call.on_axis(call.tensors[0], -1))
    call.cut(call.layer.gamma, {0: channels})
    call.set_size("projection_dim", channels)
    return [Layout(-1, channels)]


_BY_RULE: Mapping[Rule, str] = {
    convolution: "Conv1D Conv2D Conv3D",
    depthwise_convolution: "DepthwiseConv1D DepthwiseConv2D",
    separable_convolution: "SeparableConv1D SeparableConv2D",
    transposed_convolution: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
    dense: "Dense",
    einsum_dense: "EinsumDense",
    embedding: "Embedding",
    batch_normalization: "BatchNormalization",
    group_normalization: "GroupNormalization",
    statistics_over_channels: "LayerNormalization RMSNormalization",
    unit_normalization: "UnitNormalization",
    parametric_relu: "PReLU",
    layer_scale: "LayerScale",
}

RULES: Mapping[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
