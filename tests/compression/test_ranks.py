from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgekit.compression.ranks import Spectrum, least_weights, ranks_within


def spectrum(rows: int, columns: int, decay: float) -> Spectrum:
    return Spectrum(rows, columns, np.exp(-decay * np.arange(min(rows, columns))).astype(np.float32))


def test_a_rank_saves_only_below_its_limit() -> None:
    subject = spectrum(10, 15, 0.1)
    assert subject.most == 5
    assert (subject.weights(5), subject.weights(0)) == (125, 150)
    assert subject.weights(6) == subject.size  # which saves nothing
    assert spectrum(1, 10, 1).most == 0


@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.9, 2), (0.95, 3), (1.0, 3)])
def test_energy_is_of_the_squared_singular_values(energy: float, rank: int) -> None:
    subject = Spectrum(4, 4, np.array([3.0, 2.0, 1.0, 1e-9], np.float32))  # squares 9, 4, 1: 64 %, 93 %, 100 %
    assert subject.rank_of_energy(energy) == rank
    assert subject.energy(2) == pytest.approx(13 / 14)
    assert subject.energy(0) == 1


def test_a_kernel_of_zeros_has_rank_one() -> None:
    assert Spectrum(4, 4, np.zeros(4, np.float32)).rank_of_energy(0.9) == 1


def lost(spectra: dict[str, Spectrum], ranks: dict[str, int]) -> float:
    return sum(1 - spectrum.energy(ranks[name]) for name, spectrum in spectra.items())


def weights(spectra: dict[str, Spectrum], ranks: dict[str, int]) -> int:
    return sum(spectrum.weights(ranks[name]) for name, spectrum in spectra.items())


@pytest.mark.parametrize("budget", [60, 120, 200, 280, 330, 392])
def test_the_budget_is_kept_at_nearly_the_least_loss_there_is(budget: int) -> None:
    spectra = {"steep": spectrum(12, 12, 1.0), "flat": spectrum(10, 20, 0.02), "small": spectrum(6, 8, 0.3)}
    found = ranks_within(spectra, budget) if budget >= least_weights(spectra) else None
    choices = [range(item.most + 1) for item in spectra.values()]
    fitting = [dict(zip(spectra, ranks, strict=True)) for ranks in itertools.product(*choices)]
    fitting = [ranks for ranks in fitting if weights(spectra, ranks) <= budget]
    assert (found is None) == (not fitting)
    if found is not None:
        assert weights(spectra, found) <= budget
        assert lost(spectra, found) <= min(lost(spectra, ranks) for ranks in fitting) + 0.1


def test_a_budget_that_is_met_leaves_all_whole() -> None:
    spectra = {"a": spectrum(12, 12, 1.0)}
    assert ranks_within(spectra, 144) == {"a": 0}
