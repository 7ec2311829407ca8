"""Layers that conversion to ONNX has to write with care, each against Keras: one model with an output for each."""

from __future__ import annotations

import keras
import numpy as np
import onnxruntime
import pytest
from edgekit_onnx import converter
from keras import layers

from edgekit.exporting import export_source
from edgekit.loading import load
from tests.keras_models import shaken

OUTPUTS = {  # in this order, which is not the alphabet's
    "wide": ("image", lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x)),
    "near": ("image", lambda x: layers.UpSampling2D(3, interpolation="nearest")(x)),
    "resized": ("image", lambda x: layers.Resizing(5, 7)(x)),
    "depth": ("image", lambda x: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)),
    "transposed": ("image", lambda x: layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)),
    "gelu": ("signal", lambda x: layers.Activation(keras.activations.gelu)(layers.Dense(6)(x))),
    "normed": ("signal", lambda x: layers.LayerNormalization()(x)),
    "attended": ("signal", lambda x: layers.MultiHeadAttention(2, 4)(x, x)),
    "lstm": ("signal", lambda x: layers.LSTM(5, return_sequences=True, name="long")(x)),
    "gru": ("signal", lambda x: layers.Bidirectional(layers.GRU(5, name="short"), name="twice")(x)),
    "embedded": ("words", lambda x: layers.Embedding(11, 4)(x)),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs of Keras and of ONNX Runtime, for a batch of 3."""
    rng, folder = np.random.default_rng(2), tmp_path_factory.mktemp("operators")
    given = {
        "words": keras.Input((7,), name="words", dtype="int32"),
        "image": keras.Input((6, 8, 3), name="image"),
        "signal": keras.Input((7, 6), name="signal"),
    }
    made = [layers.Identity(name=name)(layer(given[source])) for name, (source, layer) in OUTPUTS.items()]
    loaded = load(shaken(keras.Model(list(given.values()), made, name="operators")))
    artifact = converter.convert(
        export_source(loaded, folder), precision="fp32", calibration=None, output=folder / "x.onnx"
    )
    session = onnxruntime.InferenceSession(str(artifact.path))
    assert [value.name for value in session.get_inputs()] == list(given)
    columns = {
        "words": rng.integers(0, 11, (3, 7)).astype(np.int32),
        "image": rng.normal(0, 1, (3, 6, 8, 3)).astype(np.float32),
        "signal": rng.normal(0, 1, (3, 7, 6)).astype(np.float32),
    }
    names = [value.name for value in session.get_outputs()]
    return loaded.predict(columns), dict(zip(names, session.run(None, columns), strict=True))


def test_names_and_their_order_are_the_models(both: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> None:
    assert list(both[1]) == list(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_layer_computes_what_keras_computes(
    both: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], name: str
) -> None:
    wanted, got = both
    assert np.abs(wanted[name]).max() > 0.1
    np.testing.assert_allclose(got[name], wanted[name], atol=1e-4)
