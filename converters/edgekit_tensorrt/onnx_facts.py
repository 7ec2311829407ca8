"""What the checker has to know of an ONNX file before TensorRT sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN")


def find_fault(path: Path) -> str | None:
    """Name what TensorRT's parser accepts without a word: an empty file, a graph without nodes, weights like NaN."""
    from onnx import numpy_helper

    if not path.stat().st_size:
        return "the file is empty"
    model = _load(path)
    if model is None:
        return None  # the parser itself says what is wrong
    if not model.graph.node:
        return "the graph has no nodes"
    for tensor in model.graph.initializer:
        values = np.asarray(numpy_helper.to_array(tensor))
        if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
            return f"the weights '{tensor.name}' are not finite"
    return None


def weighted_nodes(path: Path) -> tuple[str, ...]:
    """Names of the nodes with a constant kernel, dequantized or not."""
    model = _load(path)
    if model is None:
        return ()
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in constants:
            constants.update(node.output)
    return tuple(node.name for node in model.graph.node if node.op_type in _WEIGHTED and node.input[1] in constants)


def _load(path: Path) -> ModelProto | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except DecodeError:
        return None
