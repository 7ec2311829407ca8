"""Inputs that leave more open than the batch, given lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from edgekit.errors import ConfigError, ModelError
from edgekit.lengths import Shapes
from edgekit.loading import describe, load
from edgekit.tensors import TensorSpec


def reader() -> Any:
    """Tokens of any number and an image of any size; a layer that is used twice, and a nested model."""
    tokens, image = keras.Input((None,), dtype="int32", name="tokens"), keras.Input((None, None, 3), name="image")
    inner = keras.Sequential([keras.Input((None, 4)), layers.GRU(5, name="gru")], name="inner")
    shared = layers.Dense(5, name="shared")
    words = shared(inner(layers.Embedding(9, 4, name="embedding")(tokens)))
    seen = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(5, 3, name="conv")(image))
    outputs = layers.Dense(2, name="y")(layers.Add(name="add")([words, shared(seen)]))
    return keras.Model({"tokens": tokens, "image": image}, outputs, name="reader")


LENGTHS = {"tokens": (6, 3), "image": ["8x7", "5x5"]}


def columns(tokens: int, height: int, width: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "tokens": generator.integers(0, 9, (2, tokens)).astype(np.int32),
        "image": generator.uniform(0, 1, (2, height, width, 3)).astype(np.float32),
    }


def test_the_first_length_is_the_model_s() -> None:
    model = reader()
    loaded = load(model, lengths=LENGTHS)
    assert {spec.name: spec.shape for spec in loaded.inputs} == {"tokens": (None, 6), "image": (None, 8, 7, 3)}
    assert loaded.outputs == (TensorSpec("y", (None, 2), "float32"),)
    assert loaded.other_shapes == (Shapes("tokens_3_image_5x5", {"tokens": (3,), "image": (5, 5, 3)}),)
    given = columns(6, 8, 7)
    np.testing.assert_allclose(loaded.predict(given)["y"], model.predict(given, verbose=0), atol=1e-6)
    assert model.input["tokens"].shape == (None, None)
    assert [len(layer._inbound_nodes) for layer in model.layers if layer.name in ("embedding", "shared")] == [1, 2]


def test_the_layers_of_a_model_that_nobody_keeps_are_not_copied() -> None:
    model, given = reader(), columns(6, 8, 7)
    expected = model.predict(given, verbose=0)
    loaded = describe(model, lengths={"tokens": 6, "image": "8x7"}, keep=False)
    assert loaded.model.get_layer("embedding") is model.get_layer("embedding")
    np.testing.assert_allclose(loaded.predict(given)["y"], expected, atol=1e-6)


def test_a_file_keeps_its_other_lengths(tmp_path: Path) -> None:
    reader().save(tmp_path / "reader.keras")
    loaded = load(tmp_path / "reader.keras", lengths=LENGTHS)
    loaded.save(tmp_path / "fixed.keras")
    assert load(tmp_path / "fixed.keras").other_shapes == loaded.other_shapes
    assert load(tmp_path / "fixed.keras").inputs == loaded.inputs


def test_a_file_of_weights_takes_lengths_too(tmp_path: Path) -> None:
    reader().save_weights(tmp_path / "reader.weights.h5")
    loaded = load(tmp_path / "reader.weights.h5", architecture=reader, lengths={"tokens": 6, "image": "8x7"})
    assert loaded.inputs[0].shape[1:] in ((6,), (8, 7, 3))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (
            {"image": "8x8"},
            "'tokens' has shape (None, None), which leaves more open than the batch: give it a length: --length "
            "tokens=128, lengths = { tokens = 128 } in a project file",
        ),
        (
            {"tokens": 4},
            "'image' has shape (None, None, None, 3), which leaves more open than the batch: give it a length: "
            '--length image=128x128, lengths = { image = "128x128" } in a project file',
        ),
    ],
)
def test_an_open_axis_says_the_way_out(lengths: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(reader(), lengths=lengths)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"token": 4}, "lengths: the model has no input 'token'; did you mean 'tokens'?"),
        ({"tokens": 0}, "lengths: 'tokens' is 0, expected a whole number from 1 on"),
        ({"tokens": -3}, "lengths: 'tokens' is -3, expected a whole number from 1 on"),
        ({"tokens": "many"}, "lengths: 'tokens' is 'many', expected a whole number from 1 on"),
        ({"tokens": [4.5]}, "lengths: 'tokens' is 4.5, expected a whole number from 1 on"),
        ({"tokens": True}, "lengths: 'tokens' is True, expected a whole number from 1 on"),
        ({"tokens": []}, "lengths: none is given for 'tokens'"),
        ({"image": 8}, "lengths: 'image' is 8, and (batch, ?, ?, 3) leaves 2 sizes open: expected 2, like 128x128"),
        ({"tokens": "8x8"}, "lengths: 'tokens' is '8x8', and (batch, ?) leaves 1 sizes open: expected 1, like 128"),
        ({"tokens": [4, 4], "image": ["8x8", "8x8"]}, "lengths: tokens_4_image_8x8 is given twice; leave one out"),
        ({"tokens": [4, 5], "image": "8x8"}, "lengths: 2 of 'tokens', 1 of 'image': give as many for each input"),
    ],
)
def test_lengths_that_do_not_fit(lengths: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(reader(), lengths=lengths)
    assert str(caught.value) == message


def test_an_input_that_leaves_nothing_open_takes_no_length() -> None:
    x = keras.Input((4,), name="x")
    with pytest.raises(ConfigError, match=r"lengths: 'x' \(batch, 4\) leaves nothing open but the batch"):
        load(keras.Model(x, layers.Dense(2)(x)), lengths={"x": 4})


def test_a_model_that_the_length_does_not_suit() -> None:
    image = keras.Input((None, None, 1), name="image")
    model = keras.Model(image, layers.Conv2D(1, 5, name="conv")(image), name="wide")
    with pytest.raises(ModelError, match=r"'wide' cannot be built for image_3x3: .*"):
        load(model, lengths={"image": "3x3"})


def test_what_is_loaded_already_takes_no_lengths(tmp_path: Path) -> None:
    loaded = load(reader(), lengths=LENGTHS)
    np.savez(tmp_path / "test.npz", y=np.zeros(2))
    with pytest.raises(ConfigError, match="lengths: the model is loaded already: give them to the `load` that"):
        edgekit.build(
            loaded,
            targets=["android-arm64"],
            evaluation=tmp_path / "test.npz",
            output=tmp_path / "reader-1.0.edgekit",
            lengths={"tokens": 3},
        )
