"""tf2onnx made to say the same in every process: sets keep their order, and counted names are counted anew.

It holds nodes in sets, which Python orders by their addresses: from there come the order of the nodes, which of two
equal constants stays, and the numbers in names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, MutableSet
from importlib import import_module
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from onnx import GraphProto

_T = TypeVar("_T")

_HOLD_NODES = (
    *("graph", "utils", "optimizer.transpose_optimizer"),
    *("rewriter.cond_rewriter", "rewriter.loop_rewriter", "rewriter.loop_rewriter_base"),
    *("rewriter.lstm_rewriter_base", "rewriter.rnn_utils", "rewriter.unit_rnn_rewriter_base"),
)
# an address, in the names of what an einsum becomes, TensorFlow's counts of functions in this process, and tf2onnx's of
# names, which follow the order of those functions; a layer's own name ("block__2/MatMul") has a path behind it
_COUNTED = re.compile(r"(?<=einsum)\d+|(?<=_frozen_)\d+|(?<=_cond_)\d+|(?<=_body_)\d+|(?<=__)\d+(?=[^/]*$)")


class InOrder(MutableSet[_T]):
    """A set that gives its elements in the order in which they came."""

    def __init__(self, elements: Iterable[_T] = ()) -> None:
        self._elements = dict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[_T]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def add(self, value: _T) -> None:
        """Put at the end, unless it is there."""
        self._elements[value] = None

    def discard(self, value: _T) -> None:
        """Take out, if it is there."""
        self._elements.pop(value, None)

    def union(self, other: Iterable[_T]) -> InOrder[_T]:
        """As of a set."""
        return InOrder([*self, *other])

    def intersection(self, other: Iterable[object]) -> InOrder[_T]:
        """As of a set."""
        there = set(other)
        return InOrder(element for element in self if element in there)

    def issubset(self, other: Iterable[object]) -> bool:
        """As of a set."""
        return set(self) <= set(other)


def keep_order() -> None:
    """Let tf2onnx's modules that hold nodes in sets hold them in order, in this process, and count its names from 1.

    It sorts by such names, and "__99" comes after "__100".
    """
    for name in _HOLD_NODES:
        import_module(f"tf2onnx.{name}").__dict__["set"] = InOrder
    import_module("tf2onnx.utils").__dict__["INTERNAL_NAME"] = 1


def renumber(graph: GraphProto) -> None:
    """Replace what this process counted, in names of tensors and nodes, by counts from 1 in the order of the graph.

    The graph's inputs and outputs keep theirs.
    """
    kept = {value.name for value in (*graph.input, *graph.output)}
    taken = {number for name in kept for number in _COUNTED.findall(name)}
    fresh = (str(number) for number in count(1) if str(number) not in taken)
    counted: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        if found[0] not in counted:
            counted[found[0]] = next(fresh)
        return counted[found[0]]

    def named(name: str) -> str:
        return name if name in kept else _COUNTED.sub(number, name)

    _rename(graph, named)


def _rename(graph: GraphProto, named: Callable[[str], str]) -> None:
    for node in graph.node:
        node.name = named(node.name)
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                attribute.g.name = named(attribute.g.name)
                _rename(attribute.g, named)
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = named(value.name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = named(size.dim_param)
    graph.initializer.sort(key=attrgetter("name"))  # as tf2onnx does by the names that it gave
