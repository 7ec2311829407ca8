"""The step as a whole: what goes, what is kept, what is said, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression.channels import prune_channels
from edgekit.compression.channels.choosing import kept_units
from edgekit.compression.macs import macs
from edgekit.compression.steps import PruneChannels
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import LoadedModel, describe
from tests.conftest import Digits
from tests.keras_models import samples, shaken

Columns = dict[str, np.ndarray]


@pytest.fixture
def training(few: Columns) -> Training:
    return Training(Data({"image": few["image"]}, few["y"], "training data"))


def cut(model: LoadedModel | Any, **settings: Any) -> LoadedModel:
    loaded = model if isinstance(model, LoadedModel) else describe(model)
    return prune_channels(loaded, PruneChannels(**{"epochs": 0, **settings}), Training())


def widths(loaded: LoadedModel, *names: str) -> list[int]:
    return [loaded.model.get_layer(name).output.shape[-1] for name in names]


def perceptron(*units: int) -> Any:
    x = outputs = keras.Input((8,), name="x")
    for index, count in enumerate(units):
        outputs = layers.Dense(count, activation="relu", name=f"dense_{index}")(outputs)
    return shaken(keras.Model(x, layers.Dense(3, name="scores")(outputs), name="perceptron"))


def test_half_of_each_layers_channels_go() -> None:
    pruned = cut(perceptron(32, 64), ratio=0.5)
    assert widths(pruned, "dense_0", "dense_1", "scores") == [16, 32, 3]


@pytest.mark.parametrize(
    ("total", "ratio", "multiple", "expected"),
    [
        (64, 0.5, 8, 32),
        (24, 0.5, 8, 16),  # the nearer multiple; a half of it rounds up
        (16, 0.2, 8, 16),
        (16, 0.9, 8, 8),
        (12, 0.5, 8, 6),  # fewer than two multiples: not rounded to one
        (12, 0.99, 8, 1),
        (20, 0.5, 8, 8),
        (100, 0.3, 1, 70),
        (100, 0.999, 1, 1),
    ],
)
def test_the_rounding_rule(total: int, ratio: float, multiple: int, expected: int) -> None:
    assert kept_units(total, ratio, multiple) == expected


def test_the_result_is_an_ordinary_keras_model(loaded: LoadedModel, digits: Digits, tmp_path: Path) -> None:
    pruned = cut(loaded, ratio=0.5)
    assert pruned.parameters < loaded.parameters
    assert widths(pruned, "conv") == [4]
    pruned.save(tmp_path / "small.keras")
    plain = keras.saving.load_model(tmp_path / "small.keras")
    images = digits.test["image"][:16]
    np.testing.assert_array_equal(plain(images), pruned.model(images))
    assert not pruned.model.compiled
    assert pruned.inputs == loaded.inputs
    assert pruned.outputs == loaded.outputs


def test_the_given_model_is_left_as_it_is(training: Training) -> None:
    model = perceptron(16)
    model.compile(optimizer="sgd", loss="mse")
    before, nodes = model.get_weights(), len(model.get_layer("dense_0")._inbound_nodes)
    cut(model, ratio=0.5)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert len(model.get_layer("dense_0")._inbound_nodes) == nodes
    assert model.compiled


def test_small_weights_go_and_large_ones_stay() -> None:
    model = perceptron(8)
    kernel, bias = (np.array(weight) for weight in model.get_layer("dense_0").get_weights())
    kernel[:, ::2] /= 100
    model.get_layer("dense_0").set_weights([kernel, bias])
    pruned = cut(model, ratio=0.5)
    np.testing.assert_array_equal(pruned.model.get_layer("dense_0").kernel, kernel[:, 1::2])
    np.testing.assert_array_equal(pruned.model.get_layer("dense_0").bias, bias[1::2])


def test_weights_that_read_a_channel_count_too() -> None:
    model = perceptron(8)
    kernel, bias = model.get_layer("dense_0").get_weights()
    kernel = np.where(kernel < 0, -1, 1).astype(np.float32)  # nothing to choose between
    model.get_layer("dense_0").set_weights([kernel, bias])
    head = model.get_layer("scores")
    head.set_weights([np.arange(1, 9)[:, None] * np.ones((8, 3)), np.zeros(3)])
    pruned = cut(model, ratio=0.5)
    np.testing.assert_array_equal(np.asarray(pruned.model.get_layer("scores").kernel)[:, 0], [5, 6, 7, 8])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_norms_differ_where_one_weight_is_large(norm: str) -> None:
    """(3, 0) against (2, 2): L1 prefers the second, L2 the first."""
    x = keras.Input((2,), name="x")
    model = keras.Model(x, layers.Dense(2, name="scores")(layers.Dense(2, name="hidden", use_bias=False)(x)))
    model.get_layer("hidden").set_weights([np.array([[3.0, 2.0], [0.0, 2.0]])])
    model.get_layer("scores").set_weights([np.ones((2, 2)), np.zeros(2)])
    pruned = cut(model, ratio=0.5, norm=norm)
    assert np.asarray(pruned.model.get_layer("hidden").kernel).ravel().tolist() == ([2, 2] if norm == "l1" else [3, 0])


@pytest.mark.parametrize("importance", ["magnitude", "gradient", "taylor", "random"])
def test_every_importance_cuts_as_much(loaded: LoadedModel, training: Training, importance: Any) -> None:
    step = PruneChannels(ratio=0.5, epochs=0, importance=importance)
    pruned = prune_channels(loaded, step, training)
    assert widths(pruned, "conv") == [4]
    again = prune_channels(loaded, step, training)
    assert all(np.array_equal(a, b) for a, b in zip(pruned.model.get_weights(), again.model.get_weights(), strict=True))


def test_taylor_removes_what_the_loss_does_not_miss(loaded: LoadedModel, training: Training) -> None:
    """A channel with large weights whose result the network ignores."""
    model = keras.models.clone_model(loaded.model)
    model.set_weights(loaded.model.get_weights())
    norm, conv = model.get_layer("depthwise_norm"), model.get_layer("conv")
    gamma, beta, mean, variance = norm.get_weights()
    gamma[3], beta[3] = 0, -1  # dead behind its ReLU
    norm.set_weights([gamma, beta, mean, variance])
    kernel = conv.get_weights()[0]
    kernel[..., 3] *= 100
    conv.set_weights([kernel])
    pruned = prune_channels(describe(model), PruneChannels(ratio=0.1, epochs=0, importance="taylor"), training)
    kept = np.asarray(pruned.model.get_layer("conv").kernel)
    np.testing.assert_array_equal(kept, np.delete(kernel, 3, axis=-1))


def test_fine_tuning_brings_accuracy_back(loaded: LoadedModel, digits: Digits) -> None:
    training = Training(Data({"image": digits.train["image"]}, digits.train["y"], "training data"))

    def accuracy(model: LoadedModel) -> float:
        return float((model.model.predict(digits.test["image"], verbose=0).argmax(1) == digits.test["y"]).mean())

    rough = accuracy(cut(loaded, ratio=0.5))
    tuned = prune_channels(loaded, PruneChannels(ratio=0.5, epochs=4, learning_rate=5e-3), training)
    assert accuracy(tuned) > rough + 0.05
    assert accuracy(tuned) > accuracy(loaded) - 0.05


def test_heads_of_attention_go_whole() -> None:
    pruned = cut(zoo.build("transformer"), ratio=0.5)
    attention = pruned.model.get_layer("attention_0")
    assert (attention.num_heads, attention.key_dim) == (2, 8)
    assert widths(pruned, "widen_0", "narrow_0") == [64, 32]
    reasons = {note.layer: note.text for note in pruned.notes}
    assert reasons["narrow_0"].startswith("all 32 channels stay: 'attention_norm_0' (LayerNormalization) takes its")


def test_heads_are_not_rounded_to_multiples() -> None:
    x = keras.Input((4, 8), name="x")
    model = keras.Model(x, layers.Dense(2)(layers.MultiHeadAttention(16, 2, name="attention")(x, x)))
    assert cut(model, ratio=0.25).model.get_layer("attention").num_heads == 12


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("budget", ["max_parameters", "max_macs"])
def test_a_budget_is_met_and_used(scope: str, budget: str) -> None:
    model = zoo.build("Conv1D")
    measure = {"max_parameters": lambda kept: kept.parameters, "max_macs": lambda kept: macs(kept.model)}[budget]
    limit = measure(describe(model)) // 2
    pruned = cut(model, **{budget: limit, "scope": scope, "round_to": 1})
    assert 0.85 * limit < measure(pruned) <= limit
    assert f"{measure(pruned):,}" in pruned.notes[-1].text


def test_a_budget_that_is_met_already_cuts_nothing() -> None:
    model = perceptron(16)
    assert cut(model, max_parameters=1000).parameters == model.count_params()


def test_a_global_ratio_takes_from_where_it_hurts_least() -> None:
    model = perceptron(32, 32)
    for name, scale in (("dense_0", np.r_[np.full(28, 0.001), np.ones(4)]), ("dense_1", np.ones(32))):
        layer = model.get_layer(name)
        layer.set_weights([layer.kernel * scale, layer.bias])
    pruned = cut(model, ratio=0.5, scope="global", round_to=1)
    narrow, wide = widths(pruned, "dense_0", "dense_1")
    assert narrow + wide == pytest.approx(32, abs=2)
    assert narrow < 10


def test_layers_can_be_skipped_or_have_ratios_of_their_own() -> None:
    pruned = cut(perceptron(32, 32, 32), ratio=0.5, layers={"dense_1": "skip", "dense_2": {"ratio": 0.75}})
    assert widths(pruned, "dense_0", "dense_1", "dense_2") == [16, 32, 8]
    assert [str(note) for note in pruned.notes[:1]] == [
        "prune-channels: dense_1: all 32 channels stay: the recipe skips them"
    ]


def test_a_ratio_of_its_own_stands_beside_a_budget() -> None:
    pruned = cut(perceptron(32, 32), max_parameters=800, layers={"dense_1": {"ratio": 0.25}})
    assert widths(pruned, "dense_1") == [24]
    assert pruned.parameters <= 800


def test_layers_that_share_channels_cannot_have_different_ratios() -> None:
    x = keras.Input((4,), name="x")
    both = layers.Dense(8, name="left")(x) + layers.Dense(8, name="right")(x)
    model = keras.Model(x, layers.Dense(2, name="scores")(both))
    with pytest.raises(
        ConfigError, match=r"'left' and 'right' keep the same channels, but ask for ratios of 0\.5 and 0"
    ):
        cut(model, ratio=0.5, layers={"left": {"ratio": 0.5}, "right": {"ratio": 0.25}})
    assert widths(cut(model, ratio=0.5, layers={"left": "skip"}), "left", "right") == [8, 8]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1.0}, r"PruneChannels\.ratio is a fraction in \(0, 1\), got 1"),
        ({"ratio": 50}, r"got 50; for 50 % write 0\.5"),
        ({}, r"PruneChannels needs exactly one of ratio, max_parameters or max_macs"),
        ({"max_parameters": 9, "max_macs": 9}, r"exactly one of"),
        ({"max_macs": 0}, r"PruneChannels\.max_macs must be a whole number, 1 or more"),
        ({"ratio": 0.5, "importance": "taylr"}, r"did you mean 'taylor'"),
    ],
)
def test_settings_that_cannot_be(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruneChannels(**settings)


def test_a_budget_out_of_reach_says_what_is_in_reach() -> None:
    model = perceptron(32)
    smallest = 8 * 8 + 8 + 8 * 3 + 3
    with pytest.raises(ConfigError, match=rf"max_parameters is 50, but cutting alone leaves {smallest} or more of 387"):
        cut(model, max_parameters=50)
    assert cut(model, max_parameters=smallest).parameters == smallest
    with pytest.raises(ConfigError, match=r"leaves 15 or more .*, or skip fewer layers"):
        cut(model, max_parameters=14, round_to=1, layers={"scores": {"ratio": 0.5}})


def test_a_pattern_that_matches_nothing() -> None:
    with pytest.raises(ConfigError, match=r"layers\['dense_7'\] matches no layer of this step; did you mean 'dense_0'"):
        cut(perceptron(8), ratio=0.5, layers={"dense_7": "skip"})


def test_a_model_without_anything_to_cut() -> None:
    with pytest.raises(ModelError, match=r"nothing in model 'perceptron' can be cut: 'scores' all 3 channels stay"):
        cut(perceptron(), ratio=0.5)


@pytest.mark.parametrize("settings", [{"epochs": 1}, {"importance": "taylor"}])
def test_data_that_is_needed_and_missing(loaded: LoadedModel, settings: Any) -> None:
    with pytest.raises(DataError, match="data"):
        cut(loaded, ratio=0.5, **settings)


def test_steps_before_and_after_compose(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    recipe = (
        edgekit.Prune(0.5, epochs=0),
        edgekit.PruneChannels(ratio=0.5, epochs=1),
        edgekit.QuantizeAware(epochs=1),
    )
    small = edgekit.compress(loaded, *recipe, data=few, checkpoints=tmp_path)
    assert small.model.get_layer("conv").filters == 4
    assert small.sparsity > 0.3
    assert any(note.step == "prune-channels" and "multiply-accumulates became" in note.text for note in small.notes)
    again = edgekit.compress(loaded, *recipe, data=few, checkpoints=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(small.model.get_weights(), again.model.get_weights(), strict=True))


def test_nested_models_are_cut_inside() -> None:
    model = zoo.build("nested")
    pruned = cut(model, ratio=0.5)
    assert widths(pruned, "stem", "project") == [6, 8]
    assert [spec.name for spec in pruned.outputs] == ["head"]
    assert samples(model).keys() == {spec.name for spec in pruned.inputs}
