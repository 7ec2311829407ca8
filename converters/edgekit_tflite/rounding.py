"""Rounding a kernel so that its layer's outputs err least, not its weights: GPTQ.

Frantar et al. 2022 (arXiv 2210.17323), in the form of Chee et al. 2023 (arXiv 2307.13304), which shows that it is the
same: each weight of a row is rounded after what the rounding of those before it has cost was moved onto it, by the
triangular factor of the second moments of what the row meets.
"""

from __future__ import annotations

import numpy as np

from edgekit.tensors import Array

DAMPING = 0.01  # added to the diagonal, as a fraction of its mean
_BLOCK = 64  # columns that are updated at once


def round_rows(weights: Array, steps: Array, moments: Array, largest: int) -> Array:
    """Integers of at most `largest` in size, shape (groups, rows, numbers) as `weights` and `steps`, a weight's grid.

    `moments` are the second moments of what the rows of each group meet, shape (groups, numbers, numbers). A row that
    GPTQ, which never looks back, makes worse than rounding to nearest does is rounded to nearest.
    """
    exact, grid = weights.astype(np.float64), steps.astype(np.float64)
    grid[grid == 0] = 1.0  # of a channel of zeros
    nearest = np.clip(np.round(exact / grid), -largest, largest)
    moved = compensated(exact, grid, moments, largest)
    better = _cost(exact - moved * grid, moments) < _cost(exact - nearest * grid, moments)
    return np.where(better, moved, nearest).astype(np.int8)


def compensated(weights: Array, steps: Array, moments: Array, largest: int) -> Array:
    """GPTQ alone. Weights that meet the largest values come first."""
    order = np.argsort(-np.einsum("gii->gi", moments), axis=1, kind="stable")
    exact, grid = (np.take_along_axis(array, order[:, None], 2) for array in (weights, steps))
    factor = _unit_upper(np.take_along_axis(np.take_along_axis(moments, order[:, :, None], 1), order[:, None], 2))
    codes, moved = np.empty_like(exact), exact.copy()
    lost = np.zeros_like(exact)
    for start in range(0, exact.shape[2], _BLOCK):
        block = slice(start, start + _BLOCK)
        moved[:, :, block] += lost[:, :, :start] @ factor[:, :start, block]
        for column in range(*block.indices(exact.shape[2])):
            rest = slice(column + 1, block.stop)
            scaled = np.round(moved[:, :, column] / grid[:, :, column])
            codes[:, :, column] = np.clip(scaled, -largest, largest)
            lost[:, :, column] = exact[:, :, column] - codes[:, :, column] * grid[:, :, column]
            moved[:, :, rest] += lost[:, :, column, None] * factor[:, None, column, rest]
    found = np.empty_like(codes)
    np.put_along_axis(found, np.broadcast_to(order[:, None], codes.shape), codes, 2)
    return found


def _cost(error: Array, moments: Array) -> Array:
    """The mean squared error of each row's output but for a factor, shape (groups, rows, 1)."""
    cost: Array = np.sum((error @ moments) * error, axis=2, keepdims=True)
    return cost


def _unit_upper(moments: Array) -> Array:
    """U with ones on its diagonal, such that U D Uᵀ are the damped moments with a diagonal D."""
    damped = moments.astype(np.float64)
    diagonal = np.einsum("gii->gi", damped)  # a view
    mean = diagonal.mean(axis=1, keepdims=True)
    diagonal += DAMPING * np.where(mean > 0, mean, 1.0)
    factor = np.linalg.cholesky(damped[:, ::-1, ::-1])[:, ::-1, ::-1]  # upper: from the last row on
    unit: Array = factor / np.einsum("gii->gi", factor)[:, None]
    return unit
