"""Run by `edgekit.workers`: a model's operators in a newer version of ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit_onnx.reading import opset_of, read_model


def raise_opset(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `model` at `opset`. Raises ConversionError when onnx cannot."""
    import onnx

    model, opset = read_model(Path(request["model"])), request["opset"]
    try:
        raised = onnx.version_converter.convert_version(model, opset)
        onnx.checker.check_model(raised, full_check=True)
    except Exception as problem:  # the converter raises RuntimeError and others
        raise ConversionError(
            f"onnx cannot convert it from opset {opset_of(model)} to {opset}, which int8 needs "
            f"({' '.join(str(problem).split())}): export it again with opset_version=17"
        ) from problem
    onnx.save(raised, request["output"])
    return {}


if __name__ == "__main__":
    workers.serve(raise_opset)
