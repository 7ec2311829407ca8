"""Ranges of activations, measured on calibration samples by the method of the user's choice.

`min-max` and `moving-average` are litert-quantizer's own. `percentile` and `mse` look at the distribution of each
tensor's values: a second run of the same samples fills a histogram between the tensor's extremes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any  # Any: the quantizer's objects and its statistics of tensors, which have no types

import numpy as np

from edgekit.tensors import Array
from edgekit_tflite.options import TFLiteOptions
from edgekit_tflite.running import THREADS

BINS = 2048
DEFAULT_PERCENTILE = 99.99
_FRACTIONS = np.linspace(1.0, 0.02, 99)

Feeds = Sequence[Mapping[str, Array]]  # one sample each: an array of batch 1 for each signature input
Statistics = dict[str, dict[str, Any]]  # tensor name -> its "min" and "max", and GPTQ's "hessian"


def find_ranges(
    model: str, recipe: Sequence[dict[str, Any]], feeds: Feeds, options: TFLiteOptions, bits: int
) -> Statistics:
    """The statistics of every activation that `recipe` quantizes, over all samples.

    `bits` is the width of the variant's activations, which the method `mse` weighs rounding by.
    """
    from litert_quantizer.utils import qsv_utils

    averaged = options.calibration == "moving-average"
    update = qsv_utils.moving_average_update if averaged else qsv_utils.min_max_update
    found = _measure(model, [_by_min_max(line) for line in recipe], feeds, update)
    if options.calibration in ("percentile", "mse"):
        for name, counts in _histograms(model, found, feeds).items():
            low, high = (float(found[name][end].flat[0]) for end in ("min", "max"))
            edges = np.linspace(low, high, BINS + 1)
            chosen = (
                mse_range(counts, edges, bits)
                if options.calibration == "mse"
                else percentile_range(counts, edges, options.percentile or DEFAULT_PERCENTILE)
            )
            for end, value in zip(("min", "max"), chosen, strict=True):
                found[name][end] = np.full_like(found[name][end], value)
    if options.algorithm == "gptq":
        _add_hessians(found, model, recipe, feeds)
    return found


def percentile_range(counts: Array, edges: Array, percentile: float) -> tuple[float, float]:
    """The range that leaves (100 - `percentile`) % of the values out at each end.

    `counts` has shape (bins,), `edges` (bins + 1,).
    """
    share = np.cumsum(counts) / np.sum(counts)
    tail = 1 - percentile / 100
    first = int(np.searchsorted(share, tail, side="right"))
    last = int(np.searchsorted(share, 1 - tail, side="left"))
    return float(edges[min(first, len(counts) - 1)]), float(edges[min(last, len(counts) - 1) + 1])


def mse_range(counts: Array, edges: Array, bits: int) -> tuple[float, float]:
    """The range of the least mean squared error, which is the best signal-to-noise ratio.

    The error of a value inside is that of rounding, step² / 12; outside, its distance to the range. One end is
    searched after the other. `counts` has shape (bins,), `edges` (bins + 1,).
    """
    low, high = float(edges[0]), float(edges[-1])
    centers = (edges[:-1] + edges[1:]) / 2

    def error(start: float, end: float) -> float:
        lost = centers - np.clip(centers, start, end)
        step = (max(end, 0.0) - min(start, 0.0)) / (2**bits - 1)
        return float(np.sum(counts * np.where(lost == 0, step**2 / 12, lost**2)))

    for _ in range(2):
        high = min((float(edges[-1]) * fraction for fraction in _FRACTIONS), key=lambda end: error(low, end))
        low = min((float(edges[0]) * fraction for fraction in _FRACTIONS), key=lambda start: error(start, high))
    return low, high


def _by_min_max(line: dict[str, Any]) -> dict[str, Any]:
    """GPTQ keeps statistics of its own, and only of the first operator that a tensor meets."""
    from litert_quantizer.algorithm_manager import AlgorithmName

    gptq = line["algorithm_key"] == AlgorithmName.GPTQ
    return {**line, "algorithm_key": AlgorithmName.MIN_MAX_UNIFORM_QUANT} if gptq else line


def _measure(model: str, recipe: Sequence[dict[str, Any]], feeds: Feeds, update: Any = None) -> Statistics:
    from litert_quantizer.calibrator import CalibrationMode, Calibrator
    from litert_quantizer.recipe_manager import RecipeManager

    lines = RecipeManager()
    lines.load_quantization_recipe(list(recipe))
    calibrator = Calibrator(
        model,
        num_threads=THREADS,
        mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        **({} if update is None else {"qsv_update_func": update}),
    )
    (signature,) = calibrator.get_signature_list()
    calibrator.calibrate({signature: feeds}, lines)
    statistics: Statistics = calibrator.get_model_qsvs()
    return statistics


def _histograms(model: str, found: Statistics, feeds: Feeds) -> dict[str, Array]:
    """How often the values of each float activation of the main graph fall into each of BINS between its extremes."""
    from litert_quantizer.utils import tfl_interpreter_utils as interpreting

    interpreter = interpreting.create_tfl_interpreter(model, num_threads=THREADS)
    counts: dict[str, Array] = {}
    for feed in feeds:
        interpreting.invoke_interpreter_signature(interpreter, dict(feed))
        contents = interpreting.get_tensor_name_to_content_map(interpreter)
        for name in _spread(found, contents):
            low, high = (float(found[name][end].flat[0]) for end in ("min", "max"))
            own, _ = np.histogram(contents[name], BINS, range=(low, high))
            counts[name] = counts.get(name, 0) + own
    return counts


def _spread(found: Statistics, contents: Mapping[str, Array]) -> Iterable[str]:
    """The float tensors that are not one value throughout."""
    for name, statistics in found.items():
        ends = [statistics[end] for end in ("min", "max") if end in statistics]
        measured = name in contents and contents[name].dtype == np.float32 and len(ends) == 2
        if measured and ends[0].size == 1 and ends[0].flat[0] < ends[1].flat[0]:
            yield name


def _add_hessians(found: Statistics, model: str, recipe: Sequence[dict[str, Any]], feeds: Feeds) -> None:
    """GPTQ's second moments of the inputs of its operators (Frantar et al. 2022), beside the ranges."""
    from litert_quantizer.algorithm_manager import AlgorithmName

    own = [line for line in recipe if line["algorithm_key"] == AlgorithmName.GPTQ]
    for name, statistics in _measure(model, own, feeds).items():
        found[name] = {**statistics, **found.get(name, {})}
