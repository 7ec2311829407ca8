"""Angles of counted positions: float16 holds 200.1 radians as 200.125, and every later position worse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgekit_onnx.graphs import Graph

if TYPE_CHECKING:
    from onnx import NodeProto

_WAVES = ("Sin", "Cos")
REASON = "angles of positions"


def positional(graph: Graph) -> dict[str, str]:
    """The nodes between counted numbers and the sines and cosines of them, with the reason to keep them float32.

    Sines of what a network computes (those of a periodic activation) are none of these.
    """
    found: dict[str, str] = {}
    for wave in graph.nodes(*_WAVES):
        chain = list(_chain(graph, wave))
        if all(node.op_type == "Cast" or _has_producers(graph, node) for node in chain):
            found |= dict.fromkeys((node.name for node in chain), REASON)
    return found


def _chain(graph: Graph, last: NodeProto) -> Iterator[NodeProto]:
    """What a node is made of, back to where integers became floats."""
    waiting, seen = [last], set[str]()
    while waiting:
        node = waiting.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        yield node
        if node.op_type != "Cast":
            waiting += [graph.producers[name] for name in node.input if name in graph.producers]


def _has_producers(graph: Graph, node: NodeProto) -> bool:
    """Whether all that it takes is computed here or constant, so that no input of the model goes in as a float."""
    return all(name in graph.producers or name in graph.constants for name in node.input if name)
