"""Run by `edgekit.workers`: what ONNX Runtime, which is Triton's backend, says of a file's inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON

from edgekit import workers
from edgekit.manifest import Binding
from edgekit.runtime.engine_onnx import open_model
from edgekit.strict import parse


def read(request: dict[str, Any]) -> dict[str, object]:
    """Shapes in the bindings' order, with null for what is open. Raises EngineError, also on other names or dtypes."""
    sides = [[parse(Binding, item, where="request") for item in request[side]] for side in ("inputs", "outputs")]
    runner = open_model(Path(request["model"]).read_bytes(), sides[0], sides[1], threads=1)
    return {"inputs": runner.shapes, "outputs": runner.output_shapes}


if __name__ == "__main__":
    workers.serve(read)
