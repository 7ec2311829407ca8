from __future__ import annotations

import numpy as np
import pytest

from edgekit.compression.grids import Grid, shares_values

LEVELS = {8: 127, 4: 7, 2: 1}


def kernel(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize(("shape", "channel_axes"), [((3, 3, 8, 6), 1), ((3, 3, 8, 2), 2), ((20, 6), 0)])
def test_a_snapped_kernel_lies_on_its_grid(bits: int, shape: tuple[int, ...], channel_axes: int) -> None:
    grid = Grid(bits, channel_axes)
    snapped = grid.snap(kernel(*shape))
    scales = grid.scales(snapped)
    assert grid.levels == LEVELS[bits]
    assert scales is not None
    assert scales.shape == (*(1,) * (len(shape) - channel_axes), *shape[len(shape) - channel_axes :])
    stored = snapped / scales
    np.testing.assert_allclose(stored, np.rint(stored), atol=1e-3)
    assert np.abs(np.rint(stored)).max() == LEVELS[bits]
    per_scale = np.rint(stored).reshape(-1, int(np.prod(shape[len(shape) - channel_axes :])))
    assert all(len(np.unique(column)) <= 2 * LEVELS[bits] + 1 for column in per_scale.T)


def test_at_8_bits_the_largest_weight_stays_and_no_weight_moves_more_than_half_a_step() -> None:
    weights, grid = kernel(3, 3, 4, 5), Grid(8, 1)
    largest = np.abs(weights).max(axis=(0, 1, 2))
    snapped = grid.snap(weights)
    np.testing.assert_allclose(np.abs(snapped).max(axis=(0, 1, 2)), largest, rtol=1e-6)
    assert np.all(np.abs(snapped - weights).max(axis=(0, 1, 2)) <= largest / 127 / 2 * 1.0001)
    np.testing.assert_allclose(grid.snap(snapped), snapped, rtol=1e-6)


@pytest.mark.parametrize("bits", [4, 2])
def test_few_bits_clip_so_that_less_is_lost(bits: int) -> None:
    weights, levels = kernel(400, 10), LEVELS[bits]
    step = np.abs(weights).max() / levels
    unclipped = np.rint(weights / step) * step
    snapped = Grid(bits).snap(weights)
    assert np.mean((snapped - weights) ** 2) < 0.7 * np.mean((unclipped - weights) ** 2)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_zeros_and_channels_of_zeros_stay_zero(bits: int) -> None:
    weights = kernel(3, 3, 4, 5)
    weights[..., 2] = 0
    weights[0, 0] = 0
    snapped = Grid(bits, 1).snap(weights)
    assert not snapped[..., 2].any()
    assert not snapped[0, 0].any()
    assert Grid(bits, 1).scales(snapped) is not None


def test_the_scale_of_a_channel_that_does_not_reach_its_limit_is_found() -> None:
    integers = np.random.default_rng(1).integers(-5, 6, (40, 3)).astype(np.float32)
    scales = Grid(4, 1).scales(integers * np.float32(0.02))
    assert scales is not None
    np.testing.assert_allclose(scales, 0.02, rtol=1e-5)


def test_a_kernel_on_no_grid_has_no_scales() -> None:
    assert Grid(8, 1).scales(kernel(40, 3)) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (kernel(20, 20), False),
        (np.rint(kernel(20, 20) * 10), True),
        (np.where(np.abs(kernel(20, 20)) > 0.6, kernel(20, 20), 0), False),  # pruned: zeros alone are equal
        (np.zeros((20, 20)), False),
    ],
)
def test_shared_values_are_few_and_used_often(values: np.ndarray, expected: bool) -> None:
    assert shares_values(values) is expected
