"""Run by `edgekit.workers`: a model's operators in a newer version of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit_onnx.opsets import at_opset
from edgekit_onnx.reading import read_model

_REMEDY = ": export it again with opset_version=17"


def raise_opset(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `model` at `opset`, which int8 needs. Raises ConversionError when onnx cannot."""
    import onnx

    raised = at_opset(read_model(Path(request["model"])), request["opset"], needed_by="int8", remedy=_REMEDY)
    onnx.save(raised, request["output"])
    return {}


if __name__ == "__main__":
    workers.serve(raise_opset)
