"""Which graphs of a file compute in the main graph's place, and which are the bodies of loops and branches.

A loop's operator hands its tensors over as they are, in float32, and calibration sees none of its steps: LiteRT keeps
the values of the last one alone. So no activation of a body can be an integer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the generated schema's objects, which have no types

from edgekit_tflite.reading import TFLiteModel, mapped

CONTROL = ("IF", "WHILE")


@dataclass(frozen=True)
class Body:
    """A graph that an operator of CONTROL calls."""

    number: int  # of the graph in the file
    inputs: tuple[str, ...]  # tensor names, in order
    outputs: tuple[str, ...]


def bodies(model: Path) -> tuple[Body, ...]:
    """The graphs of loops and branches, with their conditions and with what is called from there."""
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(mapped(model), 0)
    in_place = in_place_graphs(content, {0, *(entry.subgraphIndex for entry in content.signatureDefs or ())})
    return tuple(
        Body(number, _names(graph, graph.inputs), _names(graph, graph.outputs))
        for number, graph in enumerate(content.subgraphs)
        if number not in in_place
    )


def in_place_graphs(content: Any, roots: Iterable[int] = (0,)) -> list[int]:
    """The graphs of `roots` and, from there on, those of composite operators, which run in their place."""
    from ai_edge_litert import schema_py_generated as schema

    reached = list(roots)
    for number in reached:
        for operator in content.subgraphs[number].operators:
            if isinstance(operator.builtinOptions2, schema.StableHLOCompositeOptionsT):
                reached.append(operator.builtinOptions2.decompositionSubgraphIndex)
    return list(dict.fromkeys(reached))


def unread(model: TFLiteModel) -> frozenset[tuple[int, int]]:
    """Keys of what operators give and nobody reads: LiteRT does not fill all of it (loops, parts that XNNPACK runs)."""
    read = {tensor.key for operator in model.operators for tensor in operator.inputs}
    read |= {tensor.key for tensor in model.outputs.values()}
    given = {tensor.key for operator in model.operators for tensor in operator.outputs}
    return frozenset(given - read)


def _names(graph: Any, indexes: Iterable[int]) -> tuple[str, ...]:
    return tuple(graph.tensors[index].name.decode() for index in indexes)
