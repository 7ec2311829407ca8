"""Files of every format, written by the Keras that owns it, and models that come without a graph or weights."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers, ops

import edgekit
from edgekit import loading_worker
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, load
from tests.keras_models import pair, samples

CODE = "(Lambda) can run code when it is loaded"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What tests/loading_files.py writes, in a process of its own because TFMOT demands it."""
    folder = tmp_path_factory.mktemp("formats")
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    argv = [sys.executable, "-m", "tests.loading_files", str(folder)]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's work in this process, which has both Kerases already; its memory limit stays off."""
    monkeypatch.setattr(loading_worker.resource, "setrlimit", lambda *_: None)

    def ask(path: Path, *, allow_code: bool, output: Path | None = None, examine_only: bool = False) -> Any:
        request = {"path": str(path), "allow_code": allow_code, "output": output and str(output)}
        return loading_worker.main({**request, "examine_only": examine_only})

    monkeypatch.setattr("edgekit.opening_files._ask", ask)
    monkeypatch.setattr("edgekit.architectures.examine_apart", lambda path: _examined(ask, path))


def _examined(ask: Callable[..., Any], path: Path) -> Any:
    from edgekit.model_files import Kind

    reply = ask(path, allow_code=True, examine_only=True)
    return Kind[reply["kind"]], reply["legacy"]


def refused(source: object, **kwargs: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(source, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def apart(loaded: LoadedModel, files: Path, name: str) -> float:
    with np.load(files / "expected.npz") as expected:
        wanted = expected[name]
        got = loaded.predict({"image": expected["samples"]})["scores"]
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", ["legacy.keras", "legacy.h5", "legacy_saved_model"])
@pytest.mark.filterwarnings("ignore")  # tf_keras calls its own formats legacy
def test_files_of_tf_keras(files: Path, name: str) -> None:
    loaded = load(files / name)
    assert apart(loaded, files, "legacy") < 1e-5
    assert [layer.name for layer in loaded.model.layers][1:3] == ["conv", "depthwise"]
    if not name.endswith("model"):
        assert isinstance(loaded.compiled_loss, keras.losses.SparseCategoricalCrossentropy)
        assert loaded.compiled_loss.get_config()["from_logits"]


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.usefixtures("_here")
def test_files_of_keras_3(tmp_path: Path, suffix: str) -> None:
    model = pair()
    model.compile("adam", {"classes": "sparse_categorical_crossentropy", "score": keras.losses.MeanSquaredError()})
    path = tmp_path / f"model.{suffix}"
    if suffix == "h5":
        with _quiet():
            model.save(path)
    else:
        model.save(path)
    loaded = load(path)
    wanted = load(model).predict(samples(model))
    for name, array in loaded.predict(samples(model)).items():
        np.testing.assert_allclose(array, wanted[name], atol=1e-6)
    assert loaded.compiled_loss["classes"] == "sparse_categorical_crossentropy"
    assert isinstance(loaded.compiled_loss["score"], keras.losses.MeanSquaredError)


def _quiet() -> Any:
    import warnings

    return warnings.catch_warnings(action="ignore")


@pytest.mark.trial
def test_trained_ranges_come_out_of_quantize_wrappers(files: Path) -> None:
    loaded = load(files / "quantized.h5")
    assert [str(note) for note in loaded.notes] == [
        "load: TFMOT's quantize wrappers were taken off 5 layers; their trained ranges are kept, and kernels lie on "
        "the trained grids"
    ]
    assert loaded.activation_ranges is not None
    assert set(loaded.activation_ranges) == {"image", "conv", "depthwise", "leaky", "scores"}
    kernel = loaded.model.get_layer("scores").get_weights()[0]
    assert len(np.unique(kernel)) <= 255
    assert apart(loaded, files, "quantized") < 0.1  # the activations' rounding is not in it


@pytest.mark.trial
def test_a_quantized_file_that_tf_keras_itself_cannot_read(files: Path) -> None:
    assert "tf_keras cannot read its own .keras" in refused(files / "quantized.keras")


@pytest.mark.trial
def test_pruning_wrappers_are_taken_off(files: Path) -> None:
    loaded = load(files / "pruned.h5")
    assert apart(loaded, files, "pruned") < 1e-5
    assert "TFMOT's prune wrappers were taken off 6 layers" in str(loaded.notes[0])
    assert loaded.activation_ranges is None


@pytest.mark.slow
@pytest.mark.trial
def test_other_wrappers_are_taken_off(files: Path) -> None:
    clustered = load(files / "clustered.h5")
    assert apart(clustered, files, "clustered") < 1e-5
    assert len(np.unique(clustered.model.get_layer("scores").get_weights()[0])) <= 4
    normalized = load(files / "quantized_with_norm.h5")
    assert normalized.activation_ranges is None
    assert "their ranges were left out, because BatchNormalization" in str(normalized.notes[0])


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", ["code.h5", "code.keras", "code_saved_model"])
def test_code_in_files_of_tf_keras(files: Path, name: str) -> None:
    assert f"layer 'plus_one' {CODE}" in refused(files / name)


@pytest.mark.usefixtures("_here")
def test_saved_models_that_touch_files_or_hold_no_keras(files: Path) -> None:
    assert "its graph has the operator ReadFile" in refused(files / "reads_saved_model")
    message = refused(files / "plain_saved_model")
    assert "it cannot be compressed, only converted (edgekit convert)" in message


@pytest.mark.trial
def test_an_untrusted_file_is_tried_first(tmp_path: Path) -> None:
    path = tmp_path / "good.keras"
    model = pair()
    model.save(path)
    assert load(path).parameters == model.count_params()
    assert f"layer 'bad' {CODE}" in refused(_with_lambda(tmp_path))


@pytest.mark.trial
def test_a_config_that_asks_for_too_much_memory(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="huge")])
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as source, zipfile.ZipFile(tmp_path / "huge.keras", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b'"units": 3', b'"units": 4000000000'))
    assert f"{tmp_path / 'huge.keras'}: loading needs more than the 6,4" in refused(tmp_path / "huge.keras")


