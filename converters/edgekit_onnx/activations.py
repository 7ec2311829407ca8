"""The activations of an ONNX graph: what is rounded where, and which nodes act as one layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from edgekit.tensors import Array, Quantization
from edgekit.tracing import INPUT_OPERATOR, Grid, Kernel, TracedTensor, canonical, input_key, is_generated, output_key
from edgekit_onnx.graphs import KERNEL_AXES, QUANTIZERS, Graph, bodies, kernel_axis, taken_names
from edgekit_onnx.smoothing import is_smoothing, smoothed_by

if TYPE_CHECKING:
    from onnx import NodeProto

_MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")
_ELEMENTWISE = ("Relu", "Clip", "LeakyRelu", "PRelu", "Add", "Sub", "Mul", "Div", "BatchNormalization")
FOLLOWERS = (*_MOVES, *_ELEMENTWISE, "Pad", "MaxPool")  # one group with the node before, unless that is rounded
_CHANNELS_FIRST = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization")
_FLOATS = (np.float32, np.float16)


@dataclass(frozen=True)
class Activation:
    """One float tensor that depends on the inputs."""

    name: str
    key: str
    seen: str  # what its readers read: its dequantized form where a Q/DQ pair follows
    grid: Grid | None
    element_type: int  # onnx.TensorProto.DataType
    node: NodeProto | None  # None for an input

    @property
    def made(self) -> bool:
        """True when a node makes what its readers read."""
        return self.node is not None or self.seen != self.name


def list_activations(graph: Graph) -> dict[str, Activation]:
    """By tensor name, in execution order; Q/DQ pairs belong to the tensor before them, but for a smoothed one's."""
    types = _element_types(graph)
    pairs = dict(_pairs(graph))
    hidden = {node.output[0] for node in graph.nodes(*QUANTIZERS)}
    keys: dict[str, str] = {}  # of what nodes read, dequantized or not
    found = {}
    for name, node in _reached(graph):
        if name in hidden or name not in types:
            continue
        pair = pairs.get(name)
        seen, grid = (name, None) if pair is None else (pair.output[0], _grid(graph, pair))
        if node is not None and is_smoothing(node):
            keys[name] = keys[seen] = keys[node.input[0]]
            continue
        keys[name] = keys[seen] = _key(graph, name, node, keys)
        found[name] = Activation(name, keys[name], seen, grid, types[name], node)
    return found


def distinct(found: dict[str, Activation]) -> dict[str, Activation]:
    """Without those of one key: nobody could tell which is which in another file."""
    keys = [item.key for item in found.values()]
    return {name: item for name, item in found.items() if keys.count(item.key) == 1}


def list_rows(graph: Graph, found: dict[str, Activation]) -> tuple[TracedTensor, ...]:
    """One row for each group of nodes that compute in float until something is rounded or branches."""
    rows: dict[str, TracedTensor] = {}
    reads: dict[str, tuple[str, ...]] = {}  # of each group
    sources = _sources(graph, found)
    for name, item in found.items():
        row, reads[name] = _row(graph, item, rows), sources[name]
        before = _only_source(graph, item, found)
        if before is not None and before.name in rows:
            row, reads[name] = _joined(rows.pop(before.name), row), reads.pop(before.name)
        rows[name] = row
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for reader, read in reads.items():
        for name in read:
            readers[name].append(reader)
    return tuple(replace(row, readers=tuple(readers[name])) for name, row in rows.items())


def trained_kernels(graph: Graph, found: dict[str, Activation]) -> dict[str, Kernel]:
    """Kernels of all nodes, under the key of what the node makes."""
    return {found[node.output[0]].key: _kernel(graph, node) for node in graph.weighted() if node.output[0] in found}


def _sources(graph: Graph, found: dict[str, Activation]) -> dict[str, tuple[str, ...]]:
    """What each activation is computed from, past smoothing and Q/DQ pairs."""
    passed: dict[str, str] = {}
    for node in graph.model.graph.node:
        if node.op_type in QUANTIZERS or is_smoothing(node):
            passed |= {made: passed.get(node.input[0], node.input[0]) for made in node.output}
    return {
        name: tuple(dict.fromkeys(passed.get(read, read) for read in (_reads(item.node) if item.node else [])))
        for name, item in found.items()
    }


def _element_types(graph: Graph) -> dict[str, int]:
    from onnx import helper

    model = graph.model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.input, *model.value_info, *model.output)}
    return {name: kind for name, kind in kinds.items() if kind and helper.tensor_dtype_to_np_dtype(kind) in _FLOATS}


def _reached(graph: Graph) -> Iterator[tuple[str, NodeProto | None]]:
    """Tensors that depend on the inputs, each with the node that makes it."""
    reached = {value.name for value in graph.model.graph.input if value.name not in graph.constants}
    yield from ((name, None) for name in sorted(reached))
    for node in graph.model.graph.node:
        if reached.intersection(_reads(node)):
            reached.update(node.output)
            yield from ((name, node) for name in node.output if name)


