"""Run by `edgekit.workers`: ONNX Runtime's float16 cast and its static quantization, on the float export."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON

import numpy as np

from edgekit import workers
from edgekit.errors import ConversionError
from edgekit.tensors import Array
from edgekit_onnx.graphs import KERNEL_AXES, Graph
from edgekit_onnx.running import check_runs


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write `output` from `model` at `precision`, and see that ONNX Runtime opens it."""
    _MAKERS[request["precision"]](request)
    check_runs(Path(request["output"]), label=f"the {request['precision']} graph")
    return {}


def _fp16(request: dict[str, Any]) -> None:
    """Weights and computation in float16, inputs and outputs in float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(request["model"])
    for tensor in model.graph.initializer:
        _refuse_overflow(tensor.name, np.asarray(onnx.numpy_helper.to_array(tensor)))
    cast = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
    cast.topological_sort()  # the casts at the border were appended
    onnx.save(cast.model, request["output"])


def _refuse_overflow(name: str, values: Array) -> None:
    largest = float(np.abs(values).max(initial=0)) if values.dtype == np.float32 else 0.0
    if largest > np.finfo(np.float16).max:
        raise ConversionError(f"'{name}' holds {largest:g}, more than float16 can: leave fp16 out for this model")


def _int8(request: dict[str, Any]) -> None:
    """Symmetric int8 with min and max of real samples, in the form that TensorRT takes.

    Only the inputs of nodes with a kernel are quantized; kernels are int8 per output channel, biases stay float.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with np.load(request["calibration"]) as stored:
        samples = dict(zip(request["inputs"], stored.values(), strict=True))
    operators, graph = list(KERNEL_AXES), Graph(onnx.load(request["model"]))
    weighted = {node.name for node in graph.weighted()}
    quantize_static(
        request["model"],
        request["output"],
        _Reader(samples, request["batch"]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=operators,
        nodes_to_exclude=[node.name for node in graph.nodes(*operators) if node.name not in weighted],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": operators,
        },
    )


class _Reader:
    """ONNX Runtime's CalibrationDataReader: one whole batch after the other, then None."""

    def __init__(self, samples: dict[str, Array], batch: int) -> None:
        count = min(len(array) for array in samples.values()) // batch
        if not count:
            raise ConversionError(f"the model takes batches of {batch} samples, and calibration has fewer: give more")
        starts = range(0, count * batch, batch)
        self._feeds = iter({name: array[at : at + batch] for name, array in samples.items()} for at in starts)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


_MAKERS = {"fp16": _fp16, "int8": _int8}


if __name__ == "__main__":
    workers.serve(quantize)
