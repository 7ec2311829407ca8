from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import edgekit
from benchmarks import zoo
from edgekit.compression.kernels import kernels
from edgekit.compression.sharing import Codebook, Sharing
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.compression.weights_models import matrices, normalized, same_weights, small, texts

Columns = dict[str, np.ndarray]


def values(loaded: LoadedModel, name: str) -> int:
    return len(np.unique(matrices(loaded)[name]))


@pytest.mark.parametrize("name", ["transformer", "BiGRU", "nested", "several"])
def test_every_kind_of_kernel_shares_at_most_so_many_values(name: str) -> None:
    clustered = edgekit.compress(small(name), edgekit.Cluster(8, epochs=0))
    notes = texts(clustered)
    for kernel in kernels(clustered.model):
        count = values(clustered, kernel.name)
        if kernel.kind == "depthwise" or kernel.size < 32:
            assert count > 8
            assert "left as they are" in notes[kernel.name]
        else:
            assert count == 8, kernel.name


@pytest.mark.parametrize("initialization", ["kmeans++", "linear", "density"])
def test_values_that_trained_are_still_shared_and_survive_a_file(
    initialization: Any, loaded: LoadedModel, few: Columns, tmp_path: Path
) -> None:
    at_once = edgekit.compress(loaded, edgekit.Cluster(16, epochs=0, initialization=initialization))
    clustered = edgekit.compress(loaded, edgekit.Cluster(16, epochs=2, initialization=initialization), data=few)
    clustered.save(tmp_path / "clustered.keras")
    again = edgekit.load(tmp_path / "clustered.keras")
    for model in (at_once, clustered, again):
        assert values(model, "conv") <= 16
        assert values(model, "probabilities") == 16
        assert values(model, "depthwise") == 72
    first, trained = matrices(at_once)["probabilities"], matrices(clustered)["probabilities"]
    assert not np.array_equal(np.unique(first), np.unique(trained))
    pairs = np.unique(np.stack([first.ravel(), trained.ravel()]), axis=1)
    assert pairs.shape[1] == 16  # which weights share a value was decided once
    assert texts(clustered)[""].startswith("1,352 weights in 2 kernels share at most 16 values each")


def test_a_value_moves_by_the_mean_change_of_its_members() -> None:
    variable = keras.Variable(np.zeros((2, 3), np.float32))
    members = np.array([[0, 1, 2], [1, 1, 2]], np.int32)
    sharing = Sharing([(variable, Codebook(np.array([0.0, 1.0, 5.0], np.float32), members))])
    assert np.asarray(variable).tolist() == [[0, 1, 5], [1, 1, 5]]
    variable.assign_add(np.array([[9.0, 0.3, 0.1], [0.6, 0.0, 0.3]], np.float32))
    sharing.apply()
    np.testing.assert_allclose(np.asarray(variable), [[0, 1.3, 5.2], [1.3, 1.3, 5.2]], rtol=1e-6)
    before = np.asarray(variable).copy()
    sharing.apply()
    np.testing.assert_array_equal(np.asarray(variable), before)


def test_values_go_back_to_where_they_were() -> None:
    variable = keras.Variable(np.zeros(4, np.float32))
    sharing = Sharing([(variable, Codebook(np.array([1.0, 5.0], np.float32), np.array([0, 0, 1, 1], np.int32)))])
    arrays = sharing.arrays()
    variable.assign_add(np.ones(4, np.float32))
    sharing.apply()
    assert np.asarray(variable).tolist() == [2, 2, 6, 6]
    sharing.restore(arrays)
    variable.assign(np.array([1, 1, 5, 5], np.float32))
    sharing.apply()
    assert np.asarray(variable).tolist() == [1, 1, 5, 5]


def test_zeros_stay_zeros_and_zero_is_one_of_the_values(loaded: LoadedModel, few: Columns) -> None:
    pruned = edgekit.compress(loaded, edgekit.Prune(0.6, epochs=0))
    clustered = edgekit.compress(pruned, edgekit.Cluster(8, epochs=1), data=few)
    for name in ("conv", "probabilities"):
        np.testing.assert_array_equal(matrices(clustered)[name] == 0, matrices(pruned)[name] == 0)
        assert values(clustered, name) == 8
    free = edgekit.compress(pruned, edgekit.Cluster(8, epochs=1, preserve_sparsity=False), data=few)
    assert (matrices(free)["probabilities"] == 0).mean() < 0.1


