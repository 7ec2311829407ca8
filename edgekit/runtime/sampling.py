"""Choosing the next token by a decoder's scores: the most likely one, or drawn by the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit.errors import ConfigError, EngineError
from edgekit.tensors import Array


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. Raises ConfigError on a value out of range.

    `top_k` (Fan et al. 2018) and `top_p`, the nucleus (Holtzman et al. 2020), leave the most likely tokens to be drawn
    from; with both, `top_k` comes first.
    """

    temperature: float = 0.0  # 0: the most likely token, always; 1: by the model's own probabilities
    top_k: int | None = None  # so many tokens
    top_p: float | None = None  # as few tokens as have this probability together
    seed: int | None = None  # None: another one each time

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature is {self.temperature}, expected 0 (the most likely token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}, expected at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}, expected a probability above 0 and at most 1")
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected a whole number of at least 0")


class Sampler:
    """Chooses token after token; the same seed and scores give the same tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self.seed = int(np.random.SeedSequence().generate_state(1)[0]) if sampling.seed is None else sampling.seed
        self._sampling = sampling
        self._generator = np.random.default_rng(self.seed)

    def choose(self, scores: Array) -> int:
        """A token by its scores (vocabulary,). Raises EngineError when they are not finite."""
        if not np.isfinite(scores).all():
            raise EngineError("the model gives scores that are not finite: choose another variant")
        if self._sampling.temperature == 0:
            return int(scores.argmax())
        scaled = scores.astype(np.float64) / self._sampling.temperature
        tokens = self._likely(scaled)
        weights = np.exp(scaled[tokens] - scaled.max())
        sums = np.cumsum(weights)
        if self._sampling.top_p is not None:
            tokens = tokens[: int(np.searchsorted(sums, self._sampling.top_p * sums[-1])) + 1]
            sums = sums[: len(tokens)]
        drawn = int(np.searchsorted(sums, self._generator.random() * sums[-1], side="right"))
        return int(tokens[min(drawn, len(tokens) - 1)])

    def _likely(self, scores: Array) -> Array:
        """The tokens that are drawn from: the most likely first, where that matters."""
        count = self._sampling.top_k
        if count is None or count >= len(scores):
            return np.arange(len(scores)) if self._sampling.top_p is None else np.argsort(-scores, kind="stable")
        found = np.sort(np.argpartition(-scores, count - 1)[:count])
        return found[np.argsort(-scores[found], kind="stable")]
