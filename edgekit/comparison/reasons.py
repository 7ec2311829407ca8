"""Why a layer loses accuracy, from what was summed up.

The error that a layer introduces has two parts: rounding its output to the grid, which is judged by the range, and
the rest, which is judged by the kernel. The part that makes most of it is explained. The thresholds are ours: a range
four times as wide as nearly all of its values costs two of eight bits, eight times costs three.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.comparison.layers import Reason
from edgekit.comparison.parity import decibels
from edgekit.comparison.statistics import LayerStatistics
from edgekit.tensors import Array
from edgekit.tracing import Grid, Kernel

NEARLY_ALL = 0.999  # fraction of values that a range is held against
OUTLIER_RATIO = 4.0  # range to what nearly all values keep within
CHANNEL_RATIO = 8.0  # largest to median channel
WEIGHT_RATIO = 16.0  # largest weight of a channel to its root mean square; 3 to 5 is usual
CLIPPED = 0.001  # fraction of values outside of the range
OVERSHOT = 0.05  # how far they reach beyond it, as a fraction of it
SATURATED = 0.5  # fraction of values at the bounds of a bounded activation
DEAD = 0.05  # fraction of channels

_BOUNDED = {"LOGISTIC", "TANH", "SOFTMAX", "Sigmoid", "HardSigmoid", "Tanh", "Softmax"}


def explain(statistics: LayerStatistics, kernels: tuple[Kernel, Kernel] | None) -> tuple[Reason, ...]:
    """The reasons for what a layer introduces; `kernels` are its float and its quantized one. () without error."""
    if not statistics.own_noise:
        return ()
    grid = statistics.tensor.grid
    if grid is not None and statistics.rounding_noise >= statistics.own_noise / 2:
        found = (*_of_range(statistics, grid), *_dead(statistics))
        return found or (_plain_rounding(statistics, grid),)
    if kernels is not None and kernels[1].steps is not None and kernels[0].values.shape == kernels[1].values.shape:
        found = (*_of_kernel(*kernels), *_dead(statistics))
        return found or (_plain_kernel(*kernels),)
    return tuple(_dead(statistics)) or (Reason("rounding", "computed in lower precision than float32"),)


def _of_range(statistics: LayerStatistics, grid: Grid) -> Iterator[Reason]:
    least, most = grid.limits
    if _is_saturating(statistics):
        yield Reason(
            "saturating-activation",
            f"saturating activation: {statistics.at_bounds / statistics.count:.1%} of its values lie within half a "
            f"step ({grid.quantization.scale / 2:.2g}) of its bounds, where the range [{least:.3g}, {most:.3g}] "
            "cannot tell them apart",
        )
        return
    if statistics.outside >= CLIPPED * statistics.count and _overshoot(statistics, grid) >= OVERSHOT:
        yield Reason(
            "range-too-small",
            f"range too small: {statistics.outside / statistics.count:.1%} of the values are cut off at "
            f"[{least:.3g}, {most:.3g}]; they reach from {statistics.lowest:.3g} to {statistics.highest:.3g}",
        )
    yield from _range_outliers(statistics, grid)


def _overshoot(statistics: LayerStatistics, grid: Grid) -> float:
    """How far the values reach beyond the range, as a fraction of it."""
    least, most = grid.limits
    return max(least - statistics.lowest, statistics.highest - most) / (most - least)


def _is_saturating(statistics: LayerStatistics) -> bool:
    bounded = _BOUNDED.intersection(statistics.tensor.operator.split("+"))
    return bool(bounded) and statistics.at_bounds >= SATURATED * statistics.count


def _range_outliers(statistics: LayerStatistics, grid: Grid) -> Iterator[Reason]:
    reach, step = max(map(abs, grid.limits)), grid.quantization.scale
    usual, peaks = statistics.magnitude(NEARLY_ALL), statistics.float_channels.peaks
    channel, ratio = _stretched(peaks)
    if ratio >= CHANNEL_RATIO:
        yield Reason(
            "range-outliers",
            f"range outliers: channel {channel} of {len(peaks)} reaches {peaks[channel]:.3g}, the median channel "
            f"{np.median(peaks):.3g}; with one step of {step:.2g} for all, that has "
            f"{np.median(peaks) / step:.1f} steps",
        )
    elif usual and reach >= OUTLIER_RATIO * usual:
        yield Reason(
            "range-outliers",
            f"range outliers: {NEARLY_ALL:.1%} of the values keep within ±{usual:.3g}, the range reaches {reach:.3g}; "
            f"with a step of {step:.2g}, they have {usual / step:.1f} steps",
        )


def _dead(statistics: LayerStatistics) -> Iterator[Reason]:
    dead, channels = statistics.dead_channels(), statistics.float_channels.peaks.size
    if dead and dead >= DEAD * channels:
        text = f"dead channels: {dead} of {channels} vary in float and are constant when quantized"
        yield Reason("dead-channels", text)


def _of_kernel(wanted: Kernel, kernel: Kernel) -> Iterator[Reason]:
    peaks = np.abs(wanted.values).max(axis=1)
    channel, ratio = _stretched(peaks)
    if kernel.steps is not None and kernel.steps.size == 1 and ratio >= CHANNEL_RATIO:
        yield Reason(
            "range-outliers",
            f"range outliers in the kernel, which has one step for all {len(peaks)} output channels: channel {channel} "
            f"reaches {peaks[channel]:.3g}, the median channel {np.median(peaks):.3g}",
        )
    worst = int(np.sum((kernel.values - wanted.values) ** 2, axis=1).argmax())
    rms = float(np.sqrt(np.mean(wanted.values[worst] ** 2)))
    if rms and peaks[worst] >= WEIGHT_RATIO * rms:
        yield Reason(
            "range-outliers",
            f"range outliers in the kernel: the largest weight of output channel {worst} is {peaks[worst]:.3g}, "
            f"{peaks[worst] / rms:.0f} × the channel's root mean square",
        )
    zeroed = int(np.count_nonzero(np.any(wanted.values, axis=1) & ~np.any(kernel.values, axis=1)))
    if zeroed and zeroed >= DEAD * len(peaks):
        yield Reason(
            "dead-channels",
            f"dead channels: all weights of {zeroed} of {len(peaks)} output channels are rounded to zero",
        )


def _stretched(peaks: Array) -> tuple[int, float]:
    """The channel with the largest peak, and how many times the median of those that are not all zero it is."""
    alive = peaks[peaks > 0]
    return int(peaks.argmax()), float(peaks.max() / np.median(alive)) if alive.size else 0.0


def _plain_rounding(statistics: LayerStatistics, grid: Grid) -> Reason:
    step = grid.quantization.scale
    return Reason(
        "rounding",
        f"rounding of the output, without outliers: the values have a root mean square of {statistics.rms / step:.1f} "
        f"steps of {step:.2g}",
    )


def _plain_kernel(wanted: Kernel, kernel: Kernel) -> Reason:
    snr_db = decibels(float(np.sum(wanted.values**2)), float(np.sum((kernel.values - wanted.values) ** 2)))
    if snr_db is None:
        return Reason("rounding", "rounding inside the operator: its kernel is equal to the float one")
    return Reason("rounding", f"rounding of the kernel, without outliers: it is at {snr_db:.1f} dB")
