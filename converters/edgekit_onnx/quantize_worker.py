"""Run by `edgekit.workers`: float16, int8 and integer weights, from the float export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.ranges import Feed, read_feeds
from edgekit_onnx.checking import check_runs
from edgekit_onnx.fp16 import halve
from edgekit_onnx.halving import name_nodes
from edgekit_onnx.int8 import quantize as quantize_int8
from edgekit_onnx.options import ONNXOptions
from edgekit_onnx.reading import read_model
from edgekit_onnx.weights_only import INT4, INT8, quantize_weights

if TYPE_CHECKING:
    from onnx import ModelProto


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `model` at `precision`, and see that ONNX Runtime opens it.

    Replies with notes and, for fp16, the nodes that stay float32.
    """
    import onnx

    model, output = read_model(Path(request["model"])), Path(request["output"])
    name_nodes(model)
    made, notes, islands = _make(model, _feeds(request), request)
    _check_size(made, request)
    onnx.save(made, str(output))
    check_runs(output, label=f"the {request['precision']} graph")
    return {"notes": notes, "islands": islands}


def _make(
    model: ModelProto, feeds: Sequence[Feed], request: dict[str, Any]
) -> tuple[ModelProto, Sequence[str], Sequence[str]]:
    if request["precision"] == "fp16":
        halved = halve(model, feeds)
        return halved.model, halved.notes, halved.islands
    options = ONNXOptions(**{**request["options"], "keep_float": tuple(request["options"]["keep_float"])})
    if request["precision"] in (INT8, INT4):
        return *quantize_weights(model, request["precision"], options, request["layers"]), ()
    return *quantize_int8(model, feeds, options, request["layers"]), ()


def _check_size(made: ModelProto, request: dict[str, Any]) -> None:
    size = sum(len(tensor.raw_data) for tensor in made.graph.initializer)
    if size > request["most_bytes"]:
        raise ConversionError(
            f"its weights take {size:,} bytes in {request['precision']}, and one ONNX file holds at most "
            f"{request['most_bytes']:,}: make the model smaller"
        )


def _feeds(request: dict[str, Any]) -> Sequence[Feed]:
    if request["calibration"] is None:
        return []
    return read_feeds(Path(request["calibration"]), request["inputs"], batch=request["batch"])


if __name__ == "__main__":
    workers.serve(quantize)
