"""A TFLite file as values: its signature's tensors and its operators, read through the flatbuffer schema.

The interpreter opens the file first: its verifier refuses what is truncated or foreign before the schema reads it. It
does so in a process of its own, since what passes the verifier can still crash the interpreter; once for each file.
"""

from __future__ import annotations

import enum
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.tensors import Array, Quantization

_INSTALL = 'pip install "edgekit[tflite]"'
_OPENER = "edgekit_tflite.opening_worker"
_OPENING_TIMEOUT_S = 120.0
_opened: set[tuple[int, ...]] = set()
# What the generated schema and numpy raise on a FlatBuffer whose parts do not fit together.
_DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error)


class Role(enum.Enum):
    """Where a tensor's values come from."""

    ACTIVATION = "activation"
    PARAMETER = "parameter"  # a trained constant
    CONSTANT = "constant"  # a shape, an axis: any other constant


@dataclass(frozen=True)
class TFLiteTensor:
    """One tensor; `data` holds a constant's stored bytes, shape (bytes,) uint8, empty for an activation."""

    key: tuple[int, int]  # number of the subgraph, index in it
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    data: Array
    role: Role
    axis: int = 0  # of the channels that have a scale each

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
    version: int = 1  # as the file states it
    code: int = 0  # index of its type and version in the file's list


@dataclass(frozen=True)
class TFLiteModel:
    """Signature names to tensors, in the interpreter's order, and the operators of all subgraphs in execution order."""

    inputs: Mapping[str, TFLiteTensor]
    outputs: Mapping[str, TFLiteTensor]
    operators: tuple[TFLiteOperator, ...]


def read_model(path: Path) -> TFLiteModel:
    """Read one file. Raises ConversionError when LiteRT does not open it, or crashes on it."""
    if not path.is_file():
        raise ConversionError(f"{path}: no such file")
    if _identity(path) not in _opened:
        workers.call(
            _OPENER,
            {"path": str(path)},
            timeout_s=_OPENING_TIMEOUT_S,
            what=f"opening {path}",
            error=ConversionError,
        )
        mark_opened(path)
    return read_opened(path)


def read_opened(path: Path) -> TFLiteModel:
    """Read a file that LiteRT has opened. Raises ConversionError on a damaged one."""
    with damage_of(path):
        return parse_model(mapped(path))


def mark_opened(path: Path) -> None:
    """Remember that LiteRT opens a file, as long as nobody changes it, so that it is not tried again."""
    _opened.add(_identity(path))


def _identity(path: Path) -> tuple[int, ...]:
    """Of a file's content: stays when the file is renamed."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def parse_model(content: bytes | bytearray | memoryview) -> TFLiteModel:
    """The values of a file that LiteRT opens. Raises, on a damaged one, what `damage_of` knows."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    tensors = [_tensors(model, content, number) for number in range(len(model.subgraphs))]
    main = model.subgraphs[0]
    return TFLiteModel(
        inputs=_named(tensors[0], main.inputs, _signature(model, "inputs")),
        outputs=_named(tensors[0], main.outputs, _signature(model, "outputs")),
        operators=tuple(
            _operator(model, operator, tensors[number])
            for number, graph in enumerate(model.subgraphs)
            for operator in graph.operators
        ),
    )


def mapped(path: Path) -> memoryview:
    """A file's bytes without a copy in memory. Files are written whole and renamed, never changed where they lie."""
    if not path.stat().st_size:
        return memoryview(b"")  # which cannot be mapped
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def _named(
    tensors: Sequence[TFLiteTensor], indexes: Iterable[int], names: Mapping[int, str]
) -> dict[str, TFLiteTensor]:
    """Tensors by their signature names, or by their own in a file without a signature."""
    return {names[index] if index in names else tensors[index].name: tensors[index] for index in indexes}


@contextmanager
def damage_of(what: Path | str) -> Iterator[None]:
    """Turn what reading a damaged FlatBuffer raises into a ConversionError that names it."""
    try:
        yield
    except _DAMAGE as problem:
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())
        raise ConversionError(f"{what} is damaged ({reason}); copy or make the file again") from problem


def check_opens(path: Path) -> None:
    """Open a file in this process. Raises ConversionError when LiteRT refuses it; some files crash it."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as problem:
        raise ConversionError(
            f"a TFLite file is read with ai-edge-litert, which is not installed: {_INSTALL}"
        ) from problem
    try:
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        Interpreter(str(path), experimental_op_resolver_type=resolver).allocate_tensors()
    except (ValueError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())
        raise ConversionError(f"{path}: not a TFLite file that LiteRT opens ({reason})") from problem


def _signature(model: Any, entries: str) -> dict[int, str]:
    """Tensor index -> signature name in the first signature of the main graph; {} when the file has none."""
    for definition in model.signatureDefs or ():
        if definition.subgraphIndex == 0:
            return {entry.tensorIndex: entry.name.decode() for entry in getattr(definition, entries) or ()}
    return {}


def _tensors(model: Any, content: bytes | bytearray | memoryview, number: int) -> list[TFLiteTensor]:
    graph = model.subgraphs[number]
    computed = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    return [
        _tensor(
            tensor, (number, index), np.zeros(0, np.uint8) if index in computed else _stored(model, content, tensor)
        )
        for index, tensor in enumerate(graph.tensors)
    ]


def _stored(model: Any, content: bytes | bytearray | memoryview, tensor: Any) -> Array:
    """A constant's bytes: inside the flatbuffer, or after it, where litert-quantizer puts large ones."""
    buffer = model.buffers[tensor.buffer]
    if buffer.offset > 1:  # 0 and 1 mean that it is not outside
        return np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
    return np.asarray([] if buffer.data is None else buffer.data, dtype=np.uint8)


def _tensor(tensor: Any, key: tuple[int, int], stored: Array) -> TFLiteTensor:
    quantization = tensor.quantization
    scales = _values(quantization.scale if quantization else None)
    points = _values(quantization.zeroPoint if quantization else None) or [0] * len(scales)
    dtype = _dtype_name(tensor.type)
    in_blocks = quantization is not None and quantization.details is not None  # whose scales are a tensor of their own
    trained = bool(scales) or in_blocks or "float" in dtype
    return TFLiteTensor(
        key=key,
        name=tensor.name.decode(),
        shape=tuple(int(size) for size in _values(tensor.shape)),
        dtype=dtype,
        scales=tuple(float(scale) for scale in scales),
        zero_points=tuple(int(point) for point in points),
        data=stored,
        role=Role.ACTIVATION if not stored.size else Role.PARAMETER if trained else Role.CONSTANT,
        axis=int(quantization.quantizedDimension) if quantization else 0,
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
        version=int(code.version),
        code=int(operator.opcodeIndex),
    )


def _dtype_name(number: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return _names(schema.TensorType)[number].lower()


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _values(array: Any) -> list[Any]:
    return [] if array is None else list(array)
