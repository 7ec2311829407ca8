"""How channels pass through layers and operations without kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any  # Any: keras operations and tensors, which have no types

import numpy as np

from edgekit.compression.channels.atoms import Layout
from edgekit.compression.channels.calls import Call, Count, channel_axis, from_end

Rule = Callable[[Call], list[Layout]]

# Functions of one number, which keep channels apart.
ELEMENTWISE_ACTIVATIONS = (
    "linear relu relu6 sigmoid hard_sigmoid tanh silu swish hard_silu hard_swish gelu elu selu celu mish softplus "
    "softsign exponential leaky_relu log_sigmoid hard_tanh squareplus tanh_shrink soft_shrink hard_shrink threshold"
)


def is_elementwise(activation: Any) -> bool:
    """True for an activation of Keras that keeps channels apart; softmax does not, and of others nobody knows."""
    if activation is None:
        return True
    name = getattr(activation, "__name__", type(activation).__name__)
    return name in ELEMENTWISE_ACTIVATIONS.split() and str(activation.__module__).startswith("keras.")


def elementwise(call: Call) -> list[Layout]:
    """Sums, products and functions of one number: operands keep step, or are spread over the channels."""
    outputs = call.outputs[0]
    layouts = [call.layout(tensor) for tensor in call.tensors]
    full = [layout for layout in layouts if 0 < len(layout.atoms) == outputs.shape[layout.axis]]
    if not full:
        return call.refuse(f"{call.label} has no operand of the width of its output")
    main = full[0]
    for tensor, layout in zip(call.tensors, layouts, strict=True):
        _keep_step(call, main, tensor, layout)
    for shape in call.constants():
        if len(shape) >= -main.axis and shape[main.axis] != 1:
            call.fix(main.atoms, f"{call.label} takes an array of numbers for each channel")
    return [main for _ in call.outputs]


def _keep_step(call: Call, main: Layout, tensor: Any, layout: Layout) -> None:
    if layout.axis == main.axis and len(layout.atoms) == len(main.atoms):
        call.unite(main.atoms, layout.atoms)
        return
    call.fix(layout.atoms, f"{call.label} spreads it over another axis")
    if layout.axis != main.axis and len(tensor.shape) >= -main.axis and tensor.shape[main.axis] != 1:
        call.fix(main.atoms, f"{call.label} joins it to a tensor with channels along another axis")


def activation(call: Call) -> list[Layout]:
    """An Activation layer."""
    if not is_elementwise(call.layer.activation):
        return call.refuse(f"the activation of {call.label} looks at all channels at once")
    return elementwise(call)


def softmax(call: Call) -> list[Layout]:
    """A softmax along another axis than the channels' leaves them apart."""
    axes = call.layer.axis if isinstance(call.layer.axis, list | tuple) else [call.layer.axis]
    layout = call.layout(call.tensors[0])
    if layout.axis in [from_end(axis, call.tensors[0]) for axis in axes]:
        return call.refuse(f"{call.label} looks at all channels at once")
    return [layout]


def rescaling(call: Call) -> list[Layout]:
    """Scale and offset are numbers, or one for each channel."""
    if np.ndim(call.layer.scale) or np.ndim(call.layer.offset):
        return call.refuse(f"{call.label} has a number for each channel")
    return elementwise(call)


def spatial(call: Call) -> list[Layout]:
    """Pooling, padding, cropping and upsampling: each channel by itself."""
    tensor = call.tensors[0]
    axis = channel_axis(call.layer, tensor)
    return [Layout(axis, call.on_axis(tensor, axis))]


def global_pooling(call: Call) -> list[Layout]:
    """One number for each channel, with or without axes of length 1."""
    tensor = call.tensors[0]
    axis = channel_axis(call.layer, tensor)
    atoms = call.on_axis(tensor, axis)
    return [Layout(axis if call.layer.keepdims else -1, atoms)]


def repeat_vector(call: Call) -> list[Layout]:
    """(batch, channels) -> (batch, n, channels)."""
    return [Layout(-1, call.on_axis(call.tensors[0], -1))]


def reduce(call: Call) -> list[Layout]:
    """`keras.ops.mean` and its like over other axes than the channels'."""
    tensor, operation = call.tensors[0], call.layer
    layout = call.layout(tensor)
    given = range(len(tensor.shape)) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    axes = [from_end(axis, tensor) for axis in given]
    if layout.axis in axes:
        return call.refuse(f"{call.label} reduces over the channels")
    gone = 0 if operation.keepdims else sum(axis > layout.axis for axis in axes)
    return [Layout(layout.axis + gone, layout.atoms)]


def permute(call: Call) -> list[Layout]:
    """Axes in another order."""
    tensor, layer = call.tensors[0], call.layer
    rank = len(tensor.shape)
    order = (0, *layer.dims) if hasattr(layer, "dims") else layer.axes or tuple(reversed(range(rank)))
    layout = call.layout(tensor)
    positions = [axis % rank for axis in order]
    return [Layout(positions.index(layout.axis % rank) - rank, layout.atoms)]


