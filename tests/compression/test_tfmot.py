"""TFMOT is the second engine, and the oracle of the first: the same models through both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression import TrainingSettings
from edgekit.compression.fake_quantization import Simulation
from edgekit.compression.kernels import kernels
from edgekit.compression.steps import Engine
from edgekit.compression.tfmot import portable_loss
from edgekit.compression.tfmot_worker import Job, _loss, _rhythm
from edgekit.errors import ConfigError, ModelError
from edgekit.loading import LoadedModel, load
from tests.conftest import Digits

# Within the noise of two epochs from different optimizers on 297 held-back digits: 1.5 points are 4 digits.
MARGIN = 0.015
SAME_OUTPUTS = TrainingSettings(loss="original-outputs")


def tables(loaded: LoadedModel) -> dict[str, np.ndarray]:
    """Every kernel as a matrix (reduced x outputs), by its name."""
    return {kernel.name: kernel.read() for kernel in kernels(loaded.model)}


def simulated_accuracy(loaded: LoadedModel, digits: Digits) -> float:
    assert loaded.activation_ranges is not None
    outputs = Simulation(loaded, loaded.activation_ranges).model.predict(digits.test["image"], verbose=0)
    return float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))


def noted(loaded: LoadedModel, words: str) -> set[str]:
    """The layers whose notes hold these words."""
    return {note.layer for note in loaded.notes if words in note.text}


def reached(loaded: LoadedModel) -> str:
    """What the last step's summary says."""
    assert loaded.notes[-1].layer == ""
    return loaded.notes[-1].text


@pytest.fixture(scope="module")
def pruned(loaded: LoadedModel, digits: Digits) -> dict[str, LoadedModel]:
    """By engine: masks chosen once from the same weights, which training then hardly moves."""

    def by(engine: Engine) -> LoadedModel:
        step = edgekit.Prune(0.5, epochs=1, schedule="one-shot", learning_rate=1e-9, engine=engine)
        return edgekit.compress(loaded, step, data=digits.few(320))

    return {"keras": by("keras"), "tfmot": by("tfmot")}


@pytest.fixture(scope="module")
def quantized(pruned: dict[str, LoadedModel], digits: Digits) -> dict[str, LoadedModel]:
    """By engine, from the same pruned model."""

    def by(engine: Engine) -> LoadedModel:
        return edgekit.compress(pruned["keras"], edgekit.QuantizeAware(epochs=2, engine=engine), data=digits.train)

    return {"keras": by("keras"), "tfmot": by("tfmot")}


@pytest.fixture(scope="module")
def clustered(pruned: dict[str, LoadedModel], digits: Digits) -> LoadedModel:
    """By TFMOT, from the pruned model."""
    step = edgekit.Cluster(8, epochs=1, engine="tfmot")
    return edgekit.compress(pruned["keras"], step, data=digits.few(320))


def test_both_engines_zero_the_same_weights(pruned: dict[str, LoadedModel]) -> None:
    ours, theirs = tables(pruned["keras"]), tables(pruned["tfmot"])
    for name in ("conv", "probabilities"):
        assert np.sum(ours[name] == 0) == round(0.5 * ours[name].size)
        np.testing.assert_array_equal(theirs[name] == 0, ours[name] == 0)
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5)
    assert np.all(theirs["depthwise"] != 0)
    assert noted(pruned["tfmot"], "depthwise kernels") == {"depthwise"}
    assert reached(pruned["tfmot"]) == reached(pruned["keras"])
    assert "weights in 2 kernels are zero (50.0%)" in reached(pruned["keras"])