def _reads(node: NodeProto) -> list[str]:
    return [*node.input, *(name for body in bodies(node) for name in taken_names(body))]


def _pairs(graph: Graph) -> Iterator[tuple[str, NodeProto]]:
    """Each activation that is quantized, with the DequantizeLinear of its first pair."""
    for dequantize in reversed(list(graph.nodes("DequantizeLinear"))):
        quantize = graph.producers.get(dequantize.input[0])
        if quantize is not None and quantize.op_type == "QuantizeLinear":
            yield quantize.input[0], dequantize


def _grid(graph: Graph, dequantize: NodeProto) -> Grid:
    zero_point = graph.array(dequantize.input[2]) if len(dequantize.input) > 2 else np.zeros((), np.uint8)
    scale = graph.array(dequantize.input[1])
    return Grid(Quantization(float(scale.reshape(())), int(zero_point.reshape(()))), str(zero_point.dtype))


def _key(graph: Graph, name: str, node: NodeProto | None, keys: dict[str, str]) -> str:
    """A name that tf2onnx counted up is replaced by what the tensor is made of."""
    if node is None:
        return input_key(name)
    if name in graph.outputs:
        return output_key(name)
    key = canonical(name)
    return f"{node.op_type}({', '.join(keys.get(read, '') for read in node.input)})" if is_generated(key) else key


def _row(graph: Graph, item: Activation, rows: dict[str, TracedTensor]) -> TracedTensor:
    node = item.node
    if node is None:
        return TracedTensor(item.name, item.key, (item.name,), INPUT_OPERATOR, -1, item.grid, None)
    weighted = node.op_type in KERNEL_AXES and graph.kernel(node) is not None
    return TracedTensor(
        name=item.name,
        key=item.key,
        scopes=_scopes(graph, item.name, node),
        operator=node.op_type,
        channel_axis=_channel_axis(node, rows),
        grid=item.grid,
        kernel=item.key if weighted else None,
        setting=node.name if weighted or _looks_up_integers(graph, node) else None,
    )


def _looks_up_integers(graph: Graph, node: NodeProto) -> bool:
    """Whether a node takes rows of an embedding's int8 table."""
    return node.op_type == "Gather" and graph.constant_behind(node.input[0]) not in (None, node.input[0])


def _scopes(graph: Graph, name: str, node: NodeProto) -> tuple[str, ...]:
    """Names that tell the layer: the node's own, or else those of its weights. Equal settings share one constant."""
    own = tuple(given for given in (name, node.name) if "/" in given or given in graph.outputs)
    weights = [given for given in map(graph.constant_behind, node.input) if given and graph.constants[given].dims]
    return own or tuple(given for given in weights if "/" in given)


def _channel_axis(node: NodeProto, rows: dict[str, TracedTensor]) -> int:
    """Conversion from TensorFlow leaves convolutions channels-first, and what is between two Transposes with them."""
    if node.op_type in _CHANNELS_FIRST:
        return 1
    before = next((rows[name].channel_axis for name in node.input if name in rows), -1)
    return before if node.op_type in (*_ELEMENTWISE, "Sigmoid", "Concat") else -1


def _only_source(graph: Graph, item: Activation, found: dict[str, Activation]) -> Activation | None:
    """The activation that this one continues: read by nobody else, not rounded, and all that its node reads."""
    node = item.node
    if node is None or node.op_type not in FOLLOWERS:
        return None
    sources = [found[name] for name in node.input if name in found]
    if len(sources) != 1 or sources[0].grid is not None or sources[0].name in graph.outputs:
        return None
    readers = [other for other in graph.consumers(sources[0].name) if other.op_type != "Shape"]
    return sources[0] if len(readers) == 1 else None


def _joined(before: TracedTensor, after: TracedTensor) -> TracedTensor:
    """The row of a group: a moved input stays the input."""
    moved = after.operator in _MOVES
    return replace(
        after,
        scopes=before.scopes if before.operator == INPUT_OPERATOR else (*after.scopes, *before.scopes),
        operator=before.operator if moved else f"{before.operator}+{after.operator}",
        kernel=before.kernel or after.kernel,
        setting=before.setting or after.setting,
    )


def _kernel(graph: Graph, node: NodeProto) -> Kernel:
    """As what the float model's kernel became: with what smoothing moved into it given back."""
    name = graph.kernel(node)
    stored: Array = graph.array(name) if name else np.zeros((0, 0), np.float32)
    axis = kernel_axis(node, stored.ndim)
    values = np.moveaxis(stored, axis, 0).reshape(stored.shape[axis], -1).astype(np.float32)
    dequantize = graph.producers.get(node.input[1])
    if dequantize is None:
        return Kernel(values, None)
    steps = graph.array(dequantize.input[1]).reshape(-1).astype(np.float32)
    offsets = graph.array(dequantize.input[2]).reshape(-1, 1) if len(dequantize.input) > 2 else np.zeros((1, 1))
    real = (values - offsets.astype(np.float32)) * steps[:, None]
    return Kernel((real * smoothed_by(graph, node.input[0])).astype(np.float32), steps)
