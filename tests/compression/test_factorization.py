from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit import Factorize
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import LoadedModel, describe
from tests.compression.conftest import Interrupting
from tests.compression.weights_models import normalized, same_weights, small, texts
from tests.keras_models import samples

Columns = dict[str, np.ndarray]


def low_rank(model: Any, rank: int = 2) -> Any:
    """The model with kernels of this rank and biases that are not zero."""
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name in ("kernel", "embeddings"):
            rows, columns = int(np.prod(variable.shape[:-1])), variable.shape[-1]
            product = generator.normal(0, 0.5, (rows, rank)) @ generator.normal(0, 0.5, (rank, columns))
            variable.assign(product.reshape(variable.shape))
        elif variable.name == "bias":
            variable.assign(generator.normal(0, 1, variable.shape))
    return model


def convolutions() -> Any:
    """Every setting that a factor must take over, a shared layer, and a layer that has the first factor's name."""
    image = x = keras.Input((16, 16, 12), name="image")
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="strided")(x)
    x = layers.Conv2D(16, (3, 2), dilation_rate=2, use_bias=False, name="dilated")(x)
    x = layers.Conv2D(16, 1, strides=2, activation="tanh", name="point")(x)
    x = layers.Reshape((-1, 16), name="strided_inner")(x)
    x = layers.Conv1D(16, 3, padding="causal", activation="gelu", name="causal")(x)
    shared = layers.Dense(16, activation="relu", name="shared")
    x = shared(shared(x))
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return low_rank(keras.Model(image, layers.Dense(10, activation="softmax", name="classes")(x), name="convolutions"))


def words() -> Any:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(40, 12, mask_zero=True, name="embedding")(tokens)
    x = layers.LSTM(8, name="lstm")(x)
    return low_rank(keras.Model(tokens, layers.Dense(3, name="logits")(x), name="words"))


def assert_same_outputs(before: LoadedModel, after: LoadedModel, columns: Columns) -> None:
    assert after.inputs == before.inputs
    assert after.outputs == before.outputs
    got, wanted = after.predict(columns), before.predict(columns)
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, atol=1e-5)


def test_all_the_energy_gives_the_same_outputs_with_fewer_weights() -> None:
    before = describe(convolutions())
    after = edgekit.compress(before, Factorize(energy=1.0))
    assert_same_outputs(before, after, samples(before.model))
    names = [layer.name for layer in after.model.layers]
    assert names == [
        "image", "strided_inner_", "strided", "dilated_inner", "dilated", "point_inner", "point", "strided_inner",
        "causal_inner", "causal", "shared_inner", "shared", "pooled", "classes_inner", "classes",
    ]  # fmt: skip
    notes = texts(after)
    assert notes["strided"] == "rank 2 of 16 keeps 100.0% of its energy"
    assert notes[""] == f"6 kernels factorized: {before.parameters:,} parameters became {after.parameters:,}"
    assert after.parameters < before.parameters / 3


def test_the_first_factor_has_the_window_and_the_last_the_activation() -> None:
    after = edgekit.compress(convolutions(), Factorize(rank=3)).model
    first, last = after.get_layer("dilated_inner"), after.get_layer("dilated")
    assert (first.kernel.shape, first.dilation_rate, first.use_bias) == ((3, 2, 16, 3), (2, 2), False)
    assert (last.kernel.shape, last.dilation_rate, last.use_bias) == ((1, 1, 3, 16), (1, 1), False)
    first, last = after.get_layer("strided_inner"), after.get_layer("strided")
    assert after.get_layer("strided_inner_").strides == (2, 2)
    assert (last.strides, last.padding, last.activation.__name__, last.use_bias) == ((1, 1), "valid", "relu", True)


def test_the_factors_are_the_best_approximation_of_their_rank() -> None:
    before = small("siamese")
    after = edgekit.compress(before, Factorize(rank=4, layers={"code": "skip", "logits": "skip"}))
    kernel = np.asarray(before.model.get_layer("encoder").get_layer("hidden").kernel)
    first, last = (np.asarray(after.model.get_layer(name).kernel) for name in ("hidden_inner", "hidden"))
    values = np.linalg.svd(kernel, compute_uv=False)
    assert np.square(kernel - first @ last).sum() == pytest.approx(np.square(values[4:]).sum(), rel=1e-4)
    assert np.linalg.norm(first) == pytest.approx(np.linalg.norm(last), rel=1e-4)


