from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from edgekit.bridge import from_tf_keras, lessons, teach, to_tf_keras
from edgekit.errors import ConfigError, ModelError
from tests.bridge.models import apart, random_inputs


class Scale(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, power: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="factor")

    def call(self, tensor: Any) -> Any:
        return tensor * self.factor**self.power

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


class OldScale(tf_keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, exponent: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exponent = exponent

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="random_normal", name="factor")

    def call(self, tensor: Any) -> Any:
        return tensor * self.factor**self.exponent

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "exponent": self.exponent}


class Own(keras.layers.Layer):  # type: ignore[misc]
    def call(self, tensor: Any) -> Any:
        return tensor


class SubclassedLegacy(tf_keras.Model):  # type: ignore[misc]
    def call(self, tensor: Any) -> Any:
        return tensor


@pytest.fixture(autouse=True)
def _forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "_lessons", [])


def around(layer: Any) -> Any:
    return keras.Sequential([keras.Input((4, 4, 3), name="x"), layer])


def refused(model: Any, bridge: Any = to_tf_keras) -> str:
    with pytest.raises(ModelError) as caught:
        bridge(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_taught_layer_goes_both_ways_with_its_settings_and_weights() -> None:
    teach(
        Scale, OldScale, settings=lambda config: {"exponent": config["power"]},
        back=lambda config: {"power": config["exponent"]},
    )  # fmt: skip
    model = around(Scale(power=3, name="mine"))
    there = to_tf_keras(model)
    assert isinstance(there.get_layer("mine"), OldScale)
    assert apart(model, there, random_inputs(model)) < 1e-6
    back = from_tf_keras(there)
    assert isinstance(back.get_layer("mine"), Scale)
    assert apart(model, back, random_inputs(model)) < 1e-6


def test_the_last_word_on_a_class_counts() -> None:
    teach(Scale, OldScale)
    teach(Scale, OldScale, settings=lambda config: {"exponent": config["power"]})
    assert to_tf_keras(around(Scale(power=2, name="mine"))).get_layer("mine").exponent == 2


def test_a_lesson_with_a_layer_instead_of_its_class() -> None:
    with pytest.raises(ConfigError, match=r"teach: expected a layer class, got .*; pass the class, not a layer"):
        teach(Scale, OldScale())  # type: ignore[arg-type]


def test_a_taught_layer_with_other_weights_is_named() -> None:
    teach(Scale, tf_keras.layers.PReLU)
    message = refused(around(Scale(name="mine")))
    assert message == "layer 'mine' (Scale): weights of [(3,)] do not fit its twin's [(4, 4, 3)]"


def test_a_layer_of_the_users_own_is_named_with_the_next_step() -> None:
    message = refused(around(Own(name="mine")))
    assert message.startswith("layer 'mine' (Own) has no bridge to tf_keras: there is no such layer; teach the bridge")
    nested = keras.Sequential([keras.Input((4, 4, 3)), Own(name="deep")], name="inner")
    assert "layer 'deep' (Own)" in refused(around(nested))


def test_an_operator_without_a_bridge_is_named() -> None:
    x = keras.Input((4, 4), name="x")
    assert "(Det) has no bridge to tf_keras" in refused(keras.Model(x, keras.ops.det(x)))
    legacy = tf_keras.Input((4, 4), name="x")
    message = refused(tf_keras.Model(legacy, tf.linalg.det(legacy)), from_tf_keras)
    assert "the TensorFlow call linalg.det has no bridge to Keras 3" in message


def test_a_setting_without_a_counterpart_is_named() -> None:
    x = keras.Input((4, 6), name="x")
    attention = keras.layers.MultiHeadAttention(2, 3, use_gate=True, name="gated")
    assert "layer 'gated' (MultiHeadAttention): setting use_gate=True" in refused(keras.Model(x, attention(x, x)))


def test_an_activation_or_regularizer_of_the_users_own_is_named() -> None:
    def double(tensor: Any) -> Any:
        return 2 * tensor

    x = tf_keras.Input((4,), name="x")
    model = tf_keras.Model(x, tf_keras.layers.Dense(2, activation=double, name="doubled")(x))
    assert "layer 'doubled' (Dense) has no bridge to keras: its activation 'double'" in refused(model, from_tf_keras)

    class Odd(keras.regularizers.Regularizer):  # type: ignore[misc]
        def __call__(self, weight: Any) -> Any:
            return keras.ops.sum(weight)

        def get_config(self) -> dict[str, Any]:
            return {}

    message = refused(around(keras.layers.Dense(2, kernel_regularizer=Odd(), name="odd")))
    assert "layer 'odd' (Dense): its kernel_regularizer Odd is not one of Keras's own" in message


def test_models_without_a_graph_are_refused() -> None:
    model = SubclassedLegacy(name="sub")
    model(np.ones((1, 2), np.float32))
    message = refused(model, from_tf_keras)
    assert "model 'sub' (SubclassedLegacy) has no layer graph" in message
    assert "or convert it after training without edgekit" in message
    assert "has no layer graph" in refused(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"))


def test_a_model_that_keras_itself_quantized() -> None:
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(8, name="small")])
    model.get_layer("small").quantize("int8")
    assert "layer 'small' (Dense) was quantized by Keras's own quantize()" in refused(model)
