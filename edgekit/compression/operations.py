"""What integer kernels do with each operation of a graph: compute it in 8 bits, only move its values, or leave it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any  # Any: keras operations and tensors, which have no types

from edgekit.compression.flattening import is_layer
from edgekit.compression.graph import activation_name
from edgekit.loading import Range, import_keras

# The ranges that TFLite's kernels prescribe for their outputs.
FIXED_RANGES: dict[str, Range] = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
DECOMPOSED = ("silu", "hard_silu", "hard_sigmoid")  # activations that integer kernels compute as several operations
_RELUS = ("relu", "relu6")
_INTEGER_ACTIVATIONS = (*_RELUS, *FIXED_RANGES, *DECOMPOSED, "gelu", "leaky_relu")

_MOVING = frozenset({
    "AveragePooling1D", "AveragePooling2D", "AveragePool", "MaxPooling1D", "MaxPooling2D", "MaxPool",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Max", "Min", "Flatten", "Reshape", "Permute", "Transpose", "Squeeze",
    "ExpandDims", "Swapaxes", "Moveaxis", "GetItem", "Take", "Split", "Unstack", "Flip", "Roll", "Repeat", "Tile",
    "BroadcastTo", "RepeatVector", "UpSampling1D", "UpSampling2D", "Cropping1D", "Cropping2D", "CenterCrop",
    "ZeroPadding1D", "ZeroPadding2D", "Pad", "Dropout", "AlphaDropout", "SpatialDropout1D", "SpatialDropout2D",
    "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Identity", "StopGradient", "Masking", "InputLayer",
    "Ravel", "Linear",
})  # fmt: skip
_ARITHMETIC = frozenset({
    "Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "GlobalAveragePooling1D",
    "GlobalAveragePooling2D", "Mean", "Sum", "Matmul", "Stack", "LeakyReLU", "LeakyRelu",
})  # fmt: skip
SCALING = frozenset({"Rescaling", "Normalization", "BatchNormalization", "LayerScale"})
_KERNELS = frozenset({
    "Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D",
    "SeparableConv2D", "Dense", "EinsumDense", "Embedding",
})  # fmt: skip
_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D"})

_NORMALIZES = "mean and variance of each sample are not computed in integers; what comes in and goes out is 8-bit"
_IN_A_LOOP = "the gates and the state stay float, because they run in a loop; kernels, input and output are 8-bit"
_WHY_FLOAT = {
    "LayerNormalization": _NORMALIZES,
    "GroupNormalization": _NORMALIZES,
    "UnitNormalization": _NORMALIZES,
    "RMSNormalization": _NORMALIZES,
    "Conv3D": "the targets have no 8-bit 3-D convolution",
    "Lambda": "a function of the user's own",
    "TimeDistributed": "what is inside stays float, except for its kernels; put the layers into the model one by one",
    "GroupedQueryAttention": "its matmuls stay float; its kernels, input and output are 8-bit",
}


class Kind(Enum):
    """What happens to an operation under simulated integers."""

    INTEGER = "integer"  # computed in 8 bits; its output has a range
    MOVING = "moving"  # only moves or picks values: its output lies on its input's grid
    FLOAT = "float"
    FLOAT_BETWEEN_INTEGERS = "float between integers"  # its kernels, input and output are 8-bit, the rest is float


@dataclass(frozen=True)
class Treatment:
    """Kind, and the reason where something stays float."""

    kind: Kind
    reason: str = ""

    @property
    def wants_integers(self) -> bool:
        """True when its inputs need ranges."""
        return self.kind in (Kind.INTEGER, Kind.FLOAT_BETWEEN_INTEGERS)


def treatment(operation: Any) -> Treatment:
    """How an operation of a model in canonical form is simulated."""
    name = type(operation).__name__
    ours = is_layer(operation) and type(operation).__module__.startswith("keras.")
    if is_layer(operation) and not ours:
        return Treatment(Kind.FLOAT, f"edgekit does not know what a layer of type {name} computes")
    if name in _MOVING:
        return Treatment(Kind.MOVING)
    if getattr(operation, "data_format", "channels_last") == "channels_first":
        return Treatment(Kind.FLOAT, "the targets compute with channels last")
    if name in _KERNELS or name in _ARITHMETIC or (name in SCALING and is_channelwise(operation)):
        return Treatment(Kind.INTEGER)
    if name == "MultiHeadAttention":
        return _treated_attention(operation)
    if name in _RECURRENT:
        return Treatment(Kind.FLOAT_BETWEEN_INTEGERS, _IN_A_LOOP)
    if name == "TimeDistributed" and is_foldable_in_time(operation):
        return Treatment(Kind.INTEGER)
    if name in ("TimeDistributed", "GroupedQueryAttention"):
        return Treatment(Kind.FLOAT_BETWEEN_INTEGERS, _WHY_FLOAT[name])
    return _treated_activation(operation, name)


def _treated_attention(layer: Any) -> Treatment:
    if layer._query_dense.equation == layer._value_dense.equation == "abc,cde->abde":
        return Treatment(Kind.INTEGER)
    return Treatment(
        Kind.FLOAT_BETWEEN_INTEGERS, "its matmuls over several axes stay float; its kernels, input and output are 8-bit"
    )


def _treated_activation(operation: Any, name: str) -> Treatment:
    activation = activation_name(operation)
    if name == "Activation" and activation == "linear":
        return Treatment(Kind.MOVING)
    is_activation = name in ("Activation", "ReLU", "Softmax") or not is_layer(operation)
    if is_activation and activation in _INTEGER_ACTIVATIONS:
        return Treatment(Kind.INTEGER)
    if activation != "linear":
        return Treatment(
            Kind.FLOAT, f"the activation {activation} has no 8-bit kernel; what feeds other layers is 8-bit"
        )
    return Treatment(Kind.FLOAT, _WHY_FLOAT.get(name, f"{name} has no 8-bit kernel with trained ranges"))


def fuses_relu(operation: Any) -> bool:
    """True for a ReLU that the integer kernel before it applies itself."""
    if type(operation).__name__ == "ReLU":
        plain = operation.max_value in (None, 6, 6.0)
        return plain and not operation.negative_slope and not operation.threshold
    is_activation = type(operation).__name__ == "Activation" or not is_layer(operation)
    return is_activation and activation_name(operation) in _RELUS


def may_fuse(operation: Any) -> bool:
    """True when the integer kernel of an operation can apply a ReLU to its own output."""
    name = type(operation).__name__
    linear = activation_name(operation) == "linear"
    return linear and ((name in _KERNELS and name != "Embedding") or _adds(operation))


def _adds(operation: Any) -> bool:
    return type(operation).__name__ in ("Add", *SCALING)


def is_channelwise(layer: Any) -> bool:
    """True when a scaling layer has a factor for each index of the last axis, or one for all."""
    axis = getattr(layer, "axis", -1)
    rank = len(layer.output.shape)
    name = type(layer).__name__
    if name == "BatchNormalization":
        return axis in (-1, rank - 1)
    if name == "Normalization":
        return rank > 1 and (layer.axis in ((), (-1,), (rank - 1,)))
    return rank > 1


def is_foldable_in_time(layer: Any) -> bool:
    """True for TimeDistributed over a layer with a kernel: its steps are samples to that layer."""
    layers = import_keras().layers
    inner = layer.layer
    plain = (layers.Conv1D, layers.Conv2D, layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.Dense)
    return isinstance(inner, (*plain, layers.SeparableConv1D, layers.SeparableConv2D)) and activation_name(inner) in (
        "linear",
        *_RELUS,
    )