def _with_lambda(folder: Path) -> Path:
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda tensor: tensor, name="bad")])
    model.save(folder / "lambda.keras")
    return folder / "lambda.keras"


def architecture() -> Any:
    stack = [keras.Input((6,), name="x"), layers.Dense(4, activation="relu"), layers.Dense(3, name="scores")]
    return keras.Sequential(stack, name="built")


def legacy_architecture() -> Any:
    stack = [tf_keras.Input((6,), name="x"), tf_keras.layers.Dense(3, activation="hard_sigmoid", name="scores")]
    return tf_keras.Sequential(stack, name="built")


def failing() -> Any:
    return 1 / 0


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("make", [architecture, legacy_architecture])
@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5", "renamed.h5"])
def test_weights_with_an_architecture(tmp_path: Path, name: str, make: Callable[[], Any]) -> None:
    model = make()
    if name == "w.h5":
        with _quiet():
            model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / "w.weights.h5")
        (tmp_path / "w.weights.h5").rename(tmp_path / name)
    loaded = load(tmp_path / name, architecture=make)
    x = np.random.default_rng(0).normal(0, 1, (4, 6)).astype(np.float32)
    np.testing.assert_allclose(loaded.predict({"x": x})["scores"], model(x), atol=1e-6)
    named = load(tmp_path / name, architecture=f"{__name__}:{make.__name__}")
    assert named.sha256() == loaded.sha256()


@pytest.mark.usefixtures("_here")
def test_weights_that_do_not_fit_and_architectures_that_fail(tmp_path: Path) -> None:
    path = tmp_path / "w.weights.h5"
    architecture().save_weights(path)
    assert "holds weights alone; say what builds the model, with --architecture" in refused(path)
    other = keras.Sequential([keras.Input((5,)), layers.Dense(2)], name="other")
    assert "its weights do not fit the architecture 'other'" in refused(path, architecture=lambda: other)
    assert f"'{__name__}:failing' failed with ZeroDivisionError" in refused(path, architecture=f"{__name__}:failing")
    assert "the function failed with ZeroDivisionError" in refused(path, architecture=failing)
    assert "cannot import 'nowhere:build'" in refused(path, architecture="nowhere:build")
    assert "expected a function that returns a Keras model, got int" in refused(path, architecture=lambda: 5)
    assert refused(tmp_path / "none.h5", architecture=architecture) == f"no model file {tmp_path / 'none.h5'}"


