"""What pairs of process medians say of a slowdown.

The process is the unit of replication: runs inside of one share its memory layout, its cores and its heat, so that
pooling them makes any test sure of differences that are none. Each pair gives one log-ratio; the pairs are resampled
with replacement (the paired bootstrap of Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.errors import ConfigError

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
LEAST_FLOOR = 0.02  # what no device is trusted below
FLOOR_QUANTILE = 0.99
_TRIM = 0.2
_FLOOR_SESSIONS, _FLOOR_RESAMPLES = 400, 200
_SEED = 0  # the same samples give the same verdict
_LEAST_PAIRS = 5  # fewer say nothing of their spread


@dataclass(frozen=True)
class GateSettings:
    """When a slowdown fails. Fractions: 0.05 is 5 % slower."""

    budget: float = 0.05  # a slowdown that is allowed
    floor: float = LEAST_FLOOR  # what two equal bundles may differ by on this device
    confidence: float = 0.975  # of each bound alone
    pairs: int = 10  # of processes before the first verdict, and between two
    most_pairs: int = 40
    resamples: int = 4000

    def __post_init__(self) -> None:
        for name, value in (("budget", self.budget), ("floor", self.floor)):
            if not 0 <= value < 10:
                raise ConfigError(f"gate: {name} is a fraction of 0 or more, got {value}; for 5 % write 0.05")
        if not 0.5 < self.confidence < 1:
            raise ConfigError(f"gate: confidence is {self.confidence}, expected a fraction in (0.5, 1)")
        if not _LEAST_PAIRS <= self.pairs <= self.most_pairs:
            raise ConfigError(
                f"gate: {self.pairs} pairs and {self.most_pairs} at most, expected {_LEAST_PAIRS} or more, and no fewer"
            )


@dataclass(frozen=True)
class Estimate:
    """The candidate's time over the baseline's."""

    ratio: float  # 1.1: 10 % slower; the trimmed mean of the log-ratios
    lower: float  # bounds of it, each at the settings' confidence
    upper: float
    pairs: int

    @property
    def slowdown(self) -> float:
        """0.1: 10 % slower."""
        return self.ratio - 1


def estimate(baseline_ms: Sequence[float], candidate_ms: Sequence[float], settings: GateSettings) -> Estimate:
    """From one median per process, in pairs; milliseconds, both of shape (pairs,)."""
    ratios = _log_ratios(baseline_ms, candidate_ms)
    drawn = _resampled(ratios[np.newaxis], settings.resamples)
    lower, upper = np.exp(np.quantile(_centre(drawn), (1 - settings.confidence, settings.confidence)))
    return Estimate(float(np.exp(_centre(ratios))), float(lower), float(upper), len(ratios))


def judge(found: Estimate, settings: GateSettings) -> str:
    """FAIL, PASS or INCONCLUSIVE.

    It fails when the lower bound is beyond the device's floor and the estimate beyond the budget; it passes when the
    upper bound is within the budget.
    """
    if found.lower > 1 + settings.floor and found.ratio > 1 + settings.budget:
        return FAIL
    return PASS if found.upper <= 1 + settings.budget else INCONCLUSIVE


def floor_of(first_ms: Sequence[float], second_ms: Sequence[float], settings: GateSettings) -> float:
    """What the lower bound exceeds 1 by in one session of 100 with one and the same bundle; at least 0.02.

    The sessions are drawn from the A/A pairs that are given. Either member of such a pair could have been called the
    candidate, so each counts in both directions.
    """
    ratios = _log_ratios(first_ms, second_ms)
    generator = np.random.default_rng(_SEED)
    sessions = generator.choice(np.concatenate([ratios, -ratios]), (_FLOOR_SESSIONS, settings.pairs))
    bounds = np.quantile(_centre(_resampled(sessions, _FLOOR_RESAMPLES)), 1 - settings.confidence, axis=-1)
    return max(LEAST_FLOOR, float(np.expm1(np.quantile(bounds, FLOOR_QUANTILE))))


def _log_ratios(first_ms: Sequence[float], second_ms: Sequence[float]) -> np.ndarray:
    return np.log(np.asarray(second_ms, np.float64) / np.asarray(first_ms, np.float64))


def _resampled(sessions: np.ndarray, resamples: int) -> np.ndarray:
    """(sessions, pairs) -> (sessions, resamples, pairs), drawn with replacement; the same rows of every session."""
    pairs = sessions.shape[-1]
    return sessions[:, np.random.default_rng(_SEED).integers(0, pairs, (resamples, pairs))]


def _centre(ratios: np.ndarray) -> np.ndarray:
    """The mean without the fifth at either end, over the last axis: a neighbour hits single pairs, and hard."""
    cut = int(_TRIM * ratios.shape[-1])
    kept: np.ndarray = np.sort(ratios, axis=-1)[..., cut : ratios.shape[-1] - cut]
    means: np.ndarray = kept.mean(axis=-1)
    return means
