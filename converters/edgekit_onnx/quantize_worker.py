"""Run by `edgekit.workers`: float16 and int8, from the float export."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.ranges import read_feeds
from edgekit_onnx.fp16 import halve
from edgekit_onnx.graphs import open_model
from edgekit_onnx.halving import name_nodes
from edgekit_onnx.int8 import quantize as quantize_int8
from edgekit_onnx.options import ONNXOptions


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `model` at `precision`; replies with notes and, for fp16, the nodes that stay float32."""
    import onnx

    model = open_model(Path(request["model"]))
    name_nodes(model)
    feeds = read_feeds(Path(request["calibration"]), request["inputs"]) if request["calibration"] else []
    if request["precision"] == "fp16":
        halved = halve(model, feeds)
        onnx.save(halved.model, request["output"])
        return {"notes": halved.notes, "islands": halved.islands}
    options = ONNXOptions(**{**request["options"], "keep_float": tuple(request["options"]["keep_float"])})
    made, notes = quantize_int8(model, feeds, options, request["layers"])
    onnx.save(made, request["output"])
    return {"notes": notes, "islands": ()}


if __name__ == "__main__":
    workers.serve(quantize)
