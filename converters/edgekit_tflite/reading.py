"""A TFLite file as values: its signature's tensors and its operators, read through the flatbuffer schema.

The interpreter opens the file first: its verifier refuses what is truncated or foreign before the schema reads it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array, Quantization

_INSTALL = 'pip install "edgekit[tflite]"'


class Role(enum.Enum):
    """Where a tensor's values come from."""

    ACTIVATION = "activation"
    PARAMETER = "parameter"  # a trained constant
    CONSTANT = "constant"  # a shape, an axis: any other constant


@dataclass(frozen=True)
class TFLiteTensor:
    """One tensor; `data` holds a constant's stored bytes, shape (bytes,) uint8, empty for an activation."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: Array
    role: Role

    @property
    def quantization(self) -> Quantization | None:
        """The scale and zero point of an integer tensor that stands for real numbers."""
        if len(self.scales) != 1 or not self.dtype.startswith(("int", "uint")):
            return None
        return Quantization(self.scales[0], self.zero_points[0])


@dataclass(frozen=True)
class TFLiteOperator:
    """One operator, by its builtin name ("CONV_2D") or custom code; an optional input that is absent is left out."""

    type: str
    inputs: tuple[TFLiteTensor, ...]
    outputs: tuple[TFLiteTensor, ...]


@dataclass(frozen=True)
class TFLiteModel:
    """Signature names to tensors, in the interpreter's order, and the operators in execution order."""

    inputs: Mapping[str, TFLiteTensor]
    outputs: Mapping[str, TFLiteTensor]
    operators: tuple[TFLiteOperator, ...]


def read_model(path: Path) -> TFLiteModel:
    """Read one file. Raises ConversionError when LiteRT does not open it."""
    _open(path)
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    produced = {index for operator in graph.operators for index in operator.outputs}
    activations = produced | set(graph.inputs)
    tensors = [_tensor(model, index, tensor, activations) for index, tensor in enumerate(graph.tensors)]
    inputs, outputs = _signature(model, 0, "inputs"), _signature(model, 0, "outputs")
    return TFLiteModel(
        inputs={inputs.get(index, tensors[index].name): tensors[index] for index in graph.inputs},
        outputs={outputs.get(index, tensors[index].name): tensors[index] for index in graph.outputs},
        operators=tuple(_operator(model, operator, tensors) for operator in graph.operators),
    )


def _open(path: Path) -> None:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as problem:
        raise ConversionError(
            f"a TFLite file is read with ai-edge-litert, which is not installed: {_INSTALL}"
        ) from problem
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    try:
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        Interpreter(str(path), experimental_op_resolver_type=resolver).allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())
        raise ConversionError(f"{path}: not a TFLite file that LiteRT opens ({reason})") from problem


def _signature(model: Any, subgraph: int, entries: str) -> dict[int, str]:
    """Tensor index -> signature name of the first signature of a subgraph; {} when the file has none."""
    for definition in model.signatureDefs or ():
        if definition.subgraphIndex == subgraph:
            return {entry.tensorIndex: entry.name.decode() for entry in getattr(definition, entries) or ()}
    return {}


def _tensor(model: Any, index: int, tensor: Any, activations: set[int]) -> TFLiteTensor:
    quantization = tensor.quantization
    scales = _values(quantization.scale if quantization else None)
    data = model.buffers[tensor.buffer].data
    stored = np.asarray([] if data is None else data, dtype=np.uint8)
    dtype = _dtype_name(tensor.type)
    role = Role.ACTIVATION if index in activations or not stored.size else Role.PARAMETER
    if role is Role.PARAMETER and not scales and "float" not in dtype:
        role = Role.CONSTANT
    return TFLiteTensor(
        index=index,
        name=tensor.name.decode(),
        shape=tuple(int(size) for size in _values(tensor.shape)),
        dtype=dtype,
        scales=tuple(float(scale) for scale in scales),
        zero_points=tuple(int(point) for point in _values(quantization.zeroPoint if quantization else None)),
        data=stored,
        role=role,
    )


def _operator(model: Any, operator: Any, tensors: list[TFLiteTensor]) -> TFLiteOperator:
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # files before schema 3a have the second alone
    name = code.customCode.decode() if code.customCode else _names(schema.BuiltinOperator)[number]
    return TFLiteOperator(
        type=name,
        inputs=tuple(tensors[index] for index in _values(operator.inputs) if index >= 0),
        outputs=tuple(tensors[index] for index in _values(operator.outputs)),
    )


def _dtype_name(number: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType)[number].lower()


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _values(array: Any) -> list[Any]:
    return [] if array is None else list(array)
