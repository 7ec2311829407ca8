from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import edgekit
from edgekit.compression.fake_quantization import trained_simulation
from edgekit.conversion import DYNAMIC_SIGNATURE, FIXED_SIGNATURE
from edgekit.errors import ConversionError, ModelError
from edgekit.exporting import export_source
from edgekit.loading import LoadedModel, describe
from tests.conftest import Digits
from tests.keras_models import pair, samples


def signature(folder: Path, name: str) -> Any:
    return tf.saved_model.load(str(folder)).signatures[name]


def test_two_inputs_and_two_outputs_keep_their_keras_names(tmp_path: Path) -> None:
    loaded = describe(pair())
    source = export_source(loaded, tmp_path)
    assert (source.inputs, source.outputs, source.trained_model) == (loaded.inputs, loaded.outputs, None)
    columns = samples(loaded.model, 5)
    dynamic = signature(source.float_model, DYNAMIC_SIGNATURE)
    outputs = dynamic(**{name: tf.constant(array) for name, array in columns.items()})
    wanted = loaded.predict(columns)
    assert set(outputs) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(outputs[name], array, atol=1e-5)


def test_the_fixed_signature_has_a_batch_of_one(loaded: LoadedModel, digits: Digits, tmp_path: Path) -> None:
    source = export_source(loaded, tmp_path)
    fixed = signature(source.float_model, FIXED_SIGNATURE)
    assert fixed.structured_input_signature[1]["image"].shape == (1, 8, 8, 1)
    assert {"conv", "depthwise_norm", "probabilities"} <= set(source.layers)
    assert loaded.name not in source.layers
    image = digits.test["image"][:1]
    wanted = loaded.predict({"image": image})["probabilities"]
    np.testing.assert_allclose(fixed(image=tf.constant(image))["probabilities"], wanted, atol=1e-5)


def test_trained_ranges_are_exported_as_the_simulation(loaded: LoadedModel, digits: Digits, tmp_path: Path) -> None:
    trained = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=1), data=digits.few(320))
    source = export_source(trained, tmp_path)
    assert source.trained_model is not None
    image = digits.test["image"]
    outputs = signature(source.trained_model, DYNAMIC_SIGNATURE)(image=tf.constant(image))["probabilities"]
    simulated = trained_simulation(trained).model.predict(image, verbose=0)
    np.testing.assert_allclose(outputs, simulated, atol=1 / 256 + 1e-5)
    plain = signature(source.float_model, DYNAMIC_SIGNATURE)(image=tf.constant(image))["probabilities"]
    np.testing.assert_allclose(plain, trained.predict({"image": image})["probabilities"], atol=1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_convolutions_are_exported_without_functions_that_onnx_lacks(groups: int, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 4), name="image")
    loaded = describe(keras.Model(image, layers.Conv2D(8, 3, groups=groups, name="grouped")(image)))
    trained = edgekit.compress(loaded, edgekit.QuantizeAware(epochs=0), data=samples(loaded.model))
    source = export_source(trained, tmp_path)
    for folder in (source.float_model, source.trained_model):
        assert folder is not None
        inner = signature(folder, FIXED_SIGNATURE).graph.as_graph_def()
        called = [node.op for function in inner.library.function for node in function.node_def]
        kernels = {"Conv2D", "DepthwiseConv2dNative"} & set(called)
        assert len(kernels) == 1
        assert not any(function.attr["_XlaMustCompile"].b for function in inner.library.function)
    assert not tf.config.functions_run_eagerly()


def test_a_model_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    class Breaks(layers.Layer):  # type: ignore[misc]
        broken = False

        def call(self, tensor: Any) -> Any:
            if self.broken:
                raise ValueError("no such thing")
            return tensor

    layer = Breaks()
    model = keras.Sequential([keras.Input((4,), name="x"), layer], name="fragile")
    loaded = describe(model)
    layer.broken = True
    with pytest.raises(ConversionError, match=r"'fragile' cannot be traced: no such thing$"):
        export_source(loaded, tmp_path)


def test_a_name_that_converters_would_change_is_refused(tmp_path: Path) -> None:
    image = keras.Input((4,), name="my image")
    model = keras.Model(image, layers.Dense(2, activation="softmax", name="scores")(image), name="my model")
    loaded = describe(model)
    assert loaded.name == "my_model"
    assert loaded.predict({"my image": np.zeros((3, 4), np.float32)})["scores"].shape == (3, 2)
    with pytest.raises(ModelError, match=r"the name of 'my image' cannot be exported: .*rename the layer"):
        export_source(loaded, tmp_path)


def test_a_model_that_keras_quantized_is_refused(tmp_path: Path) -> None:
    x = keras.Input((8,), name="x")
    model = keras.Model(x, keras.layers.Dense(4, name="scores")(x))
    model.get_layer("scores").quantize("int8")
    with pytest.raises(ModelError, match=r"layer 'scores' was quantized by Keras already \(int8\)"):
        export_source(describe(model), tmp_path)
    assert list(tmp_path.iterdir()) == []
