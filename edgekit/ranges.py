"""Ranges of activations from the distribution of their values, and how a range is judged: what converters share.

A histogram has BINS counts of shape (bins,) and edges of shape (bins + 1,). For symmetric int8 it is one of magnitudes,
from 0 on, and a range's upper end counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.errors import ConversionError
from edgekit.tensors import Array

BINS = 2048
DEFAULT_PERCENTILE = 99.99
FEWEST = 8  # samples that a choice of the method is made with
_APART = 4  # every fourth sample is held apart for it
_FRACTIONS = np.linspace(1.0, 0.02, 99)
_LEVELS = 128  # of magnitudes in int8
_STRIDE = 16  # bins between the limits that the entropy is computed for
_TINY = 1e-10

Ranges = dict[str, tuple[float, float]]  # by tensor name
Feed = Mapping[str, Array]  # one sample, or what a file of a fixed batch takes: an array for each input


def read_feeds(calibration: Path, inputs: Sequence[str], *, batch: int = 1) -> list[Feed]:
    """The samples of an .npz that holds an array of shape (n, ...) for each input, in order, in whole batches.

    Raises ConversionError when they do not fill one.
    """
    with np.load(calibration) as stored:
        samples = dict(zip(inputs, stored.values(), strict=True))
    count = min(len(array) for array in samples.values()) // batch
    if not count:
        raise ConversionError(f"the model takes batches of {batch} samples, and calibration has fewer: give more")
    starts = range(0, count * batch, batch)
    return [{name: array[start : start + batch] for name, array in samples.items()} for start in starts]


def is_apart(count: int) -> Array:
    """Which of `count` samples are held apart to judge a choice by, shape (count,) bool."""
    return np.asarray(np.arange(count) % _APART == 0)


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


def entropy_limit(counts: Array, edges: Array) -> float:
    """The largest magnitude in range that keeps most of the distribution, for a histogram of magnitudes.

    The least Kullback-Leibler divergence of the distribution on 128 levels from the one it was (Migacz 2017, "8-bit
    Inference with TensorRT").
    """
    ends = list(range(_LEVELS, len(counts) + 1, _STRIDE))
    counts = np.concatenate([counts[1:2], counts[1:]])  # zeros, many after a ReLU, are exact in any range
    return float(edges[min(ends, key=lambda end: _divergence(counts, end))])


def _divergence(counts: Array, end: int) -> float:
    inside = counts[:end].astype(np.float64)
    clipped = inside.copy()
    clipped[-1] += counts[end:].sum()
    levels, filled = np.arange(end) * _LEVELS // end, inside > 0
    totals = np.bincount(levels, inside, _LEVELS)
    shares = np.bincount(levels, filled.astype(np.float64), _LEVELS)
    rounded = np.where(filled, totals[levels] / np.maximum(shares[levels], 1), 0.0)
    there = clipped > 0
    was = clipped[there] / max(clipped.sum(), 1.0)
    now = np.maximum(rounded[there] / max(rounded.sum(), 1.0), _TINY)
    return float(np.sum(was * np.log(was / now)))


def mean_error(errors: Array, means: Array) -> Array:
    """What wrong weights add to each output channel on average, shape (channels,).

    `errors` of the weights has shape (channels, inputs), `means` of what they meet (inputs,), or that times the groups
    of a grouped convolution, or a part of the inputs where a dense layer reads several positions of each channel.
    """
    channels, inputs = errors.shape
    if inputs < len(means):  # an output channel reads the inputs of its group
        groups = means.reshape(-1, inputs)
        met = np.repeat(groups, channels // len(groups), axis=0)
    else:
        met = np.tile(means, inputs // len(means))
    return np.asarray((errors * met).sum(axis=1))


def snr_db(expected: Sequence[Array], actual: Sequence[Array]) -> float:
    """10 log10 of the power of all outputs over that of their error."""
    noise = sum(float(np.sum(np.square(a - b))) for a, b in zip(expected, actual, strict=True))
    power = sum(float(np.sum(np.square(a))) for a in expected)
    return float(10 * np.log10(max(power, 1e-30) / max(noise, 1e-30)))
