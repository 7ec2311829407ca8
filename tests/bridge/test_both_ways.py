from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers as legacy

from benchmarks import zoo
from edgekit.bridge import from_tf_keras, to_tf_keras
from tests.bridge import models
from tests.bridge.models import apart, random_inputs

TOLERANCE = 1e-5  # of the output's scale
SMALL = {"MobileNetV2": 32, "EfficientNetB0": 32}
CHEAP = (*SMALL, "transformer", "LSTM", "BiGRU", "Conv1D", "siamese", "nested", "several")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*destroy the mask information"),  # a layer that by design hands on no mask
    pytest.mark.filterwarnings("ignore:.*initializers.serialize"),  # of tf_keras's own EfficientNetV2
]


def both_ways(model: Any, inputs: list[np.ndarray]) -> None:
    there = to_tf_keras(model)
    assert apart(model, there, inputs) < TOLERANCE
    back = from_tf_keras(there)
    assert apart(there, back, inputs) < TOLERANCE
    assert [tensor.name for tensor in back.inputs] == [tensor.name for tensor in model.inputs]


@pytest.mark.parametrize("name", CHEAP)
def test_the_zoo_is_equal_in_both_directions(name: str) -> None:
    model = zoo.build(name, size=SMALL.get(name))
    both_ways(model, list(zoo.inputs(model, 3).values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(zoo.ARCHITECTURES))
def test_the_whole_zoo_is_equal_in_both_directions(name: str) -> None:
    model = zoo.build(name)
    both_ways(model, list(zoo.inputs(model, 4).values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.ARCHITECTURES if hasattr(keras.applications, name)])
def test_networks_that_tf_keras_built_are_equal(name: str) -> None:
    model = zoo.build(name)
    shape = model.inputs[0].shape[1:]
    make = getattr(tf_keras.applications, name)
    native = make(weights=None, input_shape=shape, classes=10, classifier_activation=None)
    native.set_weights(model.get_weights())
    assert apart(native, from_tf_keras(native), list(zoo.inputs(model, 4).values())) < TOLERANCE


@pytest.mark.parametrize("make", [models.preprocessing, models.operators, models.sequences, models.structures])
def test_layers_and_operators_are_equal_in_both_directions(make: Callable[[], Any]) -> None:
    keras.utils.set_random_seed(0)
    model = make()
    both_ways(model, random_inputs(model))


def test_names_sharing_and_nesting_are_kept() -> None:
    siamese = to_tf_keras(zoo.build("siamese"))
    assert [layer.name for layer in siamese.layers].count("encoder") == 1
    assert isinstance(siamese.get_layer("encoder"), tf_keras.Model)
    assert siamese.get_layer("encoder").get_layer("code").units == 16
    several = to_tf_keras(zoo.build("several"))
    assert {"conv", "norm", "relu6", "shared", "widen", "joined", "scores", "box"} <= {x.name for x in several.layers}
    assert [tensor.name for tensor in several.inputs] == ["image", "facts"]
    assert several.output_names == ["scores", "box"]
    assert len(from_tf_keras(several).get_layer("shared")._inbound_nodes) == 2


def test_operators_become_plain_layers_where_that_is_exact() -> None:
    x = keras.Input((6,), name="x")
    model = keras.Model(x, keras.ops.relu(1.0 - 2 * x) * x + x / 3)
    kinds = sorted(type(layer).__name__ for layer in to_tf_keras(model).layers)
    assert kinds == ["Add", "InputLayer", "Multiply", "ReLU", "Rescaling", "Rescaling", "TFOpLambda"]


def test_settings_of_training_are_kept() -> None:
    keras.utils.set_random_seed(0)
    there = to_tf_keras(models.preprocessing())
    assert there.get_layer("conv").kernel_regularizer.l2 == pytest.approx(0.01)
    assert there.get_layer("norm").momentum == pytest.approx(0.8)
    back = from_tf_keras(there)
    assert isinstance(back.get_layer("conv").kernel_regularizer, keras.regularizers.L2)
    frozen = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, trainable=False, name="frozen")])
    assert not to_tf_keras(frozen).get_layer("frozen").trainable


def test_a_layer_that_augments_only_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    jitter = keras.layers.RandomColorJitter(value_range=(0, 1), brightness_factor=0.1, name="jitter")
    model = keras.Sequential([keras.Input((4, 4, 3), name="x"), jitter])
    assert apart(model, to_tf_keras(model), random_inputs(model)) == 0
    assert "layer 'jitter' (RandomColorJitter) works only while training" in caplog.text


def hard_sigmoids() -> Any:
    """tf_keras's hard_sigmoid is not Keras 3's."""
    x = tf_keras.Input((5, 4), name="x")
    stack = legacy.LSTM(3, recurrent_activation="hard_sigmoid", return_sequences=True)(x)
    stack = legacy.Bidirectional(legacy.GRU(3, recurrent_activation="hard_sigmoid", return_sequences=True))(stack)
    stack = legacy.SeparableConv1D(4, 3, activation="hard_sigmoid", name="separable")(stack)
    stack = legacy.Activation("hard_sigmoid", name="alone")(stack)
    return tf_keras.Model(x, legacy.Dense(3, activation="hard_sigmoid", name="last")(legacy.Flatten()(stack)))


def slashes_and_shapes() -> Any:
    """Names with '/', calls of TensorFlow with shapes that are computed, states in one list."""
    import tensorflow as tf

    x = tf_keras.Input((4, 6), name="in/x")
    dense = legacy.Dense(6, name="block/dense")(x)
    batch = tf.shape(dense)[0]
    flat = tf.reshape(dense, tf.stack([batch, 24]))
    summed = tf.math.add_n([dense, x]) + tf.math.squared_difference(dense, x)
    sequence, *state = legacy.LSTM(6, return_sequences=True, return_state=True)(summed)
    resumed = legacy.LSTM(6)(sequence, initial_state=state)
    outputs = [
        flat,
        resumed,
        tf.nn.l2_normalize(x, -1),
        tf.pad(x, [[0, 0], [1, 0], [0, 2]]),
        tf.matmul(x, x, False, True),
    ]
    return tf_keras.Model(x, outputs, name="slashes")


@pytest.mark.parametrize("make", [hard_sigmoids, slashes_and_shapes])
def test_what_only_tf_keras_has_becomes_plain_keras_3(make: Callable[[], Any], tmp_path: Any) -> None:
    tf_keras.utils.set_random_seed(0)
    model = make()
    inputs = random_inputs(model)
    back = from_tf_keras(model)
    assert apart(model, back, inputs) < TOLERANCE
    back.save(tmp_path / "plain.keras")
    assert apart(back, keras.saving.load_model(tmp_path / "plain.keras"), inputs) == 0


def test_a_layer_called_like_an_operator_keeps_its_name() -> None:
    x = tf_keras.Input((3,), name="x")
    names = [f"add_{number}" for number in range(60)]  # whichever number keras.ops takes next
    outputs = x + 1.0
    for name in names:
        outputs = legacy.Activation("linear", name=name)(outputs)
    back = from_tf_keras(tf_keras.Model(x, outputs + x))
    assert set(names) <= {layer.name for layer in back.layers}
