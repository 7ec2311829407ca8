"""Ranges of activations, measured on calibration samples by the methods of the user's choice.

`min-max` and `moving-average` follow litert-quantizer, and give the same numbers. `percentile` and `mse` look at the
distribution of each tensor's values: a second run of the same samples fills a histogram between the tensor's extremes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.tensors import Array
from edgekit_tflite.activations import Feed, activations

BINS = 2048
DEFAULT_PERCENTILE = 99.99
_FRACTIONS = np.linspace(1.0, 0.02, 99)
_SMOOTHING = 0.95  # the weight of what was seen before, in a moving average
_LARGEST = 3e38  # about bfloat16's: a value beyond it, like the -inf that padding may bring, is in no range

Ranges = dict[str, tuple[float, float]]  # by tensor name


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
