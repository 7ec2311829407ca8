"""ONNX files run on samples, with what goes on inside where that is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any  # Any: onnxruntime's objects, which have no types

from edgekit.errors import ConversionError
from edgekit.ranges import Feed
from edgekit.tensors import Array

if TYPE_CHECKING:
    from onnx import ModelProto

_ERRORS_ONLY = 3
_THREADS = min(4, os.cpu_count() or 1)


def open_session(model: ModelProto, *, where: str, optimize: bool = False) -> Any:
    """An ONNX Runtime session that computes node by node, or as a user's would with `optimize`.

    Raises ConversionError.
    """
    import onnxruntime

    levels, options = onnxruntime.GraphOptimizationLevel, onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = _THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the CPU to others
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions have no other base
        reason = " ".join(str(problem).split())
        raise ConversionError(f"{where}: onnxruntime cannot run it step by step ({reason})") from problem


def run_outputs(model: ModelProto, feeds: Iterable[Feed], *, where: str) -> list[Array]:
    """The outputs for one sample after the other, as a user's session computes them."""
    session = open_session(model, where=where, optimize=True)
    return [array for feed in feeds for array in _run(session, None, feed, where)]


def run_inside(
    model: ModelProto, names: Sequence[str], feeds: Iterable[Feed], *, where: str
) -> Iterator[Mapping[str, Array]]:
    """For each sample the values of these tensors, inputs among them."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in (*watched.graph.input, *watched.graph.output)}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = open_session(watched, where=where)
    given = {value.name for value in session.get_inputs()}
    computed = [name for name in names if name not in given]
    for feed in feeds:
        values = _run(session, computed, feed, where) if computed else []  # of none, onnxruntime gives all outputs
        yield {**{name: feed[name] for name in names if name in given}, **dict(zip(computed, values, strict=True))}


def _run(session: Any, names: list[str] | None, feed: Feed, where: str) -> list[Array]:
    try:
        results: list[Array] = session.run(names, dict(feed))
    except Exception as problem:  # onnxruntime's exceptions have no other base
        reason = " ".join(str(problem).split())
        raise ConversionError(f"{where}: onnxruntime failed on a calibration sample ({reason})") from problem
    return results
