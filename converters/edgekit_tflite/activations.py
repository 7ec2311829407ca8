"""A float TFLite file run on samples, with the values of all its activations.

litert-quantizer's own calibration copies the file into memory, and every constant once more with each sample. Here
LiteRT maps the file, and constants are not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any  # Any: LiteRT's interpreter and the generated schema's objects, which have no types

import numpy as np

from edgekit.ranges import Feed
from edgekit.tensors import Array
from edgekit_tflite.graphs import in_place_graphs, unread
from edgekit_tflite.reading import mapped, parse_model
from edgekit_tflite.signatures import first_signature

Values = Iterator[tuple[str, Array]]  # tensor name and values, shape as in the file

THREADS = min(4, os.cpu_count() or 1)


def activations(model: Path, feeds: Sequence[Feed]) -> Iterator[Values]:
    """For each sample the activations of the main graph and of composite operators' graphs.

    Read the values of one sample before the next. Raises ValueError and RuntimeError as LiteRT does.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=THREADS, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    run, places = interpreter.get_signature_runner(first_signature(model)), _places(model)
    for feed in feeds:
        run(**feed)
        yield _values(interpreter, places)


def _values(interpreter: Any, places: Mapping[str, tuple[int, int]]) -> Values:
    for name, (index, graph) in places.items():
        yield name, interpreter.get_tensor(index, graph)


def _places(model: Path) -> dict[str, tuple[int, int]]:
    """Names of the tensors that operators compute or that come in, with their index and their graph's."""
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(mapped(model), 0)
    empty = unread(parse_model(mapped(model)))
    found: dict[str, tuple[int, int]] = {}
    for number in in_place_graphs(content):
        graph = content.subgraphs[number]
        computed = {int(index) for operator in graph.operators for index in operator.outputs}
        for index in sorted(computed | {int(index) for index in graph.inputs}):
            tensor = graph.tensors[index]
            if index >= 0 and tensor.name and _is_filled(tensor) and (number, index) not in empty:
                found[tensor.name.decode()] = (index, number)
    return found


def _is_filled(tensor: Any) -> bool:
    """Whether it holds numbers: not where a size is 0, nor where it stands for a variable."""
    from ai_edge_litert import schema_py_generated as schema

    if tensor.type == schema.TensorType.RESOURCE:
        return False
    return tensor.shape is None or bool(np.all(tensor.shape))
