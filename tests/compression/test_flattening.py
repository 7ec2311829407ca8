from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression.copying import copied
from edgekit.compression.flattening import flat
from edgekit.errors import ModelError
from edgekit.loading import describe
from tests.keras_models import pair, samples

QUICK = ("transformer", "LSTM", "BiGRU", "Conv1D", "siamese", "nested", "several", "MobileNetV3Small")


def outputs(model: Any, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return describe(model).predict(columns)


def same(model: Any, copy: Any, columns: dict[str, np.ndarray]) -> None:
    wanted, got = outputs(model, columns), outputs(copy, columns)
    assert list(wanted) == list(got)
    for name in wanted:
        np.testing.assert_array_equal(wanted[name], got[name])


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in zoo.ARCHITECTURES]
)
def test_every_architecture_gives_the_same_outputs_without_nested_models(name: str) -> None:
    model = zoo.build(name)
    nodes = [len(operation._inbound_nodes) + len(operation._outbound_nodes) for operation in model.operations]
    copy = flat(model)
    assert nodes == [len(operation._inbound_nodes) + len(operation._outbound_nodes) for operation in model.operations]
    assert not any(isinstance(layer, keras.Model) for layer in copy.layers)
    assert copy.count_params() == model.count_params()
    same(model, copy, zoo.inputs(model, 2))


def test_the_copy_has_weights_of_its_own_and_no_optimizer() -> None:
    model = pair()
    model.compile(optimizer="sgd", loss="mse")
    before = model.get_weights()
    copy = flat(model)
    copy.set_weights([weight + 1 for weight in copy.get_weights()])
    assert all(np.array_equal(kept, weight) for kept, weight in zip(before, model.get_weights(), strict=True))
    assert model.compiled
    assert not copy.compiled
    assert [tensor.name for tensor in copy.inputs] == ["left", "right"]
    assert copy.output_names == ["classes", "score"]


def test_a_shared_encoder_stays_shared() -> None:
    copy = flat(zoo.build("siamese"))
    assert len(copy.get_layer("hidden")._inbound_nodes) == 2
    assert copy.count_params() == zoo.build("siamese").count_params()


def test_names_that_clash_get_the_name_of_their_model_before_them() -> None:
    def inner(name: str) -> Any:
        return keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")], name=name)

    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="dense")(inner("second")(inner("first")(x))), name="outer")
    copy = flat(model)
    assert [layer.name for layer in copy.layers] == ["x", "first_dense", "second_dense", "dense"]
    same(model, copy, samples(model))


def test_outputs_that_nested_models_make_keep_their_names() -> None:
    inside = keras.Input((4,), name="inside")
    ends = [layers.Dense(2, name="a")(inside), layers.Dense(3, name="b")(inside), inside]
    inner = keras.Model(inside, ends, name="heads")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, inner(layers.ReLU(name="relu")(x)))
    copy = flat(model)
    assert copy.output_names == ["heads", "heads_1", "heads_2"]
    same(model, copy, samples(model))


def test_dicts_stay_dicts() -> None:
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    inner = keras.Model({"right": right, "left": left}, {"sum": left + 2 * right, "left": layers.Dense(2)(left)})
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    found = inner({"right": a, "left": b})
    model = keras.Model({"a": a, "b": b}, {"out": layers.Dense(2, name="out")(found["sum"]), "left": found["left"]})
    copy = flat(model)
    assert isinstance(copy.input, dict)
    assert isinstance(copy.output, dict)
    columns = {"a": np.ones((2, 3), np.float32), "b": np.full((2, 3), 5, np.float32)}
    for name, wanted in model(columns).items():
        np.testing.assert_array_equal(wanted, copy(columns)[name])


@pytest.mark.parametrize("training", [None, True])
def test_training_runs_alike_down_to_the_random_numbers(training: bool | None) -> None:
    stack = [keras.Input((4,)), layers.BatchNormalization(name="norm"), layers.Dropout(0.5, name="dropout")]
    base = keras.Sequential(stack, name="base")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="head")(base(x, training=True)))
    copy = flat(model)
    values = np.random.default_rng(0).normal(3, 1, (8, 4)).astype(np.float32)
    found = np.asarray(model(values, training=training))
    np.testing.assert_array_equal(found, copy(values, training=training))
    assert np.abs(found - model(values, training=False)).max() > 0.1  # else it would show nothing


@pytest.mark.filterwarnings("ignore:Layer 'inner'.*was passed an input with a mask")  # Keras's, of the original
def test_a_mask_reaches_the_layers_behind_it() -> None:
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    inner = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3, name="lstm")], name="inner")
    model = keras.Model(tokens, inner(layers.Embedding(9, 4, mask_zero=True, name="embedding")(tokens)))
    columns = {"tokens": np.array([[1, 2, 0, 0, 0], [3, 0, 0, 0, 0]], np.int32)}
    same(model, flat(model), columns)


def test_adapted_preprocessing_is_state_too() -> None:
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(np.random.default_rng(0).normal(5, 3, (64, 4)).astype(np.float32))
    inner = keras.Sequential([keras.Input((4,)), normalization], name="inner")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="head")(inner(x)))
    same(model, flat(model), samples(model))


def test_constants_and_operations_are_kept() -> None:
    x = keras.Input((4, 6), name="x")
    shifted = keras.ops.transpose(x + np.arange(6, dtype=np.float32), (0, 2, 1))
    model = keras.Model(x, layers.Dense(2, name="head")(keras.ops.relu(1.0 - shifted)[:, 0]))
    same(model, flat(model), samples(model))


class Secretive(layers.Layer):  # type: ignore[misc]
    def __init__(self, units: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def call(self, tensor: Any) -> Any:
        return tensor * self.units()

    def get_config(self) -> dict[str, Any]:
        return dict(super().get_config())


def test_a_copy_of_a_model_with_a_function_stays_nested() -> None:
    inner = keras.Input((4,), name="y")
    doubled = layers.Lambda(lambda y: y * 2, name="doubled")
    nested = keras.Model(inner, layers.Dense(4, name="dense")(doubled(inner)), name="nested")
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="scores")(nested(x)))
    copy = copied(model)
    same(model, copy, {"x": np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)})
    assert [layer.name for layer in copy.get_layer("nested").layers] == ["y", "doubled", "dense"]


def test_a_layer_that_cannot_tell_its_config_is_named_when_compression_begins() -> None:
    class Failing(layers.Layer):  # type: ignore[misc]
        def call(self, tensor: Any) -> Any:
            return tensor

        def get_config(self) -> dict[str, Any]:
            raise RuntimeError("my bug")

    inner = keras.Input((4,), name="y")
    nested = keras.Model(inner, Failing(name="mine")(inner), name="nested")
    x = keras.Input((4,), name="x")
    with pytest.raises(ModelError, match=r"layer 'mine' \(Failing\) cannot tell its config \(my bug\)"):
        edgekit.compress(keras.Model(x, layers.Dense(2)(nested(x))), edgekit.Prune(0.5, epochs=0))


def test_a_layer_without_a_config_is_named() -> None:
    x = keras.Input((4,), name="x")
    with pytest.raises(ModelError, match=r"layer 'mine' \(Secretive\) cannot be made again from its config"):
        flat(keras.Model(x, Secretive(lambda: 2, name="mine")(x)))
