"""Which nodes of an ONNX file have weights, for the plan of its engine."""

from __future__ import annotations

from pathlib import Path

_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN")


def weighted_nodes(path: Path) -> tuple[str, ...]:
    """Names of the nodes with a constant kernel, dequantized or not."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in constants:
            constants.update(node.output)
    return tuple(node.name for node in model.graph.node if node.op_type in _WEIGHTED and node.input[1] in constants)