def test_an_embedding_keeps_its_mask() -> None:
    before = describe(words())
    after = edgekit.compress(before, Factorize(energy=1.0))
    tokens = np.array([[1, 2, 3, 0, 0, 0], [4, 0, 0, 0, 0, 0], [5, 6, 7, 8, 9, 10]], np.int32)
    assert_same_outputs(before, after, {"tokens": tokens})
    assert after.model.get_layer("embedding_inner").embeddings.shape == (40, 2)
    notes = texts(after)
    assert notes["lstm/lstm_cell"] == "the kernel of a LSTMCell layer is not factorized; left whole"
    assert notes["lstm/lstm_cell/recurrent_kernel"] == notes["lstm/lstm_cell"]


@pytest.mark.parametrize("name", ["siamese", "nested", "several", "transformer", "Conv1D"])
def test_real_graphs_at_all_ranks_that_save(name: str) -> None:
    before = describe(low_rank(zoo.build(name)))
    after = edgekit.compress(before, Factorize(energy=1.0))
    columns = zoo.inputs(before.model, 8)
    got, wanted = after.predict(columns), before.predict(columns)
    for output, array in wanted.items():
        np.testing.assert_allclose(got[output], array, atol=1e-5 * max(1, np.abs(array).max()))
    assert after.parameters < before.parameters
    reasons = " ".join(texts(after).values())
    assert name != "transformer" or "the kernel of a EinsumDense layer is not factorized; left whole" in reasons
    assert name != "nested" or "the kernel of a DepthwiseConv2D layer is not factorized; left whole" in reasons


def test_where_factors_save_nothing_the_kernel_stays() -> None:
    before = small("Conv1D")
    after = edgekit.compress(before, Factorize(energy=1.0))
    assert after.parameters == before.parameters
    assert texts(after)["conv_1"] == "left whole: factors of that rank have no fewer than its 2,304 weights"
    assert texts(after)[""].startswith("0 kernels factorized")
    same_weights(after, before)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_a_budget_of_the_whole_model_is_kept_and_used(share: float) -> None:
    before = small("Conv1D")
    budget = int(before.parameters * share)
    after = edgekit.compress(before, Factorize(max_parameters=budget))
    assert budget - 24 * 5 - 32 < after.parameters <= budget


def test_a_budget_leaves_room_for_layers_with_settings_of_their_own() -> None:
    before = small("Conv1D")
    step = Factorize(max_parameters=2500, layers={"conv_0": {"rank": 2}, "logits": "skip"})
    after = edgekit.compress(before, step)
    assert after.model.get_layer("conv_0_inner").kernel.shape[-1] == 2
    assert after.parameters <= 2500


def test_a_budget_that_is_met_already_changes_nothing() -> None:
    before = small("Conv1D")
    after = edgekit.compress(before, Factorize(max_parameters=before.parameters))
    assert after.parameters == before.parameters
    assert texts(after)["conv_1"] == "left whole: the budget is met without it"


def test_a_budget_out_of_reach_is_refused_with_what_can_be_reached() -> None:
    before = small("Conv1D")
    with pytest.raises(ConfigError) as caught:
        edgekit.compress(before, Factorize(max_parameters=100))
    least = int(str(caught.value).split("keeps ")[1].split()[0].replace(",", ""))
    assert str(caught.value) == (
        f"Factorize.max_parameters is 100, but 'conv1d' keeps {least:,} with rank 1 in every kernel that can be "
        f"factorized; ask for {least:,} or more"
    )
    assert edgekit.compress(before, Factorize(max_parameters=least)).parameters == least
    with pytest.raises(ConfigError):
        edgekit.compress(before, Factorize(max_parameters=least - 1))