def patterned() -> keras.Model:
    """Two inputs, a nested model, kernels of 1, 2 and 3 dimensions of space, and a table."""
    keras.utils.set_random_seed(4)
    picture, word = keras.Input((6, 6, 4), name="picture"), keras.Input((3,), dtype="int32", name="word")
    inner = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(8, 3, name="inner_conv")], name="inner")
    seen = layers.GlobalAveragePooling2D(name="pooled")(layers.ReLU(name="relu")(inner(picture)))
    read = layers.Flatten(name="flat")(
        layers.Conv1D(4, 2, name="over_time")(layers.Embedding(9, 4, name="table")(word))
    )
    both = layers.Concatenate(name="both")([seen, read])
    both = layers.Dense(12, activation="relu", name="hidden")(both)
    both = layers.Dense(8, activation="relu", name="kept")(both)
    return keras.Model([picture, word], layers.Dense(4, name="scores")(both), name="patterned")


def test_patterns_and_settings_per_layer_give_the_same_masks_in_nested_models() -> None:
    model = load(patterned())
    before = model.model.get_weights()
    rng = np.random.default_rng(0)
    data = {"picture": rng.normal(size=(4, 6, 6, 4)).astype(np.float32), "word": rng.integers(0, 9, (4, 3), np.int32)}
    settings = {"hidden": {"pattern": "4x2", "sparsity": 0.5}, "kept": "skip", "table": {"pattern": "unstructured",
        "sparsity": 0.25}}  # fmt: skip

    def by(engine: Engine) -> LoadedModel:
        step = edgekit.Prune(
            pattern="2:4", epochs=1, schedule="one-shot", learning_rate=1e-9, engine=engine, layers=settings
        )
        return edgekit.compress(model, step, data=data, training=SAME_OUTPUTS)

    native, theirs = by("keras"), by("tfmot")
    assert [type(layer).__name__ for layer in theirs.model.layers if layer.name == "inner"] == ["Sequential"]
    ours, found = tables(native), tables(theirs)
    for name in ("inner_conv", "hidden", "table", "scores"):
        assert 0.2 < np.mean(found[name] == 0) <= 0.5, name
        np.testing.assert_array_equal(found[name] == 0, ours[name] == 0, err_msg=name)
    assert np.all(found["kept"] != 0)
    assert np.all(found["over_time"] != 0)
    assert noted(theirs, "TFMOT fails on Conv1D") == {"over_time"}
    for old, now in zip(before, model.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)


def test_clusters_keep_zeros_and_hold_as_many_values_as_asked(
    pruned: dict[str, LoadedModel], clustered: LoadedModel
) -> None:
    before, after = tables(pruned["keras"]), tables(clustered)
    for name in ("conv", "probabilities"):
        assert 2 < len(np.unique(after[name])) <= 8, name
        assert np.all(after[name][before[name] == 0] == 0), name
        assert np.corrcoef(before[name].ravel(), after[name].ravel())[0, 1] > 0.9
    assert noted(clustered, "does not cluster depthwise") == {"depthwise"}
    size = sum(after[name].size for name in ("conv", "probabilities"))
    assert reached(clustered).startswith(f"{size:,} weights in 2 kernels share at most 8 values each")


def test_quantization_keeps_zeros_and_shared_values(
    pruned: dict[str, LoadedModel], clustered: LoadedModel, digits: Digits
) -> None:
    """PCQAT; TFMOT's own layout would lose both where a separate ReLU follows, as it does here."""
    step = edgekit.QuantizeAware(epochs=1, engine="tfmot")
    after = tables(edgekit.compress(clustered, step, data=digits.few(320)))
    before = tables(clustered)
    dense = next(name for name in after if name.startswith("probabilities"))
    for old, new in (("conv", "conv"), ("probabilities", dense)):
        assert np.all(after[new][before[old] == 0] == 0), old
        for column in after[new].T:
            assert len(np.unique(column)) <= 8, old


def test_both_engines_quantize_about_equally_well(quantized: dict[str, LoadedModel], digits: Digits) -> None:
    ours, theirs = (simulated_accuracy(quantized[engine], digits) for engine in ("keras", "tfmot"))
    assert abs(ours - theirs) <= MARGIN


