"""Which layer of the model an operator of the TFLite file belongs to.

TensorFlow's converter names a tensor by the scopes that made it: "net_1/conv_1/convolution;net_1/norm_1/add". A scope
is a layer's name with the number of its use; several layers that became one operator are joined by semicolons.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from edgekit_tflite.reading import Role, TFLiteModel, TFLiteOperator, TFLiteTensor

WEIGHTED = (  # operator types with a kernel
    "BATCH_MATMUL", "CONV_2D", "CONV_2D_TRANSPOSE", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED",
)  # fmt: skip
_LONGEST_SCOPE = 10_000  # where litert-quantizer cuts
_USE = re.compile(r"_\d+$")


@dataclass(frozen=True)
class NamedOperator:
    """An operator and the names that a pattern may call it by."""

    operator: TFLiteOperator
    layers: tuple[str, ...]  # layer names, outermost first; in a file of unknown layers, its own names

    @property
    def type(self) -> str:
        """The builtin name: "CONV_2D"."""
        return self.operator.type

    @property
    def label(self) -> str:
        """One name for messages."""
        return self.layers[-1] if self.layers else self.operator.outputs[0].name

    @property
    def scope(self) -> str:
        """What litert-quantizer calls the operator."""
        return scope_of(tensor.name for tensor in self.operator.outputs)

    @property
    def graph(self) -> int:
        """The number of its graph in the file."""
        tensors = (*self.operator.outputs, *self.operator.inputs)
        return tensors[0].key[0] if tensors else 0


def scope_of(names: Iterable[str]) -> str:
    """What litert-quantizer calls an operator that gives these tensors, or the border of a graph."""
    return "".join(f"{name};" for name in names)[:_LONGEST_SCOPE]


def kernel_of(operator: TFLiteOperator) -> TFLiteTensor | None:
    """The constant that a convolution, a dense layer or an embedding multiplies by; None for other operators."""
    if operator.type not in WEIGHTED:
        return None
    tables = [tensor for tensor in operator.inputs if tensor.role is Role.PARAMETER and len(tensor.shape) >= 2]
    return max(tables, key=lambda tensor: prod(tensor.shape), default=None)


def name_operators(model: TFLiteModel, known: Collection[str]) -> tuple[NamedOperator, ...]:
    """Every operator with its layers. `known` are the Keras names of all layers; empty for a file that was given."""
    ends = {tensor.key: name for name, tensor in model.outputs.items()}
    return tuple(NamedOperator(operator, _layers(operator, known, ends)) for operator in model.operators)


def _layers(operator: TFLiteOperator, known: Collection[str], ends: Mapping[tuple[int, int], str]) -> tuple[str, ...]:
    names = [name for tensor in operator.outputs for name in tensor.name.split(";")]
    if not known:
        return tuple(names)
    found = [layer for name in names for layer in _scopes(name, known)]
    found += [ends[tensor.key] for tensor in operator.outputs if ends.get(tensor.key) in known]
    if any(tensor.key in ends for tensor in operator.outputs):  # the converter gives it the signature's name instead
        found += [layer for name in _kernel_names(operator) for layer in _scopes(name, known)]
    return tuple(dict.fromkeys(found))


def _scopes(name: str, known: Collection[str]) -> list[str]:
    """The layers in "net_1/block_1/conv_1/convolution"; the last part is an operation, never a layer."""
    return [layer for part in name.split("/")[:-1] if (layer := _layer(part, known)) is not None]


def _layer(part: str, known: Collection[str]) -> str | None:
    """Keras counts the uses of a scope from 1 on: "conv_1" is the first use of `conv`, if there is such a layer."""
    bare = _USE.sub("", part)
    return bare if bare in known else part if part in known else None


def _kernel_names(operator: TFLiteOperator) -> list[str]:
    kernel = kernel_of(operator)
    return [] if kernel is None else kernel.name.split(";")
