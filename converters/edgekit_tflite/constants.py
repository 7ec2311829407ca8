"""Inputs of a file that become its constants: what TensorFlow's converter need not see, and would copy again and again.

A constant is put where its input was read, so that the file computes what it did with that input. What only turns a
constant (TRANSPOSE) is done here, once, as the converter does it with constants that it sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array, format_shape
from edgekit_tflite.writing import write_model

_SUFFIX = ".npy"


@dataclass(frozen=True)
class _Constant:
    """The values of a file, with their axes in this order."""

    path: Path
    axes: tuple[int, ...]

    def turned(self, axes: Iterable[int]) -> _Constant:
        return _Constant(self.path, tuple(self.axes[axis] for axis in axes))

    def read(self) -> Array:
        values: Array = np.load(self.path)
        return values.transpose(self.axes)


@dataclass
class _Buffers:
    """The buffers of what was put in: each constant has one, whichever graphs read it."""

    model: Any
    numbers: dict[_Constant, int] = field(default_factory=dict)

    def number(self, constant: _Constant) -> int:
        from ai_edge_litert import schema_py_generated as schema

        if constant not in self.numbers:
            self.numbers[constant] = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT())
        return self.numbers[constant]


def with_constants(content: bytes, folder: Path, output: Path) -> None:
    """Write a file of which each signature takes the NAME.npy in `folder` as inputs, with these as constants.

    Raises ConversionError when a signature does not take one of them, or takes another shape or dtype.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    files = {path.stem: path for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    buffers = _Buffers(model)
    for definition in model.signatureDefs:
        graph = model.subgraphs[definition.subgraphIndex]
        found = _taken(definition, graph, files)
        graph.operators = [operator for operator in graph.operators if not _turn(model, graph, operator, found)]
        read = {int(index) for operator in graph.operators for index in operator.inputs}
        for index in sorted(set(found) & (read | set(map(int, graph.outputs)))):
            graph.tensors[index].buffer = buffers.number(found[index])
    write_model(model, output, {number: partial(constant.read) for constant, number in buffers.numbers.items()})


def _taken(definition: Any, graph: Any, files: Mapping[str, Path]) -> dict[int, _Constant]:
    """Index of the tensor -> constant; they are inputs no longer."""
    indexes = {entry.name.decode(): int(entry.tensorIndex) for entry in definition.inputs}
    found = {}
    for name, path in files.items():
        if name not in indexes:
            raise ConversionError(
                f"the signature '{definition.signatureKey.decode()}' takes {', '.join(indexes)}, expected "
                f"'{name}' among them: TensorFlow's converter renamed or dropped what was to become a constant"
            )
        found[indexes[name]] = _constant(name, path, graph.tensors[indexes[name]])
    definition.inputs = [entry for entry in definition.inputs if entry.name.decode() not in files]
    graph.inputs = [int(index) for index in graph.inputs if int(index) not in found]
    return found


def _constant(name: str, path: Path, tensor: Any) -> _Constant:
    """What is in a file. Raises ConversionError unless it is as the tensor."""
    from ai_edge_litert import schema_py_generated as schema

    types = {value: kind.lower() for kind, value in vars(schema.TensorType).items() if isinstance(value, int)}
    values, shape, kind = np.load(path, mmap_mode="r"), tuple(map(int, tensor.shape)), types[tensor.type]
    if (values.shape, values.dtype) != (shape, kind):
        raise ConversionError(
            f"{path.name} has shape {format_shape(values.shape)} {values.dtype}, and the converted graph takes "
            f"'{name}' as {format_shape(shape)} {kind}"
        )
    return _Constant(path, tuple(range(values.ndim)))


def _turn(model: Any, graph: Any, operator: Any, found: dict[int, _Constant]) -> bool:
    """Whether an operator only turns a constant; then its output is a constant, too."""
    from ai_edge_litert import schema_py_generated as schema

    kind = model.operatorCodes[operator.opcodeIndex].builtinCode
    if kind != schema.BuiltinOperator.TRANSPOSE or int(operator.inputs[0]) not in found:
        return False
    source, order = (int(index) for index in operator.inputs)
    axes = model.buffers[graph.tensors[order].buffer].data
    if axes is None:
        return False
    found[int(operator.outputs[0])] = found[source].turned(np.frombuffer(axes.tobytes(), "<i4").tolist())
    return True