def test_zeros_of_a_kernel_that_is_skipped_stay(loaded: LoadedModel, few: Columns) -> None:
    step = edgekit.Cluster(8, epochs=1, layers={"conv": "skip"})
    clustered = edgekit.compress(loaded, edgekit.Prune(0.6, epochs=0), step, data=few)
    assert int((matrices(clustered)["conv"] == 0).sum()) == round(0.6 * 72)
    assert values(clustered, "conv") > 20


def test_two_kinds_of_values_around_zero_can_be_asked_for() -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, use_bias=False, name="dense")(x))
    model.get_layer("dense").kernel.assign([[1.0, -1.0], [0.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    clustered = edgekit.compress(model, edgekit.Cluster(2, epochs=0))
    assert values(clustered, "dense") <= 2


def test_a_second_clustering_leaves_the_values_of_the_first(loaded: LoadedModel, few: Columns) -> None:
    first = edgekit.Cluster(8, epochs=0, layers={"probabilities": "skip"})
    second = edgekit.Cluster(4, epochs=1, layers={"conv": "skip"})
    both = edgekit.compress(loaded, first, second, data=few)
    assert (values(both, "conv"), values(both, "probabilities")) == (8, 4)


def test_clustering_trains(loaded: LoadedModel, digits: Any) -> None:
    """At 3 values, training the values recovers most of what sharing lost."""

    def accuracy(model: LoadedModel) -> float:
        outputs = model.predict({"image": digits.test["image"]})["probabilities"]
        return float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))

    at_once = edgekit.compress(loaded, edgekit.Cluster(3, epochs=0))
    trained = edgekit.compress(loaded, edgekit.Cluster(3, epochs=4, learning_rate=5e-3), data=digits.train)
    assert accuracy(trained) > accuracy(at_once) + 0.02
    assert values(trained, "probabilities") == 3


def test_state_that_does_not_train_survives() -> None:
    model = normalized()
    clustered = edgekit.compress(model, edgekit.Cluster(8, epochs=0))
    normalization = clustered.model.get_layer("inner").get_layer("normalization")
    given = model.get_layer("inner").get_layer("normalization")
    values = np.random.default_rng(1).normal(5, 3, (8, 8)).astype(np.float32)
    np.testing.assert_array_equal(normalization(values), given(values))


def test_layers_have_settings_of_their_own(loaded: LoadedModel) -> None:
    clustered = edgekit.compress(loaded, edgekit.Cluster(16, epochs=0, layers={"c*": {"clusters": 4}}))
    assert (values(clustered, "conv"), values(clustered, "probabilities")) == (4, 16)


@pytest.mark.slow
def test_large_networks_are_clustered() -> None:
    clustered = edgekit.compress(zoo.build("MobileNetV3Small", size=32), edgekit.Cluster(16, epochs=0))
    counts = [values(clustered, kernel.name) for kernel in kernels(clustered.model) if kernel.kind == "kernel"]
    assert max(counts) == 16
    assert texts(clustered)["expanded_conv_depthwise"] == (
        "depthwise kernels have 9 weights per channel, too few to share values; left as they are"
    )


def test_nothing_to_cluster_is_refused() -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, layers.Dense(2, name="dense")(x), name="tiny")
    with pytest.raises(ModelError) as caught:
        edgekit.compress(model, edgekit.Cluster(16, epochs=0))
    assert str(caught.value) == (
        "step 'cluster' finds no kernel in 'tiny' to work on (dense: its 6 weights are too few to share 16 values; "
        "left as they are); leave the step out"
    )


def test_bad_input_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"^step 'cluster' needs training data: give data$"):
        edgekit.compress(loaded, edgekit.Cluster(16))
    with pytest.raises(ConfigError, match=r"^Cluster.layers\['dense'\] matches no layer of this step; known: conv, "):
        edgekit.compress(loaded, edgekit.Cluster(16, epochs=0, layers={"dense": "skip"}))
    with pytest.raises(ConfigError, match=r"Cluster.clusters must be a whole number, 2 or more, got 1$"):
        edgekit.compress(loaded, edgekit.Cluster(16, epochs=0, layers={"conv": {"clusters": 1}}))


@pytest.mark.parametrize("batches", [2, 7])
def test_a_killed_run_goes_on_to_the_same_bits(batches: int, loaded: LoadedModel, few: Columns, tmp_path: Path) -> None:
    pruned = edgekit.compress(loaded, edgekit.Prune(0.4, epochs=0, layers={"conv": "skip"}))
    step = edgekit.Cluster(8, epochs=2)
    whole = edgekit.compress(pruned, step, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(pruned, step, data=few, checkpoints=tmp_path, progress=Interrupting("cluster to", batches))
    keras.utils.set_random_seed(7)
    same_weights(edgekit.compress(pruned, step, data=few, checkpoints=tmp_path), whole)
