"""Integer grids for kernels: symmetric, in narrow range, with one scale for a kernel or one for each output channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.tensors import Array

FLOAT_BITS = 32  # stands for a kernel that stays float
LEVELS_IN_A_FILE = 127  # int8 in narrow range: how every grid is stored, whatever its bits
SMALLEST = 1e-6  # an all-zero channel still needs a scale

# Largest value on the grid, in root mean squares of the kernel, where that is less than its largest weight: what loses
# least of a normal distribution on 2 * levels + 1 even steps (the idea of Banner et al. 2019, for narrow range).
_CLIPS = {7: 2.48, 1: 1.22}
_ON_GRID = 1e-3  # of a step; float32 rounding stays below 1e-4


@dataclass(frozen=True)
class Grid:
    """How a kernel is rounded."""

    bits: int = 8
    channel_axes: int = 0  # so many trailing axes have a scale for each of their indices; 0: one scale for the kernel

    @property
    def levels(self) -> int:
        """Steps on each side of zero: 127, 7 or 1."""
        return int(2 ** (self.bits - 1)) - 1

    @property
    def clip(self) -> float | None:
        """The largest value in root mean squares of the weights that are not zero; None where nothing is clipped."""
        return _CLIPS.get(self.levels)

    def reduced(self, rank: int) -> tuple[int, ...]:
        """The axes that share a scale."""
        return tuple(range(rank - self.channel_axes))

    def limits(self, kernel: Array) -> Array:
        """The largest value of each scale, with the kernel's rank."""
        axes = self.reduced(kernel.ndim)
        largest = np.abs(kernel).max(axis=axes, keepdims=True)
        if self.clip is not None:
            count = np.maximum((kernel != 0).sum(axis=axes, keepdims=True), 1)
            spread = np.sqrt(np.square(kernel).sum(axis=axes, keepdims=True) / count)
            largest = np.minimum(largest, np.float32(self.clip) * spread)
        limits: Array = np.maximum(largest, np.float32(SMALLEST))
        return limits.astype(np.float32)

    def snap(self, kernel: Array) -> Array:
        """The kernel on its grid, float32."""
        scale = self.limits(kernel) / np.float32(self.levels)
        rounded: Array = np.clip(np.rint(kernel / scale), -self.levels, self.levels) * scale
        return rounded.astype(np.float32)

    def scales(self, kernel: Array) -> Array | None:
        """The steps of a kernel that lies on its grid, with the kernel's rank; None when it does not.

        A channel's largest weight is some k <= levels of its steps, and the largest k that fits is taken: it is
        `levels` where the channel has set its own scale, less where another channel has, or where it was trained away
        from its limit.
        """
        axes = self.reduced(kernel.ndim)
        moved = kernel.astype(np.float64).reshape(-1, int(np.prod(kernel.shape[len(axes) :])))
        found = _scales(moved.T, self.levels)
        shape = (*(1,) * len(axes), *kernel.shape[len(axes) :])
        return None if found is None else found.reshape(shape)


def shares_values(kernel: Array) -> bool:
    """True for a kernel of few values, each used often: what clustering leaves."""
    used = kernel[kernel != 0]
    distinct = len(np.unique(used))
    return 0 < distinct <= 256 and 2 * distinct <= used.size


def _scales(channels: Array, levels: int) -> Array | None:
    """Scales of shape (channels,) for weights of shape (channels, n)."""
    peaks = np.abs(channels).max(axis=1)
    scales = np.where(peaks > 0, 0.0, SMALLEST)  # a channel of zeros takes any scale
    for level in range(levels, 0, -1):
        (still_open,) = np.nonzero(scales == 0)
        if not still_open.size:
            break
        steps = channels[still_open] * (level / peaks[still_open, None])
        fits = np.abs(steps - np.rint(steps)).max(axis=1) < _ON_GRID
        scales[still_open[fits]] = peaks[still_open[fits]] / level
    return scales.astype(np.float32) if np.all(scales > 0) else None
