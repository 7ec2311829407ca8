"""Which operators of a LiteRT graph a delegate took, read from the interpreter's list of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any  # Any: the interpreter's own lists and arrays

_MARK = "DELEGATE"
_NONE = -1  # an input or output that is left out


@dataclass(frozen=True)
class Delegation:
    """The main graph's operators that give something; bodies of loops and branches are not among them."""

    operators: int
    delegates: int  # parts that delegates run, each as one node
    left: tuple[str, ...]  # types of those that no delegate took, one for each


def read_delegation(nodes: Iterable[Mapping[str, Any]]) -> Delegation:
    """Of `Interpreter._get_ops_details()`, which keeps the nodes that a delegate replaced and adds the delegate's.

    A delegate's node has its part's inputs and outputs: what lies between them is what it took.
    """
    everything = list(nodes)
    own = [node for node in everything if len(node["outputs"]) and not _is_delegate(node)]
    parts = [node for node in everything if _is_delegate(node)]
    makers = {int(tensor): index for index, node in enumerate(own) for tensor in node["outputs"] if tensor != _NONE}
    taken: set[int] = set()
    for part in parts:
        taken |= _between(part, own, makers)
    left = tuple(str(node["op_name"]) for index, node in enumerate(own) if index not in taken)
    return Delegation(len(own), len(parts), left)


def _is_delegate(node: Mapping[str, Any]) -> bool:
    return _MARK in str(node["op_name"]).upper()


def _between(part: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], makers: Mapping[int, int]) -> set[int]:
    borders = {int(tensor) for tensor in part["inputs"]}
    waiting = [int(tensor) for tensor in part["outputs"]]
    found: set[int] = set()
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker in found:
            continue
        found.add(maker)
        waiting += [int(tensor) for tensor in nodes[maker]["inputs"] if int(tensor) not in borders]
    return found
