"""Pictures in another size, number for number as `tf.image.resize` makes them (half-pixel centres).

Positions and weights are computed in float32 as TensorFlow's kernels do, because a picture of some thousand pixels
shows the difference. Sources: tensorflow/core/kernels/image/resize_bilinear_op.cc, resize_nearest_neighbor_op.cc,
scale_and_translate_op.cc; Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgekit.tensors import Array

_HALF = np.float32(0.5)
_LEAST_SUM = 1000 * np.finfo(np.float32).tiny  # below it, scale_and_translate_op.cc leaves weights as they are


def resize(pictures: Array, size: tuple[int, int], *, interpolation: str, antialias: bool) -> Array:
    """Pictures (n, height, width, channels) of any number type -> (n, *size, channels) float32.

    `interpolation` is nearest, bilinear, or, with `antialias`, bicubic.
    """
    if pictures.shape[1:3] == size:
        return pictures.astype(np.float32)
    if interpolation == "nearest":
        rows, columns = (_nearest(*lengths) for lengths in zip(pictures.shape[1:3], size, strict=True))
        return pictures[:, rows[:, None], columns[None, :]].astype(np.float32)
    if antialias:
        radius, kernel = _KERNELS[interpolation]
        resized = _weighted(pictures, 1, *_spans(pictures.shape[1], size[0], radius, kernel))
        return _weighted(resized, 2, *_spans(pictures.shape[2], size[1], radius, kernel))
    return _bilinear(pictures, size)


def _bilinear(pictures: Array, size: tuple[int, int]) -> Array:
    top, bottom, down = _neighbours(pictures.shape[1], size[0])
    left, right, along = _neighbours(pictures.shape[2], size[1])
    along = along[:, None]
    edges = []
    for rows in (pictures[:, top], pictures[:, bottom]):
        start, end = (rows[:, :, columns].astype(np.float32) for columns in (left, right))
        edges.append(start + (end - start) * along)
    above, below = edges
    return above + (below - above) * down[:, None, None]  # type: ignore[no-any-return]


def _positions(length: int, wanted: int) -> Array:
    """Where the centres of `wanted` pixels lie, in pixels of the source from its edge."""
    return (np.arange(wanted, dtype=np.float32) + _HALF) * (np.float32(length) / np.float32(wanted))


def _nearest(length: int, wanted: int) -> Array:
    return np.clip(np.floor(_positions(length, wanted)).astype(np.int64), 0, length - 1)


def _neighbours(length: int, wanted: int) -> tuple[Array, Array, Array]:
    """The two pixels that each lies between, and how far from the first to the second."""
    centres = _positions(length, wanted) - _HALF
    floor = np.floor(centres)
    low = np.maximum(floor.astype(np.int64), 0)
    high = np.minimum(np.ceil(centres).astype(np.int64), length - 1)
    return low, high, centres - floor


def _spans(length: int, wanted: int, radius: float, kernel: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Source pixels of each wanted one, and their weights: both (wanted, pixels), weights beyond the edge are 0."""
    inverse = np.float32(1.0 / (np.float32(wanted) / np.float32(length)))
    widened = np.maximum(inverse, np.float32(1.0))
    reach = np.float32(radius) * widened
    centres = (np.arange(wanted, dtype=np.float32) + _HALF) * inverse
    first = np.clip(np.ceil(centres - reach - _HALF).astype(np.int64), 0, length - 1)
    last = np.clip(np.floor(centres + reach - _HALF).astype(np.int64), 0, length - 1)
    sources = first[:, None] + np.arange(int((last - first).max()) + 1)
    away = np.abs((sources.astype(np.float32) + _HALF - centres[:, None]) * (np.float32(1.0) / widened))
    weights = np.where(sources <= last[:, None], kernel(away), np.float32(0))
    total = weights.sum(axis=1, keepdims=True, dtype=np.float32)
    weights = np.where(np.abs(total) >= _LEAST_SUM, weights / total, weights)
    return np.minimum(sources, length - 1), weights.astype(np.float32)


def _weighted(pictures: Array, axis: int, sources: Array, weights: Array) -> Array:
    """Sums along `axis`, one source pixel of every sum after the other: memory stays that of the result."""
    shape = [1] * pictures.ndim
    shape[axis] = len(weights)
    summed = np.zeros((*pictures.shape[:axis], len(weights), *pictures.shape[axis + 1 :]), np.float32)
    for place in range(sources.shape[1]):
        summed += np.take(pictures, sources[:, place], axis=axis) * weights[:, place].reshape(shape)
    return summed


def _triangle(away: Array) -> Array:
    return np.maximum(np.float32(0), np.float32(1) - away)


def _keys_cubic(away: Array) -> Array:
    near = ((np.float32(1.5) * away - np.float32(2.5)) * away) * away + np.float32(1)
    far = ((np.float32(-0.5) * away + np.float32(2.5)) * away - np.float32(4)) * away + np.float32(2)
    return np.where(away >= 2, np.float32(0), np.where(away >= 1, far, near))


_KERNELS: dict[str, tuple[float, Callable[[Array], Array]]] = {
    "bilinear": (1.0, _triangle),
    "bicubic": (2.0, _keys_cubic),
}
