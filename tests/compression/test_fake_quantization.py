from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.compression.canonical import canonical
from edgekit.compression.fake_quantization import Simulation, trained_simulation
from edgekit.compression.grids import FLOAT_BITS, Grid
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, describe
from tests.keras_models import folding, pair, samples, shaken


def observed(loaded: LoadedModel) -> Simulation:
    """A simulation that has seen some data."""
    simulation = Simulation(loaded)
    simulation.observe(loaded.pack(samples(loaded.model, 64)))
    return simulation


def finished(loaded: LoadedModel) -> LoadedModel:
    """The model on its grids, with observed ranges."""
    simulation = observed(loaded)
    simulation.snap()
    return replace(loaded, activation_ranges=simulation.ranges())


def one_layer(layer: Any, *shape: int, dtype: str = "float32") -> LoadedModel:
    model = keras.Sequential([keras.Input(shape, name="x", dtype=dtype), layer])
    generator = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(generator.normal(0, 0.4, weight.shape))
    return describe(model)


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((got - wanted) ** 2)))


@pytest.mark.parametrize("make", [folding, pair])
def test_the_simulation_equals_the_model_within_quantization_error(make: Any) -> None:
    plain = finished(canonical(describe(make())))
    simulation = trained_simulation(plain)
    columns = samples(plain.model, 64)
    simulated = keras.tree.flatten(simulation.model.predict(plain.pack(columns), verbose=0))
    for (name, wanted), got in zip(plain.predict(columns).items(), simulated, strict=True):
        assert not np.array_equal(got, wanted), name
        assert snr_db(wanted, got) > 25, name


def test_simulated_probabilities_lie_on_the_output_grid() -> None:
    folded = canonical(describe(folding()))
    outputs = observed(folded).model.predict(samples(folded.model)["image"], verbose=0) * 256
    np.testing.assert_allclose(outputs, np.rint(outputs), atol=1e-4)


def test_ranges_are_found_where_integer_kernels_have_them() -> None:
    ranges = observed(canonical(describe(pair()))).ranges()
    assert set(ranges) == {
        *("left", "right", "conv", "linear", "merged", "pooled", "shared", "widen", "both"),
        *("classes_linear", "classes", "score_linear", "score"),
    }
    assert all(low <= 0 <= high and low < high for low, high in ranges.values())
    assert ranges["classes"] == ranges["score"] == (0.0, 255 / 256)
    assert ranges["merged"][0] == 0


def test_the_range_of_a_first_batch_is_its_minimum_and_maximum() -> None:
    loaded = describe(keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, name="scores")]))
    columns = samples(loaded.model, 64)
    simulation = Simulation(loaded)
    simulation.model(loaded.pack(columns), training=True)
    assert simulation.ranges()["x"] == pytest.approx((columns["x"].min(), columns["x"].max()))


def test_known_ranges_are_set_and_kept() -> None:
    folded = canonical(describe(folding()))
    ranges = observed(folded).ranges()
    again = Simulation(folded, ranges)
    again.model.predict(samples(folded.model)["image"], verbose=0)
    assert again.ranges() == ranges


KERNELS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: layers.Conv1D(6, 3, padding="causal", name="k"), (12, 4)),
    (lambda: layers.Conv1D(6, 3, dilation_rate=2, name="k"), (12, 4)),
    (lambda: layers.Conv2D(6, 3, strides=(2, 1), name="k"), (8, 8, 4)),
    (lambda: layers.Conv2D(6, 3, groups=2, padding="same", name="k"), (8, 8, 4)),
    (lambda: layers.Conv2D(8, 3, groups=4, padding="same", name="k"), (8, 8, 4)),
    (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2, name="k"), (8, 4)),
    (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, name="k"), (8, 8, 4)),
    (lambda: layers.SeparableConv1D(5, 3, name="k"), (8, 4)),
    (lambda: layers.SeparableConv2D(5, 3, padding="same", name="k"), (8, 8, 4)),
    (lambda: layers.Conv1DTranspose(5, 3, strides=2, name="k"), (8, 4)),
    (lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same", name="k"), (8, 8, 4)),
    (lambda: layers.Dense(6, activation="relu", name="k"), (5,)),
    (lambda: layers.Dense(6, name="k"), (3, 2, 5)),
    (lambda: layers.EinsumDense("abc,cde->abde", (3, 2, 6), bias_axes="e", name="k"), (3, 5)),
    (lambda: layers.EinsumDense("abcd,cde->abe", (3, 6), bias_axes="e", name="k"), (3, 2, 5)),
    (lambda: layers.EinsumDense("abc,dc->abd", (3, 6), name="k"), (3, 5)),
    (lambda: layers.TimeDistributed(layers.Conv2D(3, 3, name="inner"), name="k"), (4, 6, 6, 2)),
    (lambda: layers.LSTM(6, name="k"), (5, 3)),
    (lambda: layers.GRU(6, return_sequences=True, name="k"), (5, 3)),
    (lambda: layers.SimpleRNN(6, name="k"), (5, 3)),
    (lambda: layers.Bidirectional(layers.LSTM(4), name="k"), (5, 3)),
    (lambda: layers.TimeDistributed(keras.Sequential([layers.Dense(3, name="inner")]), name="k"), (4, 6)),
]


