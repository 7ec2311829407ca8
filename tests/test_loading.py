from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from edgekit.errors import DataError, ModelError, OutputError
from edgekit.loading import FACTS_MEMBER, LoadedModel, Origin, describe, load, need_classes
from edgekit.tensors import TensorSpec
from tests.conftest import Digits
from tests.disk import below_a_file, no_space_beyond
from tests.keras_models import pair, samples


class Doubled(layers.Layer):  # type: ignore[misc]
    """A layer of the user's own, which Keras does not know when it opens the file."""

    def call(self, tensor: Any) -> Any:
        return 2 * tensor


@keras.saving.register_keras_serializable("tests")
class Registered(layers.Layer):  # type: ignore[misc]
    def call(self, tensor: Any) -> Any:
        return 2 * tensor


def small(*middle: Any) -> Any:
    return keras.Sequential([keras.Input((4,), name="x"), *middle, layers.Dense(2, name="scores")], name="small")


def saved(folder: Path, *middle: Any) -> Path:
    path = folder / "small.keras"
    small(*middle).save(path)
    return path


def refused(source: object, **kwargs: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(source, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_keras_file_is_loaded(digits: Digits) -> None:
    loaded = load(digits.model)
    assert loaded.name == "digits"
    assert loaded.inputs == (TensorSpec("image", (None, 8, 8, 1), "float32"),)
    assert loaded.outputs == (TensorSpec("probabilities", (None, 10), "float32"),)
    assert (loaded.classes, loaded.activation_ranges, loaded.origin) == (10, None, None)
    columns = {"image": digits.test["image"]}
    expected = keras.saving.load_model(digits.model).predict(digits.test["image"], verbose=0)
    np.testing.assert_allclose(loaded.predict(columns)["probabilities"], expected, atol=1e-6)


def test_a_live_model_is_loaded_and_a_loaded_one_stays() -> None:
    model = small()
    loaded = load(model)
    assert loaded.model.layers[-1] is model.layers[-1]
    assert load(loaded) is loaded


def test_several_inputs_and_outputs_keep_names_and_order() -> None:
    model = pair()
    loaded = load(model)
    assert [spec.name for spec in loaded.inputs] == ["left", "right"]
    assert [str(spec) for spec in loaded.outputs] == [
        "'classes' (batch, 3) float32",
        "'score' (batch, 1) float32",
    ]
    columns = samples(model)
    got = loaded.predict(dict(reversed(columns.items())))
    classes, score = model.predict([columns["left"], columns["right"]], verbose=0)
    np.testing.assert_allclose(got["classes"], classes, atol=1e-6)
    np.testing.assert_allclose(got["score"], score, atol=1e-6)


def test_inputs_given_as_a_dict_are_packed_as_the_model_takes_them() -> None:
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    outputs = layers.Concatenate(name="both")([inputs["b"], inputs["a"]])
    loaded = load(keras.Model(inputs, outputs))
    columns = {"a": np.ones((2, 3), np.float32), "b": np.zeros((2, 2), np.float32)}
    np.testing.assert_array_equal(loaded.predict(columns)["both"], [[0, 0, 1, 1, 1]] * 2)


def test_two_outputs_of_one_layer_get_names_of_their_own() -> None:
    x = keras.Input((4,), name="x")
    twice = layers.Dense(3, name="twice")
    loaded = load(keras.Model(x, [twice(x), twice(twice.output[:, :1] * x)]))
    assert len({spec.name for spec in loaded.outputs}) == 2


def test_a_compiled_model_stays_compiled() -> None:
    model = small()
    model.compile("sgd", "mse")
    optimizer = model.optimizer
    load(model)
    assert model.optimizer is optimizer


def test_a_missing_file(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.keras") == f"no model file {tmp_path / 'none.keras'}"


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_file(digits: Digits, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "cut.keras"
    whole = digits.model.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    assert f"{path}: not a " in refused(path)


def test_any_changed_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    path = saved(tmp_path)
    expected = load(path).model.get_weights()
    whole = path.read_bytes()
    for position in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :])
        try:
            loaded = load(path)
        except ModelError:
            continue
        for got, wanted in zip(loaded.model.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_a_damaged_deflated_member(tmp_path: Path) -> None:
    path = tmp_path / "deflated.keras"
    with zipfile.ZipFile(saved(tmp_path)) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        header = target.getinfo("config.json").header_offset
    damaged = bytearray(path.read_bytes())
    damaged[header + 60 : header + 90] = b"\xff" * 30
    path.write_bytes(damaged)
    assert str(path) in refused(path)


def _text(path: Path) -> None:
    path.write_text("a model")


def _other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")


def _bad_json(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{")


def _bad_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", b"\xff\xfe\x00")


def _list(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[1, 2]")


@pytest.mark.parametrize("write", [_text, _other_zip, _bad_json, _bad_text, _list])
def test_a_file_that_is_not_a_model(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "model.keras")
    message = refused(tmp_path / "model.keras")
    assert str(tmp_path / "model.keras") in message
    assert "not a " in message


def test_a_lambda_layer_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, layers.Lambda(lambda tensor: tensor + 1, name="plus_one"))
    assert refused(path) == (
        f"{path}: layer 'plus_one' (Lambda) can run code when it is loaded; "
        "replace it, or pass --allow-code if you trust the file"
    )


def test_a_lambda_layer_inside_a_nested_model_is_refused(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda tensor: tensor + 1, name="hidden")])
    assert "layer 'hidden' (Lambda) can run code" in refused(saved(tmp_path, inner))


def test_a_marshalled_activation_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"includes a `lambda`"):
        path = saved(tmp_path, layers.Dense(4, activation=lambda tensor: tensor + 1))
    assert str(path) in refused(path)


def test_a_lambda_layer_is_accepted_with_allow_code(tmp_path: Path) -> None:
    path = saved(tmp_path, layers.Lambda(lambda tensor: tensor + 1, output_shape=(4,), name="plus_one"))
    loaded = load(path, allow_code=True)
    weight, bias = loaded.model.layers[-1].get_weights()
    outputs = loaded.predict({"x": np.zeros((1, 4), np.float32)})["scores"]
    np.testing.assert_allclose(outputs[0], weight.sum(axis=0) + bias, atol=1e-6)


def test_a_layer_that_keras_does_not_know_is_named_with_its_type(tmp_path: Path) -> None:
    message = refused(saved(tmp_path, Doubled(name="double")))
    assert "unsupported layer 'double' of type Doubled: Keras does not know the class" in message
    assert "register_keras_serializable" in message


def test_a_registered_layer_of_the_users_own_is_loaded(tmp_path: Path) -> None:
    assert load(saved(tmp_path, Registered(name="double"))).model.get_layer("double").name == "double"


def test_a_live_model_with_a_layer_of_the_users_own_is_loaded() -> None:
    assert load(small(Doubled(name="double"))).outputs[0].shape == (None, 2)


@pytest.mark.parametrize("source", [None, 5, object(), np.zeros(3)])
def test_what_is_no_model_at_all(source: object) -> None:
    message = refused(source)
    assert f"expected a Keras model or a path to a model file, got {type(source).__module__}" in message


def test_a_model_that_is_not_built() -> None:
    model = keras.Sequential([layers.Dense(2)], name="unbuilt")
    assert refused(model) == "model 'unbuilt' is not built; give its first layer an Input"


def test_a_dynamic_dimension_beside_the_batch() -> None:
    x = keras.Input((None, 4), name="x")
    message = refused(keras.Model(x, layers.Dense(2)(x)))
    assert "'x' has shape (None, None, 4), which leaves more open than the batch: give it a length" in message


def test_a_saved_model_opens_in_plain_keras_and_keeps_its_facts(loaded: LoadedModel, tmp_path: Path) -> None:
    origin = Origin(5000, "ab" * 32, ({"step": "prune", "sparsity": 0.8},), loaded)
    ranges = {"image": (0.0, 1.0), "relu": (0.0, 5.25)}
    path = tmp_path / "compressed.keras"
    replace(loaded, activation_ranges=ranges, origin=origin).save(path)
    again = load(path)
    assert again.activation_ranges == ranges
    assert again.origin == replace(origin, model=None)
    image = np.random.default_rng(0).uniform(0, 1, (5, 8, 8, 1)).astype(np.float32)
    plain = keras.saving.load_model(path).predict(image, verbose=0)
    np.testing.assert_array_equal(plain, again.predict({"image": image})["probabilities"])
    np.testing.assert_array_equal(plain, loaded.predict({"image": image})["probabilities"])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "not a .keras file"),
        ('{"activation_rangs": {}}', "edgekit.json: unknown key 'activation_rangs'"),
        ('{"activation_ranges": {"relu": [1]}}', "edgekit.json: activation_ranges.relu is [1], expected a list of 2"),
    ],
)
def test_damaged_facts_are_refused(tmp_path: Path, facts: str, message: str) -> None:
    path = saved(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FACTS_MEMBER, facts)
    assert message in refused(path)


