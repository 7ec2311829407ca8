"""What is summed up over samples for one activation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.tensors import Array
from edgekit.tracing import TracedTensor

KEPT_PER_SAMPLE = 2048  # values for percentiles, spread evenly over an activation


@dataclass(frozen=True)
class Observed:
    """One activation for one sample, all of one shape: in both whole runs, and as both layers make it apart."""

    float_run: Array
    quantized_run: Array
    float_apart: Array  # from the same inputs as
    quantized_apart: Array

    @property
    def introduced(self) -> Array:
        """The error that the quantized layer makes itself."""
        return np.asarray(self.quantized_apart - self.float_apart)


class LayerStatistics:
    """Sums for one activation of two runs; add samples, then read."""

    def __init__(self, tensor: TracedTensor) -> None:
        self.tensor = tensor
        self.count = 0
        self.signal = self.noise = self.dot = self.power = 0.0  # whole runs: float², (quantized - float)², …
        self.own_signal = self.own_noise = self.rounding_noise = 0.0  # the layer apart, on the same inputs
        self.outside = self.at_bounds = 0
        self.lowest, self.highest = float(np.inf), float(-np.inf)
        self.float_channels = _Extremes(tensor.channel_axis)
        self.quantized_channels = _Extremes(tensor.channel_axis)
        self._kept: list[Array] = []

    def add(self, seen: Observed) -> None:
        """Add one sample."""
        wanted, got = _flat(seen.float_run), _flat(seen.quantized_run)
        self.signal += float(wanted @ wanted)
        self.power += float(got @ got)
        self.dot += float(wanted @ got)
        self.noise += _power(got - wanted)
        values = _flat(seen.float_apart)
        self.count += values.size
        self.own_signal += float(values @ values)
        self.own_noise += _power(_flat(seen.introduced))
        self.lowest, self.highest = min(self.lowest, float(values.min())), max(self.highest, float(values.max()))
        self.float_channels.add(seen.float_apart)
        self.quantized_channels.add(seen.quantized_apart)
        self._kept.append(values[:: max(1, values.size // KEPT_PER_SAMPLE)])
        if self.tensor.grid is not None:
            self._add_rounding(values)

    def _add_rounding(self, values: Array) -> None:
        grid = self.tensor.grid
        assert grid is not None
        half, (least, most) = grid.quantization.scale / 2, grid.limits
        self.rounding_noise += _power(grid.round(values) - values)
        self.outside += int(np.count_nonzero((values < least - half) | (values > most + half)))
        near = ((values < least + half) & (values != least)) | (values > most - half)
        self.at_bounds += int(np.count_nonzero(near))

    @property
    def rms(self) -> float:
        """Root mean square of the layer's float values."""
        return float(np.sqrt(self.own_signal / self.count))

    def magnitude(self, fraction: float) -> float:
        """What this fraction of the float values does not exceed in magnitude."""
        return float(np.quantile(np.abs(np.concatenate(self._kept)), fraction))

    def dead_channels(self) -> int:
        """Channels that vary over samples and positions in float and are constant when quantized."""
        return int(np.count_nonzero(self.float_channels.vary & ~self.quantized_channels.vary))


class _Extremes:
    """Least and largest value of each channel."""

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self.lowest: Array = np.array(np.inf)
        self.highest: Array = np.array(-np.inf)

    def add(self, values: Array) -> None:
        others = tuple(axis for axis in range(values.ndim) if axis != self._axis % values.ndim)
        self.lowest = np.minimum(self.lowest, values.min(axis=others))
        self.highest = np.maximum(self.highest, values.max(axis=others))

    @property
    def vary(self) -> Array:
        """Whether each channel takes more than one value."""
        return np.asarray(self.highest > self.lowest)

    @property
    def peaks(self) -> Array:
        """The largest magnitude in each channel."""
        return np.maximum(np.abs(self.lowest), np.abs(self.highest))


def _flat(values: Array) -> Array:
    return values.astype(np.float32, copy=False).ravel()


def _power(values: Array) -> float:
    return float(values @ values)