@pytest.mark.parametrize(("make", "shape"), KERNELS)
def test_a_simulated_layer_computes_with_its_snapped_kernels_and_keeps_its_own(make: Any, shape: Any) -> None:
    loaded = one_layer(make(), *shape)
    simulation, before = observed(loaded), loaded.model.get_weights()
    columns = samples(loaded.model)
    simulated = simulation.model(loaded.pack(columns))
    for weight, own in zip(loaded.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, own)
    plain = loaded.model(columns["x"])
    simulation.snap()
    assert any(not np.array_equal(a, b) for a, b in zip(loaded.model.get_weights(), before, strict=True))
    snapped = loaded.model(columns["x"])
    assert simulated.shape == snapped.shape
    # What is left is the rounding of the input and of the outputs.
    assert 30 < snr_db(np.asarray(snapped), np.asarray(simulated)) < 90
    assert np.abs(np.asarray(plain) - np.asarray(snapped)).max() > 1e-4


def test_dropout_inside_a_recurrent_layer_goes_on_from_batch_to_batch() -> None:
    loaded = one_layer(layers.LSTM(6, dropout=0.5, seed=1, name="memory"), 5, 3)
    simulation, columns = observed(loaded), samples(loaded.model)
    first, second = (np.asarray(simulation.model(columns["x"], training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize(("make", "shape"), [KERNELS[2], KERNELS[6], KERNELS[11]])
def test_training_rounds_as_snapping_does(make: Any, shape: Any, bits: int) -> None:
    loaded = one_layer(make(), *shape)
    name = loaded.model.layers[-1].name
    columns = samples(loaded.model)
    simulation = Simulation(loaded, bits={name: bits})
    simulation.observe(loaded.pack(columns))
    simulated = np.asarray(simulation.model(loaded.pack(columns)))
    simulation.snap()
    final = replace(loaded, activation_ranges=simulation.ranges(), weight_bits={name: bits})
    again = np.asarray(trained_simulation(final).model(loaded.pack(columns)))
    low, high = simulation.ranges()[name]
    assert np.abs(simulated - again).max() <= 1.01 * (high - low) / 255


def test_an_embedding_is_rounded_with_one_scale() -> None:
    model = keras.Sequential([keras.Input((9,), dtype="int32", name="x"), layers.Embedding(9, 4, name="table")])
    loaded, tokens = describe(model), np.arange(9, dtype=np.int32)[None]
    simulation = Simulation(loaded)
    simulation.observe(tokens)
    simulation.snap()
    table = np.asarray(model.get_layer("table").embeddings)
    assert Grid().scales(table) is not None
    final = trained_simulation(replace(loaded, activation_ranges=simulation.ranges()))
    np.testing.assert_allclose(final.model(tokens)[0], table, atol=1.01 * np.ptp(table) / 255)


def attention_model(**settings: Any) -> LoadedModel:
    x = keras.Input((6, 8), name="x")
    attended = layers.MultiHeadAttention(2, 4, name="attention", **settings)(x, x, use_causal_mask=True)
    model = keras.Model(x, layers.LayerNormalization(name="level")(layers.Add(name="sum")([x, attended])))
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    return describe(model)


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"use_gate": True}, {"value_dim": 3, "use_bias": False}])
def test_attention_has_ranges_for_its_projections_and_its_matmuls(settings: Any) -> None:
    loaded = finished(attention_model(**settings))
    assert loaded.activation_ranges is not None
    parts = ["query", "key", "value", "scores", "probabilities", "heads"]
    assert {f"attention/{part}" for part in parts} <= set(loaded.activation_ranges)
    assert loaded.activation_ranges["attention/probabilities"] == (0.0, 255 / 256)
    columns = samples(loaded.model)
    simulated = trained_simulation(loaded).model(columns["x"])
    assert 25 < snr_db(np.asarray(loaded.model(columns["x"])), np.asarray(simulated)) < 60