@pytest.mark.slow
def test_both_engines_quantize_equally_well_over_three_seeds(loaded: LoadedModel, digits: Digits) -> None:
    """The means differ by less than the seeds do, or by less than two digits of 297."""
    accuracies: dict[str, list[float]] = {"keras": [], "tfmot": []}
    for engine, found in accuracies.items():
        for seed in range(3):
            step = edgekit.QuantizeAware(epochs=3, engine=engine)  # type: ignore[arg-type]  # a key is a str to mypy
            found.append(simulated_accuracy(edgekit.compress(loaded, step, data=digits.train, seed=seed), digits))
    ours, theirs = accuracies["keras"], accuracies["tfmot"]
    spread = max(np.ptp(ours), np.ptp(theirs), 2 / len(digits.test["y"]))
    assert abs(np.mean(ours) - np.mean(theirs)) <= spread, accuracies


def test_both_engines_find_the_same_activations(quantized: dict[str, LoadedModel]) -> None:
    """TFMOT's own ranges begin at (-6, 6) and move by a thousandth a step; given a start, they stay near the data."""
    ours, theirs = quantized["keras"].activation_ranges, quantized["tfmot"].activation_ranges
    assert ours is not None
    assert theirs is not None
    assert list(ours) == list(theirs)
    for name, (low, high) in ours.items():
        assert 2 * low - 0.01 <= theirs[name][0] <= 0, name
        assert 0.5 * high < theirs[name][1] < 2 * high, name
    assert theirs["probabilities"] == ours["probabilities"] == (0.0, 255 / 256)


def test_tfmots_kernels_lie_on_the_int8_grid_and_keep_their_zeros(
    pruned: dict[str, LoadedModel], quantized: dict[str, LoadedModel]
) -> None:
    found, before = tables(quantized["tfmot"]), tables(pruned["keras"])
    assert found.keys() == tables(quantized["keras"]).keys()
    for name, per_channel in (("conv", True), ("depthwise", True), ("probabilities", False)):
        table = next(values for key, values in found.items() if key.startswith(name))
        peaks = np.abs(table).max(axis=0 if per_channel else None, keepdims=True)
        np.testing.assert_allclose(table / peaks * 127, np.rint(table / peaks * 127), atol=1e-3)
        assert np.all(table[before[name] == 0] == 0)


LAYOUT = """
import json, sys, tf_keras, tensorflow_model_optimization as tfmot
from tf_keras import layers
from edgekit.compression.tfmot_quantization import quantized, quantized_layers, ranges
x = image = tf_keras.Input((8, 8, 3), name="image")
x = layers.ReLU(6.0, name="relu6")(layers.Conv2D(4, 3, name="conv")(x))
x = layers.Activation("relu", name="relu")(layers.SeparableConv2D(4, 3, name="parted")(x))
model = tf_keras.Model(image, x)
ours = quantized(model, {name: {} for name in ("conv", "relu6", "parted", "relu")})
theirs = tfmot.quantization.keras.quantize_model(model)
rounded = lambda made: sum(len(layer._weight_vars) for layer in quantized_layers(made))
print(json.dumps([rounded(ours), rounded(theirs), sorted(ranges(ours))]))
"""


