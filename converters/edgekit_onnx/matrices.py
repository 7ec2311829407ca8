"""A TensorFlow function frozen without its large matrices, which become inputs: a GraphDef holds 2 GB at most.

TensorFlow and tf2onnx copy constants many times. What they do not see is written from the variables into the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any  # Any: TensorFlow's objects, which have no types

from edgekit.errors import ConversionError

LEAST_BYTES = 1 << 20  # of what becomes an input; the rest may hold shapes that conversion has to see
_READS = ("Identity", "ReadVariableOp", "ResourceGather")  # between a variable's handle and what computes
_COMPUTE = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "GatherV2", "Reshape", "Transpose")
_DTYPE = "float32"

_Users = Mapping[str, list[Any]]  # by a node's name, the nodes that take what it gives


def freeze_apart(function: Any, most_bytes: int) -> tuple[Any, dict[str, Any]]:
    """The GraphDef of a concrete function, and its matrices by the names of the inputs that take them.

    Matrices are what products and look-ups outside of loops read, of LEAST_BYTES and more. Raises ConversionError when
    the other variables have more than `most_bytes`.
    """
    large = _large(function)
    users = _users(_inlined(function, set(large)).graph_def)
    taken = {name: variable for name, variable in large.items() if _is_only_computed_with(name, users)}
    _check_rest(function, taken, most_bytes)
    graph = _frozen(function, set(taken))
    nodes, users = {node.name: node for node in graph.node}, _users(graph)
    for name, variable in taken.items():
        _take(nodes[name], variable)
        for node in list(_reads(name, users)):
            _take_values(node)
    return graph, {f"{name}:0": variable for name, variable in taken.items()}


def _large(function: Any) -> dict[str, Any]:
    """The variables that a function captures, by the names of its placeholders."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    captured = ((inside, variables.get(id(outside))) for outside, inside in function.graph.captures)
    return {
        inside.op.name: variable
        for inside, variable in captured
        if variable is not None and variable.dtype.name == _DTYPE and _bytes(variable) >= LEAST_BYTES
    }


def _bytes(variable: Any) -> int:
    return int(variable.shape.num_elements()) * int(variable.dtype.size)


def _inlined(function: Any, left_out: set[str]) -> Any:
    """The function in one graph, with the values of all variables but these."""
    from tensorflow.python.framework.convert_to_constants import _FunctionConverterDataInEager

    return _FunctionConverterDataInEager(
        func=function, lower_control_flow=False, aggressive_inlining=True, variable_names_denylist=left_out
    )


def _frozen(function: Any, left_out: set[str]) -> Any:
    from tensorflow.python.framework.convert_to_constants import _replace_variables_by_constants

    return _replace_variables_by_constants(converter_data=_inlined(function, left_out))[0]


def _users(graph: Any) -> _Users:
    found = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            if not name.startswith("^"):  # a node that only has to run before
                found[name.split(":")[0]].append(node)
    return found


def _reads(name: str, users: _Users) -> Iterator[Any]:
    """The nodes that hand on or read a variable's handle; others that take it as well."""
    for node in users.get(name, ()):
        yield node
        if node.op == "Identity":
            yield from _reads(node.name, users)


def _is_only_computed_with(name: str, users: _Users) -> bool:
    reads = list(_reads(name, users))
    values = [node.name for node in reads if node.op == "ReadVariableOp"]
    return (
        all(node.op in _READS and not node.attr["batch_dims"].i for node in reads)
        and all(user.op in _COMPUTE for value in values for user in users.get(value, ()))
    )  # fmt: skip


def _check_rest(function: Any, taken: Mapping[str, Any], most_bytes: int) -> None:
    apart = {id(variable) for variable in taken.values()}
    rest = sum(_bytes(variable) for variable in function.graph.variables if id(variable) not in apart)
    if rest > most_bytes:
        raise ConversionError(
            f"{rest:,} bytes of the weights are no large matrices of products or look-ups (but of convolutions, or of "
            f"loops), and such lie in the .onnx file itself, which holds at most {most_bytes:,}: make these layers "
            "smaller"
        )


def _take(placeholder: Any, variable: Any) -> None:
    """Let an input for a variable's handle take its values."""
    _only(placeholder, dtype=variable.dtype.as_datatype_enum)
    placeholder.attr["shape"].shape.CopyFrom(variable.shape.as_proto())


def _take_values(node: Any) -> None:
    """Let a node that took a handle take the values."""
    from tensorflow import float32

    if node.op == "ResourceGather":
        indices = node.attr["Tindices"].type
        node.op = "Gather"
        _only(node, Tparams=float32.as_datatype_enum, Tindices=indices)
    else:
        node.op = "Identity"
        _only(node, T=float32.as_datatype_enum)


def _only(node: Any, **types: int) -> None:
    node.attr.clear()
    for name, value in types.items():
        node.attr[name].type = value
