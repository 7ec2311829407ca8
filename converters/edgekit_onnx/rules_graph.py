"""TensorRT's rules for any ONNX graph: operators, opset, types, sizes, and weights that are numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgekit_onnx.graphs import KERNEL_AXES, QUANTIZERS
from edgekit_onnx.operators import OPERATORS, OPSETS
from edgekit_onnx.values import Values, label

ONNX_DOMAINS = ("", "ai.onnx")
MAX_RANK = 8

# Types of TensorRT's tensors, and double, which its parser casts down.
_TYPES = (
    "FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT64", "INT32", "INT8", "UINT8", "BOOL", "FLOAT8E4M3FN", "INT4",
    "FLOAT4E2M1",
)  # fmt: skip
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm")
_MULTIPLIED = {  # what an infinity in a constant spoils; elsewhere it is a mask, or a bound
    *KERNEL_AXES, "LSTM", "GRU", "RNN", "BatchNormalization", "LayerNormalization", "InstanceNormalization",
    *QUANTIZERS, "Mul", "Div",
}  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """One place where a rule is broken."""

    node: str
    problem: str
    remedy: str


def _empty(values: Values) -> Iterator[Broken]:
    if not values.model.graph.node:
        yield Broken(values.model.graph.name, "it has no nodes", "export the model again")


def _opset(values: Values) -> Iterator[Broken]:
    versions = [item.version for item in values.model.opset_import if item.domain in ONNX_DOMAINS]
    for version in versions:
        if version not in OPSETS:
            yield Broken(
                values.model.graph.name,
                f"its opset is {version}, and TensorRT 10.3 knows {OPSETS[0]} to {OPSETS[-1]}",
                "export it with opset 18",
            )


def _unknown(values: Values) -> Iterator[Broken]:
    functions = {(function.domain, function.name) for function in values.model.functions}
    for node in values.nodes():
        if _is_integer_operator(node.op_type) or node.op_type in OPERATORS or (node.domain, node.op_type) in functions:
            continue
        domain = "" if node.domain in ONNX_DOMAINS else f" of '{node.domain}'"
        yield Broken(
            label(node),
            f"TensorRT has no operator {node.op_type}{domain}",
            "replace the layer, or export it as operators of ONNX",
        )


def _integer_operators(values: Values) -> Iterator[Broken]:
    for node in values.nodes():
        if _is_integer_operator(node.op_type):
            yield Broken(
                label(node),
                f"{node.op_type} computes in integers itself",
                "quantize in the QDQ format: QuantizeLinear and DequantizeLinear around float operators",
            )


def _is_integer_operator(name: str) -> bool:
    return name.startswith("QLinear") or name in _INTEGER_OPERATORS


def _types(values: Values) -> Iterator[Broken]:
    from onnx import TensorProto

    graph = values.model.graph
    named = [
        (value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.value_info, *graph.output)
    ]
    for name, kind in [*named, *((tensor.name, tensor.data_type) for tensor in graph.initializer)]:
        word = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else str(kind)
        if word not in (*_TYPES, "UNDEFINED") and not _is_quantization(values, name):
            yield Broken(
                name, f"TensorRT has no tensors of {word.lower()}", "cast it to float, int32 or int64 in the model"
            )


def _is_quantization(values: Values, name: str) -> bool:
    """Zero points are the matter of other rules."""
    return any(node.op_type in QUANTIZERS for node in values.graph.consumers(name))


def _rank(values: Values) -> Iterator[Broken]:
    for value in values.model.graph.input:
        rank = len(value.type.tensor_type.shape.dim)
        if rank > MAX_RANK:
            yield Broken(
                value.name, f"it has {rank} axes, and TensorRT takes {MAX_RANK}", "reshape it outside the model"
            )


def _zero_sizes(values: Values) -> Iterator[Broken]:
    remedy = "give it a size of at least 1, or leave it open"
    for value in values.model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if any(size.HasField("dim_value") and size.dim_value == 0 for size in sizes):
            yield Broken(value.name, "one of its sizes is 0, so it holds no values", remedy)
    for node, kernel, shape in values.kernels():
        if 0 in shape:
            yield Broken(label(node), f"its kernel '{kernel}' has shape {shape}, so it holds no values", remedy)


def _non_finite(values: Values) -> Iterator[Broken]:
    remedy = "train again from the last sound checkpoint, or find what made it"
    scales = {node.input[1] for node in values.graph.nodes(*QUANTIZERS)}  # which have a rule of their own
    for name in values.constants:
        array = values.array(name)
        if array is None or name in scales or array.dtype.kind != "f" or np.all(np.isfinite(array)):
            continue
        if np.any(np.isnan(array)):
            yield Broken(
                name, f"{np.count_nonzero(np.isnan(array))} of its {array.size} values are not a number", remedy
            )
        elif any(node.op_type in _MULTIPLIED for node in values.graph.consumers(name)):
            yield Broken(name, f"{np.count_nonzero(np.isinf(array))} of its {array.size} values are infinite", remedy)


def _mixed_types(values: Values) -> Iterator[Broken]:
    """Networks are strongly typed: where ONNX asks for equal types, a cast must stand in the graph."""
    from onnx import TensorProto

    graph = values.model.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {name: tensor.data_type for name, tensor in values.constants.items()}
    for node in values.model.graph.node:
        bound: dict[str, set[str]] = {}
        for variable, name in _typed_inputs(values, list(node.input), node.op_type, node.domain):
            bound.setdefault(variable, set()).add(TensorProto.DataType.Name(types.get(name, 0)))
        for kinds in bound.values():
            floats = sorted(kinds.intersection(_FLOATS))
            if len(floats) > 1:
                told = " and ".join(word.lower() for word in floats)
                yield Broken(label(node), f"{node.op_type} takes {told} at once", "put a Cast before one of its inputs")


def _typed_inputs(values: Values, inputs: list[str], op_type: str, domain: str) -> Iterator[tuple[str, str]]:
    """The type variable of each input, as ONNX's schema of the operator has it."""
    import onnx

    versions = {item.domain: item.version for item in values.model.opset_import}
    try:
        schema = onnx.defs.get_schema(op_type, versions.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return
    last = len(schema.inputs) - 1
    for index, name in enumerate(inputs):
        if name and last >= 0:
            yield schema.inputs[min(index, last)].type_str, name


Rules = Mapping[str, Callable[[Values], Iterator[Broken]]]

OPERATOR_RULES: Rules = {
    "empty-graph": _empty,
    "opset": _opset,
    "unknown-operator": _unknown,
    "integer-operator": _integer_operators,
}
GRAPH_RULES: Rules = {
    "tensor-type": _types,
    "rank": _rank,
    "zero-dimension": _zero_sizes,
    "non-finite": _non_finite,
    "mixed-types": _mixed_types,
}