def test_a_kernel_before_a_separate_relu_is_trained_on_its_grid() -> None:
    """TFMOT's own layout quantizes one of these three kernels, the depthwise one."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    ended = subprocess.run([sys.executable, "-c", LAYOUT], env=environment, capture_output=True, text=True, check=True)
    ours, theirs, found = json.loads(ended.stdout.splitlines()[-1])
    assert (ours, theirs) == (3, 1)
    assert found == ["image", "parted/depthwise", "relu", "relu6"]


def test_what_tfmot_refuses_is_left_and_listed() -> None:
    model = zoo.build("BiGRU")
    step = edgekit.Prune(0.5, epochs=1, engine="tfmot")
    result = edgekit.compress(model, step, data=zoo.inputs(model, 4), training=SAME_OUTPUTS)
    found = tables(result)
    assert np.mean(found.pop("logits") == 0) == 0.5
    assert all(np.all(table != 0) for table in found.values())
    assert noted(result, "TFMOT does not prune Bidirectional layers") == {"bigru"}
    assert "weights in 1 kernel are zero (50.0%)" in reached(result)


def test_a_kernel_with_too_few_weights_left_for_tfmots_start_stays_as_it_was() -> None:
    """14 of 72 weights are left, one less than TFMOT's k-means++ draws beside zero: it would end the whole step."""
    keras.utils.set_random_seed(1)
    image = keras.Input((8, 8, 1), name="image")
    seen = layers.Flatten(name="flat")(layers.Conv2D(8, 3, activation="relu", name="conv")(image))
    model = keras.Model(image, layers.Dense(3, name="scores")(seen), name="tiny")
    data = {"image": np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype(np.float32)}
    sparse = edgekit.compress(model, edgekit.Prune(0.8, epochs=0))
    step = edgekit.Cluster(16, epochs=1, learning_rate=1e-9, engine="tfmot")
    result = edgekit.compress(sparse, step, data=data, training=SAME_OUTPUTS)
    before, after = tables(sparse), tables(result)
    np.testing.assert_allclose(after["conv"], before["conv"], atol=1e-5)
    assert len(np.unique(after["scores"])) <= 16
    assert np.all(after["scores"][before["scores"] == 0] == 0)
    why = "TFMOT starts from 15 values other than zero, and its kernel has 14 weights other than zero; left as it was"
    assert noted(result, why) == {"conv"}
    assert reached(result).startswith("864 weights in 1 kernel share at most 16 values each")
    alone = edgekit.Cluster(16, epochs=1, engine="tfmot", layers={"scores": "skip"})
    with pytest.raises(
        ModelError, match=r"takes no layer of this model \(conv: TFMOT starts from 15 values"
    ) as refusal:
        edgekit.compress(sparse, alone, data=data, training=SAME_OUTPUTS)
    assert "\n" not in str(refusal.value)


def test_quantization_lists_what_tfmot_does_not_train() -> None:
    model = zoo.build("transformer")
    step = edgekit.QuantizeAware(epochs=1, engine="tfmot")
    result = edgekit.compress(model, step, data=zoo.inputs(model, 8), training=SAME_OUTPUTS)
    assert noted(result, "trained in float; kernel") >= {"embedding", "attention_0", "attention_1"}
    assert "logits" not in noted(result, "trained in float")
    native = edgekit.compress(model, edgekit.QuantizeAware(epochs=0), data=zoo.inputs(model, 8), training=SAME_OUTPUTS)
    assert (result.activation_ranges or {}).keys() == (native.activation_ranges or {}).keys()
    columns = zoo.inputs(model, 8, seed=1)
    quantized = Simulation(result, result.activation_ranges).model.predict(columns["tokens"], verbose=0)
    expected = load(model).predict(columns)["logits"]
    assert np.abs(quantized - expected).max() < 0.2 * np.abs(expected).max()


def test_what_tfmot_trains_in_float_goes_on_sharing_values() -> None:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(40, 16, name="embedding")(tokens))
    model = keras.Model(tokens, layers.Dense(3, activation="softmax", name="scores")(pooled))
    generator = np.random.default_rng(0)
    data = {"tokens": generator.integers(0, 40, (64, 6)).astype(np.int32), "y": generator.integers(0, 3, 64)}
    clustered = edgekit.compress(model, edgekit.Cluster(8, epochs=0))
    trained = edgekit.compress(clustered, edgekit.QuantizeAware(epochs=1, engine="tfmot"), data=data)
    before, after = (np.asarray(each.model.get_layer("embedding").embeddings) for each in (clustered, trained))
    assert len(np.unique(after)) <= 8
    assert np.abs(after - before).max() > 1e-4


