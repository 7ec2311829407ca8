"""What is measured on samples of every tensor that int8 rounds: the largest magnitude in range, and channel means.

One run finds each tensor's peak, a second one the histogram below it: what is held is a histogram for each tensor, and
the activations of one sample. ONNX Runtime's own calibrators of these methods hold the activations of all samples.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgekit.ranges import BINS, DEFAULT_PERCENTILE, Feed, entropy_limit, mse_range, percentile_range
from edgekit.tensors import Array
from edgekit_onnx.running import run_inside

if TYPE_CHECKING:
    from onnx import ModelProto

Limits = dict[str, float]  # the largest magnitude in range, by tensor name

_MAGNITUDE_BITS = 7
_BLOCK = 1 << 15  # values that are counted at once: temporary arrays of this size are cheap to come by
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Measured:
    """What samples tell of the tensors that int8 rounds."""

    limits: dict[str, Limits]  # by method
    means: dict[str, Array]  # of each channel, shape (channels,), by tensor name


def measure(
    model: ModelProto,
    axes: Mapping[str, int],
    feeds: Sequence[Feed],
    *,
    methods: Collection[str],
    percentile: float | None,
) -> Measured:
    """`axes` names the tensors, each with the axis of its channels.

    Raises ConversionError when the model does not run on the samples.
    """
    peaks, means = dict.fromkeys(axes, 0.0), dict[str, Array]()
    for values in run_inside(model, list(axes), feeds, where="float model"):
        for name, array in values.items():
            peaks[name] = max(peaks[name], float(np.abs(array).max(initial=0)))
            channels = np.moveaxis(array, axes[name], -1).reshape(-1, array.shape[axes[name]])
            with np.errstate(invalid="ignore"):  # infinities, which no range will hold
                means[name] = means.get(name, 0) + channels.mean(axis=0, dtype=np.float64) / len(feeds)
    limits = {"min-max": peaks}
    if set(methods) - {"min-max"}:
        limits |= _clipped(_histograms(model, peaks, feeds), peaks, percentile or DEFAULT_PERCENTILE)
    return Measured({method: limits[method] for method in methods}, means)


def _histograms(model: ModelProto, peaks: Limits, feeds: Sequence[Feed]) -> dict[str, Array]:
    """How many magnitudes fall into each of BINS between 0 and the peak."""
    counts = {name: np.zeros(BINS, np.int64) for name, peak in peaks.items() if 0 < peak < np.inf}
    for values in run_inside(model, list(counts), feeds, where="float model"):
        for name, array in values.items():
            counts[name] += count(np.abs(array), peaks[name])
    return counts


def count(magnitudes: Array, peak: float) -> Array:
    """How many float32 magnitudes fall into each of BINS between 0 and `peak`, shape (BINS,); NaN falls into none.

    What np.histogram gives, in less than half its time, for none of them is larger than `peak`.
    """
    if np.isnan(magnitudes.max(initial=0)):
        magnitudes = magnitudes[~np.isnan(magnitudes)]
    values, bins_by_one = magnitudes.reshape(-1), np.float32(min(BINS / peak, _LARGEST))
    counts = np.zeros(BINS + 1, np.int64)
    for start in range(0, values.size, _BLOCK):
        counts += np.bincount((values[start : start + _BLOCK] * bins_by_one).astype(np.int32), minlength=BINS + 1)
    counts[BINS - 1] += counts[BINS]  # the peak itself
    return counts[:BINS]


def _clipped(counts: dict[str, Array], peaks: Limits, percentile: float) -> dict[str, Limits]:
    found = {"percentile": dict(peaks), "entropy": dict(peaks), "mse": dict(peaks)}
    for name, histogram in counts.items():
        edges = np.linspace(0, peaks[name], BINS + 1)
        found["percentile"][name] = percentile_range(histogram, edges, percentile)[1]
        found["entropy"][name] = entropy_limit(histogram, edges)
        found["mse"][name] = mse_range(histogram, edges, _MAGNITUDE_BITS)[1]
    return found