def test_saving_under_another_suffix(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the name must end in .keras"):
        loaded.save(tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_saving_without_space_leaves_nothing(loaded: LoadedModel, tmp_path: Path) -> None:
    with no_space_beyond(2000), pytest.raises(OutputError, match=r"cannot write .*model.keras: "):
        loaded.save(tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []


def test_saving_where_no_folder_can_be(loaded: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*model.keras: Not a directory"):
        loaded.save(below_a_file(tmp_path) / "model.keras")


def test_the_source_is_known_by_its_hash(digits: Digits, tmp_path: Path) -> None:
    load(digits.model)
    copy = tmp_path / "copy.keras"
    copy.write_bytes(digits.model.read_bytes())
    assert load(digits.model).sha256() == load(copy).sha256()
    model = small()
    before = describe(model).sha256()
    model.layers[-1].set_weights([np.zeros((4, 2)), np.zeros(2)])
    assert describe(model).sha256() != before


def test_the_summary_shows_each_kernels_sparsity() -> None:
    model = small()
    model.layers[-1].set_weights([np.array([[0, 1], [0, 2], [0, 3], [4, 5]], np.float32), np.ones(2)])
    assert describe(model).summary().splitlines() == [
        "small: 10 parameters",
        "  scores (Dense): 10 weights, 38% zero",
    ]


def test_classes_are_those_of_the_only_output(loaded: LoadedModel) -> None:
    assert need_classes(loaded, why="distill") == 10
    with pytest.raises(DataError, match=r"labels: needs a classifier with one output .* got 'classes' \(batch, 3\)"):
        need_classes(describe(pair()), why="labels")


def test_facts_are_json_that_keras_ignores(loaded: LoadedModel, tmp_path: Path) -> None:
    loaded.save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as archive:
        facts = json.loads(archive.read(FACTS_MEMBER))
    empty = {"activation_ranges": None, "weight_bits": None, "origin": None, "notes": [], "other_shapes": []}
    assert facts == {**empty, "compiled_loss": "sparse_categorical_crossentropy"}
