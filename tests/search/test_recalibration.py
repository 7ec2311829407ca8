from __future__ import annotations

import numpy as np

from edgekit.compression import PruneChannels, compress
from edgekit.evaluation import evaluate
from edgekit.search.recalibration import recalibrate
from edgekit.search.subject import Subject


def test_averages_are_those_of_the_samples_and_nothing_else_changes(subject: Subject) -> None:
    cut = compress(subject.model, PruneChannels(0.5, 0, round_to=1))
    before = [np.asarray(weight) for weight in cut.model.trainable_variables]
    norm = cut.model.get_layer("depthwise_norm")
    rate, momentum = cut.model.get_layer("dropout").rate, norm.momentum
    recalibrate(cut, subject.calibration.first(100))
    conv = cut.model.get_layer("conv")
    made = np.asarray(conv(subject.calibration.first(100).inputs["image"]))
    first = cut.model.get_layer("norm")
    batches = [made[:64].mean(axis=(0, 1, 2)), made[64:].mean(axis=(0, 1, 2))]
    np.testing.assert_allclose(np.asarray(first.moving_mean), np.mean(batches, axis=0), rtol=1e-4, atol=1e-5)
    assert (cut.model.get_layer("dropout").rate, norm.momentum) == (rate, momentum)
    for weight, kept in zip(cut.model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), kept)


def test_a_cut_model_looks_better_with_averages_of_its_own(subject: Subject) -> None:
    cut = compress(subject.model, PruneChannels(0.25, 0, round_to=1))
    before = evaluate(cut.predict, subject.validation, subject.metric)
    recalibrate(cut, subject.calibration)
    assert evaluate(cut.predict, subject.validation, subject.metric) >= before
