"""GPTQ's second moments of the inputs of its operators (Frantar et al. 2022), measured by litert-quantizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any  # Any: the quantizer's recipes and statistics, which have no types

from edgekit.ranges import Feed
from edgekit_tflite.activations import THREADS

Statistics = dict[str, dict[str, Any]]  # tensor name -> its "min" and "max", and GPTQ's "hessian"


def add_hessians(statistics: Statistics, model: str, recipe: Sequence[dict[str, Any]], feeds: Sequence[Feed]) -> None:
    """Put them beside the ranges. The quantizer keeps them only of the first operator that a tensor meets."""
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.calibrator import CalibrationMode, Calibrator
    from litert_quantizer.recipe_manager import RecipeManager

    lines = RecipeManager()
    lines.load_quantization_recipe([line for line in recipe if line["algorithm_key"] == AlgorithmName.GPTQ])
    calibrator = Calibrator(model, num_threads=THREADS, mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS)
    (signature,) = calibrator.get_signature_list()
    calibrator.calibrate({signature: feeds}, lines)
    for name, measured in calibrator.get_model_qsvs().items():
        statistics[name] = {**measured, **statistics.get(name, {})}