def test_masks_go_through_the_simulation() -> None:
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(9, 8, mask_zero=True, name="table")(tokens)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    loaded = describe(keras.Model(tokens, layers.Dense(2, name="scores")(x)))
    given = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 1]], np.int32)
    simulation = Simulation(loaded)
    simulation.observe(given)
    wanted = np.asarray(loaded.model(given))
    assert snr_db(wanted, np.asarray(simulation.model(given))) > 25


@pytest.mark.parametrize("activation", ["silu", "hard_silu", "hard_sigmoid", "gelu", "tanh", "elu", "leaky_relu"])
def test_activations_are_simulated(activation: str) -> None:
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(16, activation=activation, name="hidden")(x)
    loaded = canonical(describe(shaken(keras.Model(x, layers.Dense(3, name="scores")(hidden)))))
    columns = samples(loaded.model, 64)
    assert snr_db(np.asarray(loaded.model(columns["x"])), np.asarray(observed(loaded).model(columns["x"]))) > 25


def test_layers_that_scale_are_exact_but_for_the_ranges_around_them() -> None:
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaled")(image)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0], name="normal")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    loaded = describe(shaken(keras.Model(image, x)))
    columns = {"image": np.random.default_rng(0).uniform(0, 255, (16, 6, 6, 3)).astype(np.float32)}
    simulation = Simulation(loaded)
    simulation.observe(columns["image"])
    assert set(simulation.ranges()) == {"image", "rescaled", "normal", "relu"}
    assert simulation.left_float() == {}
    assert snr_db(np.asarray(loaded.model(columns["image"])), np.asarray(simulation.model(columns["image"]))) > 30


def test_what_stays_float_is_listed_with_the_reason() -> None:
    class Own(layers.Layer):  # type: ignore[misc]
        def call(self, tensor: Any) -> Any:
            return keras.ops.exp(tensor)

    x = keras.Input((6, 4), name="x")
    hidden = layers.LayerNormalization(name="level")(layers.Dense(4, name="deep")(x))
    hidden = Own(name="own")(layers.GRU(4, name="memory")(hidden))
    hidden = layers.Activation("softplus", name="soft")(keras.ops.erf(hidden))
    loaded = describe(keras.Model(x, layers.Dense(2, name="scores")(hidden)))
    simulation = Simulation(loaded, bits={"deep": FLOAT_BITS})
    reasons = simulation.left_float()
    (erf,) = (name for name in reasons if name.startswith("erf"))
    assert set(reasons) == {"deep", "level", "memory", "own", "soft", erf}
    assert reasons["deep"] == "skipped"
    assert "mean and variance" in reasons["level"]
    assert "the gates and the state stay float" in reasons["memory"]
    assert "does not know what a layer of type Own computes" in reasons["own"]
    assert "the activation softplus" in reasons["soft"]
    # a range where integers are wanted, and nowhere else: not before the Dense layer that is skipped
    assert set(simulation.ranges()) == {"level", "memory", "soft", "scores"}


def test_a_kernel_that_was_changed_after_training_is_named() -> None:
    loaded = finished(canonical(describe(folding())))
    kernel = loaded.model.get_layer("conv0").kernel
    kernel.assign(kernel + np.random.default_rng(0).normal(0, 1e-3, kernel.shape))
    with pytest.raises(ModelError, match=r"the kernel of layer 'conv0' is not on its 8-bit grid: it was changed after"):
        trained_simulation(loaded)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_ranges": {"nobody": (0.0, 1.0)}}, "trained range of 'nobody': the model has no such layer"),
        ({"activation_ranges": {"image": (0.0, 1.0)}}, "layer 'relu0' has no trained range; compress the model again"),
        ({"weight_bits": {"nobody": 4}}, "bits of 'nobody': the model has no such kernel"),
    ],
)
def test_facts_that_do_not_fit_the_model_are_named(change: Any, message: str) -> None:
    loaded = replace(finished(canonical(describe(folding()))), **change)
    with pytest.raises(ModelError, match=message):
        trained_simulation(loaded)
