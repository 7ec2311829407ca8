"""Which weights a sparsity pattern keeps, given how important each is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.compression.importance import add_up
from edgekit.compression.steps import Prune
from edgekit.tensors import Array


def kept(scores: Sequence[Array], step: Prune, sparsity: float) -> list[Array]:
    """A boolean mask for each kernel, True where a weight stays.

    `scores` are importances as matrices (`Kernel.to_matrix`), -1 where a weight is zero for good; `sparsity` is the
    fraction of now, on the way to `step.target`. The kernels are those that are ranked together under scope "global".
    """
    if step.kept_of is not None:
        n, m = step.kept_of
        removed = round((m - n) * sparsity / step.target)
        return [_n_of_m(score, m - removed, m) for score in scores]
    blocks = [_block_scores(score, step) for score in scores]
    if step.scope == "global":
        masks = _least_together(blocks, sparsity, by_magnitude=step.importance == "magnitude")
    else:
        masks = [~least(block, round(sparsity * block.size)) for block in blocks]
    rows, columns = step.block
    return [mask.repeat(rows, axis=0).repeat(columns, axis=1) for mask in masks]


def least(scores: Array, count: int) -> Array:
    """True for the `count` smallest of scores that are -1 or at least 0; of equal ones the first."""
    flat = scores.reshape(-1)
    if count == 0:
        return np.zeros(scores.shape, bool)
    bound = _smallest(flat, count)
    chosen: Array = flat < bound
    chosen[np.flatnonzero(flat == bound)[: count - int(chosen.sum())]] = True
    return chosen.reshape(scores.shape)


def _smallest(scores: Array, number: int) -> float:
    """The `number`-th smallest score; numpy's search is ten times slower among the many zeros of a pruned kernel."""
    positive = scores[scores > 0]
    above = number - (scores.size - positive.size)
    if above > 0:
        return float(np.partition(positive, above - 1)[above - 1])
    return -1.0 if number <= np.count_nonzero(scores < 0) else 0.0


def layer_adaptive(scores: Array) -> Array:
    """Magnitudes made comparable between kernels: w² / Σ v² over all |v| ≥ |w| (Lee et al. 2021, LAMP)."""
    squares = np.square(np.maximum(scores, 0, dtype=np.float64)).reshape(-1)
    order = np.argsort(-squares)
    sums = np.cumsum(squares[order])
    adapted = np.empty_like(squares)
    adapted[order] = squares[order] / np.maximum(sums, np.finfo(np.float64).tiny)
    return np.where(scores < 0, -1.0, adapted.reshape(scores.shape))


def _least_together(blocks: Sequence[Array], sparsity: float, *, by_magnitude: bool) -> list[Array]:
    """Kept masks over several kernels ranked as one; the most important block of each stays, so that none is empty.

    Magnitudes are made comparable first; gradients and Taylor terms are of one loss already.
    """
    ranked = [layer_adaptive(block) if by_magnitude else block.astype(np.float64) for block in blocks]
    for scores in ranked:
        scores.reshape(-1)[np.argmax(scores)] = np.inf
    together = np.concatenate([scores.reshape(-1) for scores in ranked])
    count = min(round(sparsity * together.size), together.size - len(ranked))
    stay = ~least(together, count)
    ends = np.cumsum([scores.size for scores in ranked])
    return [part.reshape(scores.shape) for part, scores in zip(np.split(stay, ends[:-1]), ranked, strict=True)]


def _n_of_m(scores: Array, n: int, m: int) -> Array:
    """True for the n largest of each m neighbouring rows; of equal ones the first."""
    groups = scores.reshape(-1, m, scores.shape[1])
    places = np.argsort(np.argsort(-groups, axis=1, kind="stable"), axis=1, kind="stable")
    return (places < n).reshape(scores.shape)


def _block_scores(scores: Array, step: Prune) -> Array:
    """One score for each block, -1 where all of a block is zero for good."""
    rows, columns = step.block
    if (rows, columns) == (1, 1):
        return scores
    tiled = scores.reshape(scores.shape[0] // rows, rows, scores.shape[1] // columns, columns)
    held = (tiled < 0).all(axis=(1, 3))
    return np.where(held, -1.0, add_up(np.maximum(tiled, 0), step.norm, (1, 3)))
