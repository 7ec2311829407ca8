"""tf2onnx made to copy no weights: it copies the whole graph before each of its two dozen passes.

A pass may fail, and the copy is what it goes on from. Passes put new constants in the place of old ones, so that a copy
can have the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any  # Any: tf2onnx's graphs and nodes, which have no types


def share_constants() -> None:
    """Let the graphs of tf2onnx's passes share their constants, in this process."""
    from tf2onnx import optimizer

    optimizer.copy = _Copying


class _Copying:
    """The module copy, as tf2onnx's optimizer has it."""

    @staticmethod
    def deepcopy(value: Any) -> Any:
        """A copy; that of a graph has the same constants."""
        shared = {id(constant): constant for constant in _constants(value)} if hasattr(value, "get_nodes") else {}
        return copy.deepcopy(value, shared)


def _constants(graph: Any) -> Iterator[Any]:
    """The values of a graph's Const nodes, in the bodies of its loops too; what else the nodes hold becomes light."""
    from onnx import NodeProto

    for node in graph.get_nodes():
        if node.is_const():
            value = node.attr["value"]
            node._op = NodeProto(name=node.name, op_type=node.type, output=node.output)  # had the value once more
            yield value
    for bodies in graph.contained_graphs.values():
        for body in bodies.values():
            yield from _constants(body)
