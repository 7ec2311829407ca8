"""Ranges of activations, measured on calibration samples by the methods of the user's choice.

`min-max` and `moving-average` follow litert-quantizer, and give the same numbers. `percentile` and `mse` look at the
distribution of each tensor's values: a second run of the same samples fills a histogram between the tensor's extremes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.ranges import BINS, DEFAULT_PERCENTILE, Feed, Ranges, mse_range, percentile_range
from edgekit.tensors import Array
from edgekit_tflite.activations import activations

_SMOOTHING = 0.95  # the weight of what was seen before, in a moving average
_LARGEST = 3e38  # about bfloat16's: a value beyond it, like the -inf that padding may bring, is in no range


class Extremes:
    """The least and the largest value of every activation over all samples, and their moving average."""

    def __init__(self) -> None:
        self._widest: dict[str, Array] = {}
        self._averaged: dict[str, Array] = {}

    def add(self, name: str, values: Array) -> None:
        """One tensor's values for one sample."""
        ends = _ends(values)
        if name not in self._widest:
            self._widest[name] = self._averaged[name] = ends
            return
        widest, averaged = self._widest[name], self._averaged[name]
        self._widest[name] = np.array((min(widest[0], ends[0]), max(widest[1], ends[1])), ends.dtype)
        self._averaged[name] = _SMOOTHING * averaged + (1 - _SMOOTHING) * ends

    def ranges(self) -> dict[str, Ranges]:
        """By method, those that need no more."""
        return {"min-max": _floats(self._widest), "moving-average": _floats(self._averaged)}


def clipped_ranges(
    model: Path, feeds: Sequence[Feed], widest: Ranges, *, percentile: float | None, bits: int
) -> dict[str, Ranges]:
    """By method, those that cut the ends of the `widest` ranges off.

    `bits` is the width of the variant's activations, which the method `mse` weighs rounding by; `percentile` is of the
    values that lie in range.
    """
    by_mse, by_percentile = dict(widest), dict(widest)
    for name, counts in _histograms(model, widest, feeds).items():
        edges = np.linspace(*widest[name], BINS + 1)
        by_mse[name] = mse_range(counts, edges, bits)
        by_percentile[name] = percentile_range(counts, edges, percentile or DEFAULT_PERCENTILE)
    return {"mse": by_mse, "percentile": by_percentile}


def _floats(found: dict[str, Array]) -> Ranges:
    return {name: (float(low), float(high)) for name, (low, high) in found.items()}


def _ends(values: Array) -> Array:
    """Shape (2,), in the dtype of `values`."""
    ends = np.array((values.min(), values.max()))
    if not np.all(np.abs(ends) < _LARGEST):  # so for NaN, too
        usual = values[np.abs(values) < _LARGEST]
        ends = np.array((usual.min(), usual.max())) if usual.size else ends
    return ends


def _histograms(model: Path, found: Ranges, feeds: Sequence[Feed]) -> dict[str, Array]:
    """How often the values of each float activation fall into each of BINS between its extremes."""
    counts: dict[str, Array] = {}
    for values in activations(model, feeds):
        for name, array in values:
            low, high = found[name]
            if array.dtype == np.float32 and low < high:
                counts[name] = counts.get(name, 0) + np.histogram(array, BINS, range=(low, high))[0]
    return counts
