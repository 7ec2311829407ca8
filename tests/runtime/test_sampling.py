from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import ConfigError, EngineError
from edgekit.runtime.sampling import Sampler, Sampling

SCORES = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2], np.float32))


def drawn(sampling: Sampling, count: int = 4000) -> dict[int, float]:
    """The share of each token that came."""
    sampler = Sampler(sampling)
    tokens = [sampler.choose(SCORES) for _ in range(count)]
    return {int(token): tokens.count(token) / count for token in sorted(set(tokens))}


def test_at_temperature_0_the_most_likely_token_comes_always() -> None:
    assert drawn(Sampling(), 10) == drawn(Sampling(seed=3, top_k=2), 10) == {1: 1.0}
    assert Sampler(Sampling()).choose(np.array([1.0, 2.0, 2.0], np.float32)) == 1  # the first of equals


def test_at_temperature_1_tokens_come_as_often_as_they_are_likely() -> None:
    shares = drawn(Sampling(1.0, seed=0))
    np.testing.assert_allclose([shares[token] for token in range(5)], np.exp(SCORES), atol=0.02)


def test_a_high_temperature_levels_and_a_low_one_sharpens() -> None:
    least, most = drawn(Sampling(0.5, seed=0))[1], drawn(Sampling(4.0, seed=0))[1]
    np.testing.assert_allclose(least, 0.4**2 / np.sum(np.exp(SCORES) ** 2), atol=0.02)
    np.testing.assert_allclose(most, 0.4**0.25 / np.sum(np.exp(SCORES) ** 0.25), atol=0.02)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1.0, top_k=2, seed=0), {1: 0.4 / 0.65, 3: 0.25 / 0.65}),
        (Sampling(1.0, top_k=9, seed=0), {0: 0.1, 1: 0.4, 2: 0.05, 3: 0.25, 4: 0.2}),
        (Sampling(1.0, top_p=0.6, seed=0), {1: 0.4 / 0.65, 3: 0.25 / 0.65}),  # 0.4 is too little, 0.65 enough
        (Sampling(1.0, top_p=0.3, seed=0), {1: 1.0}),  # one token at least
        (Sampling(1.0, top_k=3, top_p=0.7, seed=0), {1: 0.4 / 0.65, 3: 0.25 / 0.65}),  # of 0.85, 0.65 is over 0.7
    ],
)
def test_only_the_likely_ones_are_drawn_from(sampling: Sampling, expected: dict[int, float]) -> None:
    shares = drawn(sampling)
    assert list(shares) == list(expected)
    np.testing.assert_allclose(list(shares.values()), list(expected.values()), atol=0.03)


def test_a_seed_gives_the_same_tokens_and_without_one_it_is_told() -> None:
    first, again, other = (Sampler(Sampling(1.0, seed=seed)) for seed in (5, 5, 6))
    tokens = [[sampler.choose(SCORES) for _ in range(40)] for sampler in (first, again, other)]
    assert tokens[0] == tokens[1] != tokens[2]
    unseeded = Sampler(Sampling(1.0))
    told = Sampler(Sampling(1.0, seed=unseeded.seed))
    assert [unseeded.choose(SCORES) for _ in range(40)] == [told.choose(SCORES) for _ in range(40)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        Sampler(Sampling()).choose(np.array([0.0, value], np.float32))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0, expected at least 1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Sampling(**values)  # type: ignore[arg-type]
