"""Run by `edgekit.workers`: litert-quantizer on the float export."""

from __future__ import annotations

from pathlib import Path
from typing import Any  # Any: the request, which is JSON, and the quantizer, which has no types

import numpy as np

from edgekit import workers
from edgekit.conversion import FIXED_SIGNATURE
from edgekit.errors import ConversionError
from edgekit.tensors import Array


def quantize(request: dict[str, Any]) -> dict[str, object]:
    """Write the float export at another precision."""
    from litert_quantizer.quantizer import Quantizer

    quantizer = Quantizer(request["model"])
    _RECIPES[request["precision"]](quantizer)
    try:
        ranges = _calibrate(quantizer, request) if quantizer.need_calibration else None
        result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError) as problem:  # an unrolled loop, an operator without an int8 form
        reason = " ".join(str(problem).split())
        raise ConversionError(
            f"litert-quantizer cannot make {request['precision']} ({reason}): leave it out for this model"
        ) from problem
    if result.quantized_model is None:
        raise ConversionError("litert-quantizer gave no model")
    Path(request["output"]).write_bytes(bytes(result.quantized_model))
    return {}


def _calibrate(quantizer: Any, request: dict[str, Any]) -> Any:
    """Min and max of every tensor over all samples.

    The quantizer's own `calibrate` takes a moving average of each sample's min and max, which clips small tensors:
    6 dB instead of 39 dB on a two-input network of Dense layers.
    """
    from litert_quantizer.calibrator import CalibrationMode, Calibrator
    from litert_quantizer.recipe_manager import RecipeManager
    from litert_quantizer.utils.qsv_utils import min_max_update

    with np.load(request["calibration"]) as stored:
        samples = dict(zip(request["inputs"], stored.values(), strict=True))
    recipes = RecipeManager()
    recipes.load_quantization_recipe(quantizer.get_quantization_recipe())
    calibrator = Calibrator(
        request["model"], mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS, qsv_update_func=min_max_update
    )
    calibrator.calibrate({FIXED_SIGNATURE: _feeds(samples)}, recipes)
    return calibrator.get_model_qsvs()


def _feeds(samples: dict[str, Array]) -> list[dict[str, Array]]:
    count = min(len(array) for array in samples.values())
    return [{name: array[index : index + 1] for name, array in samples.items()} for index in range(count)]


def _fp16(quantizer: Any) -> None:
    """Weights in float16, dequantized where they are used; LiteRT computes in float32."""
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    quantizer.update_quantization_recipe(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, config, AlgorithmName.FLOAT_CASTING
    )


def _dynamic_int8(quantizer: Any) -> None:
    from litert_quantizer import recipe

    quantizer.load_quantization_recipe(recipe.dynamic_wi8_afp32())


def _int8(quantizer: Any) -> None:
    from litert_quantizer import recipe

    quantizer.load_quantization_recipe(recipe.static_wi8_ai8())


def _int8_float_io(quantizer: Any) -> None:
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    _int8(quantizer)
    for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        quantizer.update_quantization_recipe(".*", border, None, AlgorithmName.NO_QUANTIZE)


_RECIPES = {"fp16": _fp16, "dynamic-int8": _dynamic_int8, "int8": _int8, "int8-float-io": _int8_float_io}


if __name__ == "__main__":
    workers.serve(quantize)
