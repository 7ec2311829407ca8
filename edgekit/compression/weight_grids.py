"""The few values that weights are rounded to for storage, as functions of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # Any: keras variables and tensors, which have no types

import numpy as np

from edgekit.compression.steps import QuantizeWeights
from edgekit.loading import import_keras
from edgekit.tensors import Array

Rounding = Callable[[Any], Any]  # weights (a tensor) -> rounded weights of the same shape; zero stays zero

_TINY = 1e-30  # instead of the scale of a channel that is all zeros
_CLIPPED_AT = np.linspace(1.0, 0.2, 41)  # of a channel's largest weight: what a linear grid may end at


def rounding(step: QuantizeWeights, weights: Array, axes: tuple[int, ...]) -> Rounding:
    """The rounding of one kernel: over each group of weights that differ in `axes` alone, one scale.

    A linear grid ends where it loses least for the weights of now, as a fraction of the largest; the fraction stays.
    """
    if step.scheme == "linear":
        most = 2 ** (step.code_bits - 1) - 1
        return _linear(_least_loss(weights, most, axes), most, axes)
    if step.scheme == "logarithmic":
        return _logarithmic(2 ** (step.code_bits - 1) - 1, axes)
    return _ternary(axes) if step.scheme == "ternary" else _binary(axes)


def _linear(ends: Array, most: int, axes: tuple[int, ...]) -> Rounding:
    """2 · most + 1 even steps around zero."""
    ops = import_keras().ops

    def rounded(weights: Any) -> Any:
        largest = ops.max(ops.abs(weights), axis=axes, keepdims=True)
        scale = ops.maximum(largest * ends, _TINY) / most
        codes = ops.clip(ops.round(weights / scale), -most, most)
        return ops.where(codes == 0, ops.zeros_like(weights), codes * scale)  # without negative zeros, which pack badly

    return rounded


def _least_loss(weights: Array, most: int, axes: tuple[int, ...]) -> Array:
    """The end of the grid as a fraction of the largest weight: that of the least squared error, for each channel."""
    largest = np.maximum(np.abs(weights).max(axis=axes, keepdims=True), _TINY)
    best = np.full(largest.shape, np.inf)
    ends = np.ones(largest.shape, np.float32)
    for fraction in _CLIPPED_AT:
        scale = largest * np.float32(fraction) / most
        error = np.square(np.clip(np.round(weights / scale), -most, most) * scale - weights)
        loss = error.sum(axis=axes, keepdims=True, dtype=np.float64)
        ends[loss < best] = fraction
        best = np.minimum(best, loss)
    return ends


def _logarithmic(exponents: int, axes: tuple[int, ...]) -> Rounding:
    """Zero and ±2^e for so many exponents, up to that of the largest weight (Miyashita et al. 2016)."""
    ops = import_keras().ops

    def rounded(weights: Any) -> Any:
        exponent = ops.round(ops.log2(ops.maximum(ops.abs(weights), _TINY)))
        lowest = ops.max(exponent, axis=axes, keepdims=True) - (exponents - 1)
        power = ops.exp2(exponent)
        return ops.where(exponent < lowest, ops.zeros_like(weights), ops.sign(weights) * power)

    return rounded


def _ternary(axes: tuple[int, ...]) -> Rounding:
    """-a, 0 and a: what is below 0.7 of the mean magnitude is zero, a is the mean of the rest (Li et al. 2016)."""
    ops = import_keras().ops

    def rounded(weights: Any) -> Any:
        sizes = ops.abs(weights)
        large = sizes > 0.7 * ops.mean(sizes, axis=axes, keepdims=True)
        return ops.where(large, ops.sign(weights) * _mean(sizes, large, axes), ops.zeros_like(weights))

    return rounded


def _binary(axes: tuple[int, ...]) -> Rounding:
    """sign(w) · a with a the mean magnitude (Rastegari et al. 2016); weights that are zero are not counted."""
    ops = import_keras().ops

    def rounded(weights: Any) -> Any:
        return ops.sign(weights) * _mean(ops.abs(weights), weights != 0, axes)

    return rounded


def _mean(values: Any, counted: Any, axes: tuple[int, ...]) -> Any:
    ops = import_keras().ops
    counts = ops.sum(ops.cast(counted, values.dtype), axis=axes, keepdims=True)
    total = ops.sum(ops.where(counted, values, ops.zeros_like(values)), axis=axes, keepdims=True)
    return total / ops.maximum(counts, 1)
