"""Run by `edgekit.workers`: the rules on one file, or a mended copy of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.conversion import Finding
from edgekit.errors import ConversionError
from edgekit_onnx.graphs import open_model
from edgekit_onnx.legalize import legalize
from edgekit_onnx.outside import bring_in, check_outside
from edgekit_onnx.reading import check_one_file
from edgekit_onnx.rules import find
from edgekit_onnx.rules_graph import OPERATOR_RULES

if TYPE_CHECKING:
    from onnx import ModelProto

_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, OverflowError)  # what onnx raises on a damaged graph
_REMEDY = "copy or export the file again"


def work(request: dict[str, Any]) -> dict[str, object]:
    """`findings` of a file; with `output`, a copy is written there and `done` says what was mended."""
    path = Path(request["model"])
    if request["output"] is not None:
        import onnx

        model = open_model(path)
        check_one_file(path, "what is mended for TensorRT becomes", "make the model smaller")
        done = legalize(model)
        onnx.save(model, request["output"])
        return {"done": done}
    return {"findings": [dataclasses.asdict(found) for found in findings(path)]}


def findings(path: Path) -> tuple[Finding, ...]:
    """What TensorRT would not take of a file, which may be anything."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
        if check_outside(model, path):
            bring_in(model, path)
    except (ConversionError, DecodeError, onnx.checker.ValidationError, OSError, *_UNREADABLE) as problem:
        return (_invalid(path.name, problem),)
    try:
        onnx.checker.check_model(str(path))  # by its path, since more than 2 GB cannot be handed over
        return find(_inferred(model))
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, *_UNREADABLE) as problem:
        return _operators(model) or (_invalid(model.graph.name or path.name, problem),)


def _operators(model: ModelProto) -> tuple[Finding, ...]:
    """What is wrong with the operators of a graph that is no valid ONNX; none when they cannot be read either."""
    try:
        return find(model, OPERATOR_RULES)
    except _UNREADABLE:
        return ()


def _inferred(model: ModelProto) -> ModelProto:
    import onnx

    if model.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF:
        return model  # the types between its nodes stay unknown: the parser of TensorRT sees to those
    return onnx.shape_inference.infer_shapes(model)


def _invalid(name: str, problem: Exception) -> Finding:
    return Finding("valid-onnx", name, " ".join(str(problem).split()), _REMEDY)


if __name__ == "__main__":
    workers.serve(work)
