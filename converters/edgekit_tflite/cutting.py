"""A TFLite file rewritten so that its parts compute apart: what crosses a cut is given from outside."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any  # Any: the generated schema's objects, which have no types

import numpy as np

from edgekit_tflite.writing import packed

CUT = "/cut"


def cut_model(content: bytes, cuts: Sequence[int], wanted: Sequence[int]) -> bytes:
    """The main graph cut at some tensors, by index.

    The readers of a cut tensor read a new graph input instead, called as the tensor is with CUT behind it; the wanted
    tensors that operators make are the graph's outputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    _bring_inside(model, content)
    graph = model.subgraphs[0]
    given = {index: _add_twin(graph, index) for index in cuts}
    for operator in graph.operators:
        operator.inputs = np.array([given.get(int(i), int(i)) for i in operator.inputs], np.int32)
    made = {int(index) for operator in graph.operators for index in operator.outputs}
    graph.inputs = [*(int(index) for index in graph.inputs if int(index) not in given), *given.values()]
    graph.outputs = [index for index in wanted if index in made]
    model.signatureDefs = model.metadata = None
    return packed(model)


def _bring_inside(model: Any, content: bytes) -> None:
    """Constants that lie after the flatbuffer move into it: offsets would be wrong in the new file."""
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
            buffer.offset = buffer.size = 0


def _add_twin(graph: Any, index: int) -> int:
    twin = copy.copy(graph.tensors[index])
    twin.name += CUT.encode()
    twin.buffer = 0
    graph.tensors.append(twin)
    return len(graph.tensors) - 1
