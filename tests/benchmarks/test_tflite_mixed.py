"""Mixed precision of a transformer, and agreement on photos: their figures are true, on tiny models."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from benchmarks import tflite_mixed
from benchmarks.tflite_agreement import RECIPES, Recipe, is_sure, judge, spread
from edgekit.exporting import export_source
from edgekit.loading import load


def test_all_recipes_of_a_transformer_are_measured() -> None:
    model = tflite_mixed.build({"size": 8, "width": 16, "heads": 2, "blocks": 1})
    found = tflite_mixed.study(model, warmup=1, runs=2)
    assert found.pop("parameters") == model.parameters
    assert set(found) == set(tflite_mixed.RECIPES)
    decibels = {name: entry["snr_db"] for name, entry in found.items()}
    assert decibels["fp32"] > 100 > decibels["fp16"] > decibels["int8-float-io"] > 15
    assert found["int8-float-io"]["bytes"] < found["fp32"]["bytes"]
    assert all(0 < entry["median_ms"] <= entry["p90_ms"] for entry in found.values())


def test_agreement_is_with_the_classes_of_keras(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    vector = keras.Input((8,), name="image")
    model = load(keras.Model(vector, keras.layers.Dense(4, name="scores")(vector)))
    inputs = {"image": np.random.default_rng(0).normal(0, 1, (40, 8)).astype(np.float32)}
    source, scores = export_source(model, tmp_path), model.predict(inputs)
    turned = {"scores": -scores["scores"]}
    assert judge(source, Recipe("fp32"), inputs, inputs, scores)["agreement"] == 1
    assert judge(source, Recipe("fp32"), inputs, inputs, turned)["agreement"] == 0
    made = judge(source, Recipe("int8", {"calibration": "percentile"}, 8), inputs, inputs, scores)
    assert 0.5 < made["agreement"] <= 1
    assert 10 < made["snr_db"] < 60
    assert made["sure"] == np.sum(is_sure(scores["scores"])) > 0


def test_a_class_is_sure_by_its_probability() -> None:
    even = np.log(np.array([[0.25, 0.25, 0.25, 0.25], [0.4, 0.2, 0.2, 0.2]]))
    assert is_sure(even + 7).tolist() == [False, True]


def test_recipes_have_names_of_their_own_and_samples_come_from_everywhere() -> None:
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert Recipe("int8", {"calibration": "mse"}, 8).name == 'int8, calibration "mse", 8 samples'
    chosen = spread({"image": np.arange(112)}, 4)["image"]
    assert chosen.tolist() == [0, 37, 74, 111]
