"""Tables of embeddings, put so that their rows can be stored as integers or float16.

TensorFlow's converter writes a look-up as GATHER, whose table litert-quantizer leaves in float32: more than half of a
small language model. EMBEDDING_LOOKUP is the same for a list of row numbers, and takes a table in int8, int4 (with a
scale for each row) and float16.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit_tflite.reading import mapped
from edgekit_tflite.writing import write_model

_OPEN = -1  # a size that the file leaves open


def with_lookups(source: Path, output: Path) -> Path:
    """Write `output` from a float file and return it; where no GATHER reads a table, return `source`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(mapped(source), 0)
    found = [(graph, operator) for graph in model.subgraphs for operator in _tables(model, graph)]
    if not found:
        return source
    codes = {kind: _code(model, kind) for kind in ("RESHAPE", "EMBEDDING_LOOKUP")}
    for graph, operator in found:
        _replace(model, graph, operator, codes)
    write_model(model, output)
    return output


def _tables(model: Any, graph: Any) -> Iterator[Any]:
    """The GATHER operators that read rows of a constant float32 table."""
    from ai_edge_litert import schema_py_generated as schema

    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.GATHER:
            continue
        options = operator.builtinOptions
        table, rows = (graph.tensors[index] for index in operator.inputs)
        plain = options is None or (options.axis == 0 and options.batchDims == 0)
        constant = model.buffers[table.buffer].data is not None and len(table.shape) == 2
        types = (table.type, rows.type) == (schema.TensorType.FLOAT32, schema.TensorType.INT32)
        if plain and constant and types and len(_sizes(rows)) and _sizes(rows).count(_OPEN) <= 1:
            yield operator


def _replace(model: Any, graph: Any, operator: Any, codes: dict[str, int]) -> None:
    """GATHER(table, rows) becomes RESHAPE(rows), EMBEDDING_LOOKUP(rows, table), RESHAPE to the old output."""
    from ai_edge_litert import schema_py_generated as schema

    table, rows = operator.inputs
    (given,) = operator.outputs
    width, name = int(graph.tensors[table].shape[1]), graph.tensors[given].name
    count = int(np.prod(graph.tensors[rows].shape))
    is_open = _OPEN in _sizes(graph.tensors[rows])
    flat = _tensor(graph, name + b"/rows", schema.TensorType.INT32, [count], is_open)
    found = _tensor(graph, name + b"/found", schema.TensorType.FLOAT32, [count, width], is_open)
    place = graph.operators.index(operator)
    graph.operators[place : place + 1] = [
        _reshape(model, graph, codes["RESHAPE"], (rows, flat), [_OPEN]),
        _operator(codes["EMBEDDING_LOOKUP"], [flat, table], [found]),
        _reshape(model, graph, codes["RESHAPE"], (found, given), [*_sizes(graph.tensors[rows]), width]),
    ]


def _reshape(model: Any, graph: Any, code: int, tensors: tuple[int, int], sizes: list[int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.asarray(sizes, "<i4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    name = graph.tensors[tensors[1]].name + b"/sizes"
    shape = _tensor(graph, name, schema.TensorType.INT32, [len(sizes)], False, len(model.buffers) - 1)
    made = _operator(code, [tensors[0], shape], [tensors[1]])
    made.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    made.builtinOptions = schema.ReshapeOptionsT()
    made.builtinOptions.newShape = sizes
    return made


def _operator(code: int, inputs: list[int], outputs: list[int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    return made


def _tensor(graph: Any, name: bytes, kind: int, shape: list[int], is_open: bool, buffer: int = 0) -> int:
    """The number of a new tensor, whose first size may be open; buffer 0 is that of activations."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.TensorT()
    made.name, made.type, made.shape, made.buffer = name, kind, shape, buffer
    made.shapeSignature = [_OPEN, *shape[1:]] if is_open else None
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def _code(model: Any, kind: str) -> int:
    """The number of an operator type in the file's list."""
    from ai_edge_litert import schema_py_generated as schema

    wanted = getattr(schema.BuiltinOperator, kind)
    for number, code in enumerate(model.operatorCodes):
        if code.builtinCode == wanted:
            return number
    made = schema.OperatorCodeT()
    made.builtinCode = made.deprecatedBuiltinCode = wanted  # both are read; these types fit the older one
    made.version = 1
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1


def _sizes(tensor: Any) -> list[int]:
    """A tensor's shape, with what the file leaves open."""
    signature = tensor.shapeSignature
    return [int(size) for size in (tensor.shape if signature is None else signature)]
