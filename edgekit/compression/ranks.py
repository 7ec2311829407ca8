"""How many singular values of each kernel to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.tensors import Array


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a kernel of (rows × columns) weights, descending."""

    rows: int
    columns: int
    values: Array

    @property
    def size(self) -> int:
        """Weights of the whole kernel."""
        return self.rows * self.columns

    @property
    def most(self) -> int:
        """The largest rank at which two factors have fewer weights; 0 when there is none."""
        return (self.size - 1) // (self.rows + self.columns)

    def weights(self, rank: int) -> int:
        """Weights of the two factors; of the kernel itself at rank 0, which stands for leaving it whole."""
        return rank * (self.rows + self.columns) if rank else self.size

    def energy(self, rank: int) -> float:
        """Fraction of the squared singular values that a rank keeps; 1 for the whole kernel."""
        squares = np.square(self.values, dtype=np.float64)
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if rank and total else 1.0

    def rank_of_energy(self, energy: float) -> int:
        """The smallest rank, at least 1, that keeps this fraction of the energy, or all that rounding leaves of it."""
        rounding = self.values[0] * max(self.rows, self.columns) * np.finfo(np.float32).eps
        full = max(1, int((self.values > rounding).sum()))
        squares = np.cumsum(np.square(self.values, dtype=np.float64))
        return min(full, int(np.searchsorted(squares, energy * squares[-1])) + 1)


@dataclass(frozen=True)
class _Move:
    """From one rank of a kernel to a lower one, on the lower edge of lost energy over weights saved."""

    name: str
    rank: int
    loss_per_weight: float


def least_weights(spectra: Mapping[str, Spectrum]) -> int:
    """Weights of all kernels together at rank 1, or whole where that is less."""
    return sum(min(spectrum.size, spectrum.weights(1)) for spectrum in spectra.values())


def ranks_within(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int]:
    """The rank of each kernel, 0 for whole, so that all together have at most `budget` weights.

    That step goes next that loses least relative energy for each weight that it saves. The budget is at least
    `least_weights`.
    """
    ranks = dict.fromkeys(spectra, 0)
    total = sum(spectrum.size for spectrum in spectra.values())
    moves = sorted((move for item in spectra.items() for move in _moves(*item)), key=lambda move: move.loss_per_weight)
    for move in moves:
        if total <= budget:
            break
        spectrum = spectra[move.name]
        total -= spectrum.weights(ranks[move.name])
        ranks[move.name] = min(spectrum.most, max(move.rank, (budget - total) // (spectrum.rows + spectrum.columns)))
        total += spectrum.weights(ranks[move.name])
    return ranks


def _moves(name: str, spectrum: Spectrum) -> list[_Move]:
    """The corners of the convex lower edge, from the whole kernel to rank 1; losses per weight ascend."""
    corners: list[tuple[int, int, float]] = [(0, 0, 0.0)]  # rank, weights saved, energy lost
    slopes: list[float] = []
    for rank in range(spectrum.most, 0, -1):
        saved, lost = spectrum.size - spectrum.weights(rank), 1 - spectrum.energy(rank)
        while slopes and _slope(corners[-1], saved, lost) <= slopes[-1]:
            corners.pop()
            slopes.pop()
        slopes.append(_slope(corners[-1], saved, lost))
        corners.append((rank, saved, lost))
    return [_Move(name, rank, slope) for (rank, _, _), slope in zip(corners[1:], slopes, strict=True)]


def _slope(corner: tuple[int, int, float], saved: int, lost: float) -> float:
    return (lost - corner[2]) / (saved - corner[1])