def reshape(call: Call) -> list[Layout]:
    """Any reshape after which the channels lie along one axis again; a Flatten repeats them."""
    tensor, outputs = call.tensors[0], call.outputs[0]
    layout, shape = call.layout(tensor), tuple(outputs.shape)
    found = None
    if None not in (*tensor.shape[1:], *shape[1:]) and len(layout.atoms):
        found = _relabelled(layout, tuple(tensor.shape[1:]), shape[1:])
    if found is None:
        return call.refuse(f"{call.label} splits or merges the channels in a way that is not followed")
    _follow_reshape(call, found)
    return [found]


def _relabelled(layout: Layout, before: tuple[int, ...], after: tuple[int, ...]) -> Layout | None:
    """Where the atoms lie after a reshape (shapes without the batch); None when along no single axis."""
    if math.prod(before) != math.prod(after):
        return None  # the batch took part
    places = [1] * len(before)
    places[layout.axis] = -1
    labels = np.broadcast_to(layout.atoms.reshape(places), before).reshape(after)
    for axis in range(-1, -len(after) - 1, -1):
        line = np.moveaxis(labels, axis, -1).reshape(-1, after[axis])
        if (line == line[0]).all():
            return Layout(axis, np.array(line[0]))
    return None


def _follow_reshape(call: Call, layout: Layout) -> None:
    """The target shape follows what stays; a -1 in it does so by itself."""
    layer = call.layer
    attribute = next((name for name in ("target_shape", "newshape") if hasattr(layer, name)), None)
    if attribute is None:
        return
    given = list(getattr(layer, attribute))

    def follow(settings: Any, count: Count) -> None:
        target = list(given)
        if target[layout.axis] != -1:
            target[layout.axis] = count(layout.atoms)
        if isinstance(settings, dict):
            settings[attribute] = tuple(target)
        else:
            setattr(settings, attribute, tuple(target))

    call.edit(follow)


def concatenate(call: Call) -> list[Layout]:
    """Along the channels their atoms come one after the other; along another axis they keep step."""
    axis = from_end(call.layer.axis, call.outputs[0])
    layouts = [call.layout(tensor) for tensor in call.tensors]
    if all(layout.axis == axis for layout in layouts):
        return [Layout(axis, np.concatenate([layout.atoms for layout in layouts]))]
    first = layouts[0]
    if any(layout.axis != first.axis or len(layout.atoms) != len(first.atoms) for layout in layouts):
        return call.refuse(f"{call.label} joins tensors with channels along different axes")
    for layout in layouts[1:]:
        call.unite(first.atoms, layout.atoms)
    return [first]


def get_item(call: Call) -> list[Layout]:
    """Indexing that leaves the channels' axis whole."""
    tensor = call.tensors[0]
    layout = call.layout(tensor)
    key = call.arguments.args[1] if len(call.arguments.args) > 1 else call.arguments.kwargs.get("key")
    kept = _indexed(key if isinstance(key, tuple) else (key,), len(tensor.shape))
    place = len(tensor.shape) + layout.axis
    if kept is None or len(call.tensors) > 1 or kept[place] != slice(None):
        return call.refuse(f"{call.label} picks among the channels, or in a way that is not followed")
    behind = sum(isinstance(item, slice) for item in kept[place + 1 :])
    return [Layout(-1 - behind, layout.atoms)]


def _indexed(key: tuple[Any, ...], rank: int) -> list[Any] | None:
    """The key with one int or slice for each axis; None for masks, arrays and new axes."""
    if not all(isinstance(item, int | slice) or item is Ellipsis for item in key):
        return None
    rest = [slice(None)] * (rank - sum(item is not Ellipsis for item in key))
    if Ellipsis not in key:
        return [*key, *rest]
    place = key.index(Ellipsis)
    return [*key[:place], *rest, *key[place + 1 :]]


_BY_RULE: Mapping[Rule, str] = {
    elementwise: "ReLU LeakyReLU ELU Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianNoise "
    "GaussianDropout AlphaDropout Identity ActivityRegularization Add Subtract Multiply Maximum Minimum Average Divide "
    "TrueDivide DivideNoNan Power Where Relu Relu6 Sigmoid HardSigmoid Tanh Silu HardSilu Gelu Elu Selu Celu Softplus "
    "Softsign LeakyRelu LogSigmoid HardTanh Squareplus Exp Expm1 Log Log1p Sqrt Rsqrt Square Absolute Negative "
    "Reciprocal Sign Clip Cast Erf Sin Cos StopGradient Mod Floor Ceil Round",
    activation: "Activation",
    softmax: "Softmax LogSoftmax",
    rescaling: "Rescaling",
    spatial: "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D ZeroPadding1D "
    "ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D "
    "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveMaxPooling1D AdaptiveMaxPooling2D",
    global_pooling: "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D "
    "GlobalMaxPooling2D GlobalMaxPooling3D",
    repeat_vector: "RepeatVector",
    reduce: "Mean Max Min Amax Amin Sum Var Std Prod",
    permute: "Permute Transpose",
    reshape: "Flatten Reshape ExpandDims Squeeze",
    concatenate: "Concatenate",
    get_item: "GetItem",
}

RULES: Mapping[str, Rule] = {name: rule for rule, names in _BY_RULE.items() for name in names.split()}