def test_a_model_of_which_tfmot_takes_nothing_is_refused() -> None:
    model = zoo.build("BiGRU")
    step = edgekit.Prune(0.5, epochs=1, engine="tfmot", layers={"logits": "skip"})
    with pytest.raises(ModelError, match=r'does not prune Bidirectional layers.*use engine = "keras"'):
        edgekit.compress(model, step, data=zoo.inputs(model, 2), training=SAME_OUTPUTS)


def test_parts_of_a_layer_cannot_be_set_apart() -> None:
    model = zoo.build("transformer")
    step = edgekit.Prune(0.5, epochs=1, engine="tfmot", layers={"attention_0/query": "skip"})
    with pytest.raises(ConfigError, match=r"'attention_0/query' apart.*takes as a whole"):
        edgekit.compress(model, step, data=zoo.inputs(model, 2), training=SAME_OUTPUTS)


def test_settings_that_the_engine_lacks_are_refused(loaded: LoadedModel, digits: Digits) -> None:
    step = edgekit.Prune(0.5, epochs=1, engine="tfmot")
    with pytest.raises(ConfigError, match=r'training.patience: engine = "tfmot" trains without it'):
        edgekit.compress(loaded, step, data=digits.few(64), training=TrainingSettings(patience=2))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: edgekit.Prune(0.5, engine="tfmot", importance="taylor"), "Prune.importance 'taylor'"),
        (lambda: edgekit.Prune(0.5, engine="tfmot", scope="global"), "Prune.scope 'global'"),
        (lambda: edgekit.Prune(0.5, engine="tfmot", norm="l2", pattern="4x1"), "Prune.norm 'l2' of blocks"),
        (lambda: edgekit.Prune(0.5, engine="tfmot", epochs=0), "Prune.epochs 0"),
        (lambda: edgekit.Cluster(engine="tfmot", epochs=0), "Cluster.epochs 0"),
        (lambda: edgekit.Cluster(2, engine="tfmot"), "Cluster.clusters 2 with preserve_sparsity"),
        (lambda: edgekit.QuantizeAware(engine="tfmot", epochs=0), "QuantizeAware.epochs 0"),
        (lambda: edgekit.QuantizeAware(engine="tfmot", bits=4), "QuantizeAware.bits 4"),
    ],
)
def test_what_tfmot_has_nothing_for_is_refused_at_once(make: object, what: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make()  # type: ignore[operator]
    assert str(refusal.value) == f'{what}: TFMOT has nothing of the kind; use engine = "keras"'


def test_losses_travel_by_name() -> None:
    wanted = portable_loss(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert wanted["name"] == "SparseCategoricalCrossentropy"
    made = _loss(keras.losses, wanted)  # Keras 3's losses stand for tf_keras's, which have the same names
    assert made.get_config()["from_logits"] is True
    assert _loss(keras.losses, portable_loss(keras.losses.get("mse"))) is keras.losses.mean_squared_error
    with pytest.raises(ConfigError, match=r"loss 'own': .*Keras's own losses"):
        portable_loss(own)
    with pytest.raises(ConfigError, match="loss 'MeanSquaredError': tf_keras has none"):
        _loss(SimpleNamespace(), portable_loss(keras.losses.MeanSquaredError()))


def own(target: object, output: object) -> object:
    return output


@pytest.mark.parametrize(("steps", "expected"), [(1, (1, 1)), (5, (1, 3)), (102, (2, 60)), (1000, (20, 600))])
def test_masks_are_chosen_for_the_last_time_at_full_sparsity(steps: int, expected: tuple[int, int]) -> None:
    """TFMOT chooses at multiples of the first number: a last step between two of them would never come."""
    request = {"epochs": 1, "batch_size": 1, "ramp": 0.6, "updates": 30}
    assert _rhythm(Job(None, [np.zeros(steps)], [], request)) == expected


def test_tfmot_does_not_disturb_this_process(quantized: dict[str, LoadedModel]) -> None:
    assert quantized["tfmot"].activation_ranges is not None
    assert keras.__version__.startswith("3.")
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    assert "tensorflow_model_optimization" not in sys.modules
