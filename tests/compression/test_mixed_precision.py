from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.compression.training import Training, TrainingSettings, fine_tune
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.compression.fits import assert_same, fit_for


def test_mixed_precision_computes_in_half_and_keeps_float32_weights(model: Any, training: Training) -> None:
    seen: set[str] = set()
    hook = lambda _done, _total: seen.update(layer.compute_dtype for layer in model.layers[1:])  # noqa: E731
    before = model.get_weights()
    half = replace(training, settings=TrainingSettings(mixed_precision=True))
    fine_tune(model, fit_for(model, half, after_batch=hook), half)
    assert seen == {"float16", "float32"}
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {str(weight.dtype) for weight in model.get_weights()} == {"float32"}
    moved = max(float(np.abs(a - b).max()) for a, b in zip(before, model.get_weights(), strict=True))
    assert 0 < moved < 0.5
    whole = keras.models.clone_model(model)
    whole.set_weights(before)
    fine_tune(whole, fit_for(whole, training), replace(training, checkpoints=None))
    assert any(not np.array_equal(a, b) for a, b in zip(whole.get_weights(), model.get_weights(), strict=True))
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)


def test_a_fit_may_insist_on_float32(model: Any, training: Training) -> None:
    seen: set[str] = set()
    hook = lambda _done, _total: seen.update(layer.compute_dtype for layer in model.layers)  # noqa: E731
    half = replace(training, settings=TrainingSettings(mixed_precision=True))
    fine_tune(model, fit_for(model, half, after_batch=hook, float32=True), half)
    assert seen == {"float32"}


def test_mixed_precision_goes_on_to_the_same_bits(loaded: LoadedModel, training: Training) -> None:
    half = replace(training, settings=TrainingSettings(mixed_precision=True))

    def run(training: Training) -> list[np.ndarray]:
        model = keras.models.clone_model(loaded.model)
        model.set_weights(loaded.model.get_weights())
        fine_tune(model, fit_for(model, training), training)
        weights: list[np.ndarray] = model.get_weights()
        return weights

    whole = run(replace(half, checkpoints=None))
    with pytest.raises(KeyboardInterrupt):
        run(replace(half, progress=Interrupting("fine-tune", 7)))
    assert_same(run(half), whole)
