"""A converted file as its engine computes it: every activation in execution order, and any part of it on given inputs.

What a converter gives `edgekit compare --layers` to work with. Values are real numbers everywhere: a trace quantizes
what it is given and dequantizes what it gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgekit.manifest import Binding
from edgekit.tensors import Array, Quantization, TensorSpec

INPUT_OPERATOR = "input"

Values = Mapping[str, Array]  # by tensor name, one sample
Run = Callable[[Values], dict[str, Array]]

_SIMULATED = re.compile(r"(?:quantized|fake_quant)_(?=.)")  # what a quantization-aware graph calls its layers
_ONNX_OUTPUT = re.compile(r":\d+$")
_NUMBER = re.compile(r"_\d+$")  # Keras numbers its name scopes
_PRODUCT = re.compile(r"/(?:convolution|depthwise|MatMul|BiasAdd)")
_TORCH = "/"  # what names begin with in PyTorch's exports
_GENERATED = re.compile(r"__\d+$|^StatefulPartitionedCall(_\d+)?$")  # counted up by a converter


@dataclass(frozen=True)
class Grid:
    """The values that an integer tensor can stand for."""

    quantization: Quantization
    dtype: str  # "int8"

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest of them."""
        stored = np.iinfo(self.dtype)
        least, most = self.quantization.dequantize(np.array([stored.min, stored.max]))
        return float(least), float(most)

    def round(self, values: Array) -> Array:
        """The nearest values on the grid, float32."""
        return self.quantization.dequantize(self.quantization.quantize(values, self.dtype))


@dataclass(frozen=True)
class Kernel:
    """An operator's trained kernel as real numbers."""

    values: Array  # float32, (output channels, n)
    steps: Array | None  # float32, (channels,) or (1,): the distance of neighbouring values; None in a float file


@dataclass(frozen=True)
class TracedTensor:
    """One activation, with the operator that makes it."""

    name: str  # in the file
    key: str  # what the same activation is called in another file of the model
    scopes: tuple[str, ...]  # TensorFlow names of what was fused into it: "digits_1/relu_1/Relu", the last first
    operator: str  # "CONV_2D"; INPUT_OPERATOR for an input of the model
    channel_axis: int
    grid: Grid | None  # None where it stays float
    kernel: str | None  # key in the trace's kernels
    setting: str | None = None  # what settings call its operator in a file without Keras names; None: none is for it
    readers: tuple[str, ...] = ()  # names of the activations that are computed from it


class Trace(Protocol):
    """One converted file, opened for looking inside."""

    engine: str  # the runtime engine that runs it
    inputs: tuple[Binding, ...]  # in the engine's order
    outputs: tuple[Binding, ...]
    input_specs: tuple[TensorSpec, ...]  # as a caller sees them: float where the file has quantized integers
    output_specs: tuple[TensorSpec, ...]
    tensors: tuple[TracedTensor, ...]  # in execution order
    ambiguous: tuple[str, ...]  # names of activations left out, since another one cannot be told from them
    activations: Mapping[str, str]  # key -> name of every float activation, also of those inside a fused group
    kernels: Mapping[str, Kernel]

    def run(self, inputs: Values) -> dict[str, Array]:
        """Every activation for one sample, by tensor name; `inputs` are by tensor name as well."""
        ...

    def cut(self, names: Iterable[str], wanted: Iterable[str]) -> Run:
        """The file cut at the activations `names`: what reads one of them computes from the value that it is given.

        The function takes the model's inputs and a value for each of `names`, and returns those of `wanted` that an
        operator makes; a cut one is what its own operator makes of the values before it.
        """
        ...


def input_key(name: str) -> str:
    """The key of a model input, by its Keras name."""
    return f"input {name}"


def output_key(name: str) -> str:
    """The key of a model output, by its Keras name."""
    return f"output {name}"


def is_output_key(key: str) -> bool:
    """True for the key of a model output."""
    return key.startswith(output_key(""))


def canonical(name: str) -> str:
    """The part of a tensor's name that stays the same from one conversion of a model to another."""
    first = _ONNX_OUTPUT.sub("", name.split(";")[0])
    *scopes, leaf = first.removeprefix("StatefulPartitionedCall/").split("/")
    return "/".join([_SIMULATED.sub("", scope) for scope in scopes] + [leaf])


def is_generated(key: str) -> bool:
    """True for a key that a converter counted up, which means nothing in another conversion."""
    return bool(_GENERATED.search(key))


def keras_layers(scopes: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The Keras layers, of those that are `known`, that TensorFlow names like "digits_1/conv_1/BiasAdd" come from.

    In the order of `known`. A layer of a nested model is the innermost scope that is one.
    """
    order = list(known)
    found = {layer for scope in scopes if (layer := _innermost(scope, set(order))) is not None}
    return tuple(name for name in order if name in found)


def short_name(scopes: Sequence[str]) -> str:
    """The likeliest layer's name in a file whose Keras layers are not known: the numbered scope around a product.

    In PyTorch's exports, the module.
    """
    named = [scope for scope in scopes if not is_generated(canonical(scope))] or ["?"]
    products = [scope for scope in named if _PRODUCT.search(scope)]
    chosen = canonical(products[0] if products else named[-1])
    if chosen.startswith(_TORCH):
        return _module(chosen)
    *around, leaf = chosen.split("/")
    return next((_NUMBER.sub("", part) for part in reversed(around) if _NUMBER.search(part)), leaf)


def _module(name: str) -> str:
    """PyTorch's name of the module in "/layer1/layer1.0/conv1/Conv": "layer1.0.conv1"; of none around it: "Conv"."""
    *scopes, operator = name.removeprefix(_TORCH).split("/")
    module = ""
    for scope in scopes:
        module = scope if not module or scope.startswith(f"{module}.") else f"{module}.{scope}"
    return module or operator


def _innermost(scope: str, known: set[str]) -> str | None:
    for part in reversed(canonical(scope).split("/")):
        for candidate in (_NUMBER.sub("", part), part):
            if candidate in known:
                return candidate
    return None
