"""What is measured on samples of every tensor that int8 rounds: the largest magnitude in range, and channel means.

One run finds the peak of each channel, a second one the histogram of each tensor below its own: what is held is a
histogram for each tensor, and the activations of one sample. ONNX Runtime's own calibrators of these methods hold the
activations of all samples.
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
_ROWS = 512  # of an activation that products read, by which they are judged
_BLOCK = 1 << 15  # values that are counted at once: temporary arrays of this size are cheap to come by
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Seen:
    """What samples tell of one tensor."""

    peaks: Array  # the largest magnitude of each channel, (channels,)
    early: Array  # the same of the first half of the samples
    means: Array  # of each channel, (channels,)
    rows: Array  # some values of the second half, (rows, channels); none where channels are not the last axis

    def over(self, factors: Array) -> Seen:
        """The same of the tensor divided by powers of two, shape (channels,)."""
        return Seen(*(values / factors for values in vars(self).values()))


def watch(model: ModelProto, axes: Mapping[str, int], feeds: Sequence[Feed]) -> dict[str, Seen]:
    """`axes` names the tensors, each with the axis of its channels.

    Raises ConversionError when the model does not run on the samples.
    """
    peaks, early, means, rows = dict[str, Array](), dict[str, Array](), dict[str, Array](), dict[str, list[Array]]()
    half = len(feeds) // 2
    each = max(1, _ROWS // (len(feeds) - half))
    for number, values in enumerate(run_inside(model, list(axes), feeds, where="float model")):
        for name, array in values.items():
            flat = np.moveaxis(array, axes[name], -1).reshape(-1, array.shape[axes[name]])
            with np.errstate(invalid="ignore"):  # infinities, which no range will hold
                peaks[name] = np.fmax(peaks.get(name, 0), np.abs(flat).max(axis=0, initial=0))
                means[name] = means.get(name, 0) + flat.mean(axis=0, dtype=np.float64) / len(feeds)
            if number < max(half, 1):
                early[name] = peaks[name]
            some = np.linspace(0, len(flat) - 1, min(each, len(flat)) if axes[name] == -1 and number >= half else 0)
            rows.setdefault(name, []).append(flat[some.astype(int)])
    return {name: Seen(peaks[name], early[name], means[name], np.concatenate(rows[name])) for name in axes}


def find_limits(
    model: ModelProto,
    seen: Mapping[str, Seen],
    feeds: Sequence[Feed],
    *,
    methods: Collection[str],
    percentile: float | None,
) -> dict[str, Limits]:
    """By method. `seen` is what `watch` gave of this model. Raises as `watch`."""
    peaks = {name: float(tensor.peaks.max(initial=0)) for name, tensor in seen.items()}
    limits = {"min-max": peaks}
    if set(methods) - {"min-max"}:
        limits |= _clipped(_histograms(model, peaks, feeds), peaks, percentile or DEFAULT_PERCENTILE)
    return {method: limits[method] for method in methods}


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