def test_more_energy_is_a_higher_rank() -> None:
    before = small("Conv1D")
    parameters = [edgekit.compress(before, Factorize(energy=energy)).parameters for energy in (0.3, 0.6)]
    assert parameters[0] < parameters[1] < before.parameters


def test_state_that_does_not_train_survives() -> None:
    model = low_rank(normalized())
    before = describe(model)
    after = edgekit.compress(before, Factorize(energy=1.0))
    assert_same_outputs(before, after, {"x": np.random.default_rng(1).normal(5, 3, (8, 8)).astype(np.float32)})
    assert after.parameters < before.parameters


def test_large_networks_are_factorized() -> None:
    before = describe(low_rank(zoo.build("MobileNetV3Small", size=32), 8))
    after = edgekit.compress(before, Factorize(energy=1.0))
    columns = zoo.inputs(before.model, 4)
    (got,), (wanted,) = after.predict(columns).values(), before.predict(columns).values()
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    assert after.parameters < 0.7 * before.parameters


def test_what_cannot_be_two_layers_is_named() -> None:
    x = keras.Input((6, 8), name="x")
    dense = layers.TimeDistributed(layers.Dense(8, name="inner"), name="each")(x)
    grouped = layers.Conv1D(8, 3, groups=4, name="grouped")(dense)
    frozen = layers.Dense(8, name="frozen")
    model = keras.Model(x, layers.Dense(8, name="last")(frozen(grouped)))
    frozen.trainable = False
    notes = texts(edgekit.compress(model, Factorize(rank=1)))
    assert notes["each/inner"] == "it is part of the layer 'each', which calls it itself; left whole"
    assert notes["grouped"] == "its channels are in 4 groups; left whole"
    assert notes["frozen"] == "frozen: its layer does not train"
    assert notes["last"].startswith("rank 1 of 8 keeps ")


def test_bad_input_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"^step 'factorize' needs training data: give data$"):
        edgekit.compress(loaded, Factorize(rank=2, epochs=1))
    with pytest.raises(ConfigError, match=r"^Factorize.layers\['dense'\] matches no layer of this step; known: conv, "):
        edgekit.compress(loaded, Factorize(rank=2, layers={"dense": "skip"}))
    with pytest.raises(ConfigError, match=r"Factorize.layers\['conv'\]: Factorize needs exactly one of energy, rank"):
        edgekit.compress(loaded, Factorize(rank=2, layers={"conv": {"rank": 2, "energy": 0.5}}))
    x = keras.Input((4, 4), name="x")
    model = keras.Model(x, layers.LSTM(4, name="lstm")(x), name="recurrent")
    with pytest.raises(
        ModelError, match=r"^step 'factorize' finds no kernel in 'recurrent' to work on \(lstm/lstm_cell"
    ):
        edgekit.compress(model, Factorize(rank=2))


def test_a_killed_run_goes_on_to_the_same_bits(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    step = Factorize(rank=3, epochs=2)
    whole = edgekit.compress(loaded, step, data=few)
    assert whole.parameters < loaded.parameters
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(loaded, step, data=few, checkpoints=tmp_path, progress=Interrupting("factorize to", 7))
    keras.utils.set_random_seed(7)
    same_weights(edgekit.compress(loaded, step, data=few, checkpoints=tmp_path), whole)


def test_other_steps_follow(loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    recipe = (Factorize(rank=3), edgekit.Prune(0.5, epochs=1), edgekit.Cluster(8, epochs=1), edgekit.QuantizeWeights())
    made = edgekit.compress(loaded, *recipe, data=few)
    made.save(tmp_path / "made.keras")
    table = np.asarray(edgekit.load(tmp_path / "made.keras").model.get_layer("probabilities_inner").kernel)
    assert float((table == 0).mean()) == pytest.approx(0.5, abs=0.01)
    assert len(np.unique(table)) <= 8
    plain = keras.saving.load_model(tmp_path / "made.keras").predict(few["image"], verbose=0)
    np.testing.assert_allclose(plain, made.predict({"image": few["image"]})["probabilities"], atol=1e-6)