def test_a_live_model_of_tf_keras() -> None:
    model = legacy_architecture()
    x = np.random.default_rng(0).normal(0, 1, (4, 6)).astype(np.float32)
    np.testing.assert_allclose(load(model).predict({"x": x})["scores"], model(x), atol=1e-6)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("name", ["lambda.h5", "lambda.keras"])
@pytest.mark.filterwarnings("ignore")  # tf_keras calls its own formats legacy
def test_a_function_in_a_trusted_file_of_tf_keras(name: str, tmp_path: Path) -> None:
    inputs = tf_keras.Input((4,), name="x")
    scaled = tf_keras.layers.Lambda(lambda x, by: x * by, arguments={"by": 3.0}, name="scaled")(inputs)
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2, name="scores")(scaled))
    x = np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32)
    np.testing.assert_allclose(load(model).predict({"x": x})["scores"], model(x), atol=1e-6)
    model.save(tmp_path / name)
    assert CODE in refused(tmp_path / name)
    loaded = load(tmp_path / name, allow_code=True)
    np.testing.assert_allclose(loaded.predict({"x": x})["scores"], model(x), atol=1e-6)
    pruned = edgekit.compress(loaded, edgekit.Prune(0.5, epochs=0))
    assert pruned.model.get_layer("scaled")(np.ones((1, 4), np.float32)).numpy().tolist() == [[3.0] * 4]


class Traceable(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="traceable")
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(2, name="second")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.second(ops.relu(self.first(x)) + 1)


class Conditional(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x if float(ops.sum(x)) > 0 else -x


class WithLayers(Conditional):
    def __init__(self) -> None:
        super().__init__(name="with_layers")
        self.scores = layers.Dense(2, name="scores")

    def call(self, x: Any) -> Any:
        return self.scores(super().call(x))


class Bare(keras.Model):  # type: ignore[misc]
    """Its weight is in no layer."""

    def __init__(self) -> None:
        super().__init__(name="bare")
        self.scale = self.add_weight(shape=(3,), initializer="random_normal")

    def call(self, x: Any) -> Any:
        return x * self.scale


def test_a_subclassed_model_is_traced() -> None:
    model = Traceable()
    x = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)
    wanted = np.asarray(model(x))
    loaded = load(model)
    assert {"first", "second"} <= {layer.name for layer in loaded.model.layers}
    np.testing.assert_allclose(loaded.predict({"x": x})["second"], wanted, atol=1e-6)


def test_subclassed_models_that_cannot_be_traced() -> None:
    assert "that was never called: call it once on real inputs" in refused(Traceable())
    x = np.ones((2, 3), np.float32)
    traced = "cannot be traced into layers"
    for model, said in ((Conditional(), traced), (WithLayers(), traced), (Bare(), "uses weights or Python values")):
        model(x)
        message = refused(model)
        assert said in message
        assert "convert it after training without edgekit" in message


def test_a_compiled_models_loss_is_kept_in_the_file(tmp_path: Path) -> None:
    model = pair()
    model.compile("adam", [keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"])
    load(model).save(tmp_path / "kept.keras")
    classes, score = load(tmp_path / "kept.keras").compiled_loss
    assert classes.get_config()["from_logits"]
    assert score == "mse"
    model.compile("adam", [lambda y, p: ops.mean(p), "mse"])
    assert callable(load(model).compiled_loss[0])
    load(model).save(tmp_path / "own.keras")
    assert load(tmp_path / "own.keras").compiled_loss is None


def test_what_is_saved_opens_in_plain_keras(tmp_path: Path) -> None:
    model = legacy_architecture()
    x = np.random.default_rng(0).normal(0, 1, (4, 6)).astype(np.float32)
    load(model).save(tmp_path / "plain.keras")
    np.savez(tmp_path / "x.npz", x=x, y=load(model).predict({"x": x})["scores"])
    plain = (
        "import sys, keras, numpy as np; a = np.load(sys.argv[2]); m = keras.saving.load_model(sys.argv[1]);"
        "assert not [n for n in sys.modules if n.startswith('edgekit')];"
        "assert np.array_equal(m.predict(a['x'], verbose=0), a['y'])"
    )
    argv = [sys.executable, "-c", plain, tmp_path / "plain.keras", tmp_path / "x.npz"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-2000:]
