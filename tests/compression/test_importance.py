from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import zoo
from edgekit.compression.importance import Scorer, add_up, weight_importance
from edgekit.compression.kernels import kernels
from edgekit.compression.training import Training
from edgekit.data import Data
from edgekit.errors import DataError
from edgekit.loading import LoadedModel, describe


@pytest.fixture
def linear() -> LoadedModel:
    """One weight matrix, and squared error as its loss, so that gradients can be written down."""
    x = keras.Input((2,), name="x")
    model = keras.Model(x, layers.Dense(1, use_bias=False, name="dense")(x), name="linear")
    model.get_layer("dense").kernel.assign([[2.0], [-3.0]])
    model.compile(loss="mean_squared_error")
    return LoadedModel(**{**vars(describe(model)), "compiled_loss": "mean_squared_error"})


def scores(kind: Any, loaded: LoadedModel, data: Data | None) -> list[np.ndarray]:
    variables = [kernel.variable for kernel in kernels(loaded.model)]
    return weight_importance(kind, variables, loaded.model, loaded, Training(data))


def test_gradients_and_taylor_terms_are_those_of_the_loss(linear: LoadedModel) -> None:
    x = np.array([[1.0, 0.5], [2.0, -1.0], [0.0, 4.0]], np.float32)
    y = np.array([[1.0], [0.0], [2.0]], np.float32)
    data = Data({"x": x}, y, "training data")
    residual = x @ [[2.0], [-3.0]] - y
    gradient = np.abs(2 * (x * residual).mean(axis=0))[:, None]
    np.testing.assert_allclose(scores("gradient", linear, data)[0], gradient, rtol=1e-5)
    np.testing.assert_allclose(scores("taylor", linear, data)[0], gradient * [[2.0], [3.0]], rtol=1e-5)
    assert scores("magnitude", linear, None)[0].tolist() == [[2.0], [3.0]]
    assert np.asarray(linear.model.get_layer("dense").kernel).tolist() == [[2.0], [-3.0]]


def test_batches_are_averaged_by_size_of_their_gradients(linear: LoadedModel) -> None:
    """Gradients of opposite sign do not cancel out between batches."""
    x = np.repeat(np.array([[1.0, 0.0]], np.float32), 128, axis=0)
    y = np.repeat(np.array([[1.0], [3.0]], np.float32), 64, axis=0)
    (found,) = scores("gradient", linear, Data({"x": x}, y, "training data"))
    np.testing.assert_allclose(found, [[2.0], [0.0]], rtol=1e-5)


def test_every_kind_of_kernel_has_a_gradient() -> None:
    loaded = describe(zoo.build("transformer"))
    data = Data(zoo.inputs(loaded.model, 32), np.arange(32) % 10, "training data")
    variables = [kernel.variable for kernel in kernels(loaded.model)]
    for kernel, score in zip(kernels(loaded.model), scores("taylor", loaded, data), strict=True):
        assert score.shape == tuple(kernel.variable.shape)
        assert score.max() > 0, kernel.name
    assert len(variables) == 14


def test_importance_follows_the_weights(linear: LoadedModel) -> None:
    variables = [kernel.variable for kernel in kernels(linear.model)]
    data = Data({"x": np.ones((4, 2), np.float32)}, np.zeros((4, 1), np.float32), "training data")
    for kind in ("magnitude", "taylor"):
        scorer = Scorer(kind, variables, linear.model, linear, Training(data))  # type: ignore[arg-type]
        first = scorer()[0]
        variables[0].assign(variables[0] * 2)
        assert (scorer()[0] > first).all()
    random = Scorer("random", variables, linear.model, linear, Training(seed=3))
    np.testing.assert_array_equal(random()[0], random()[0])
    other = Scorer("random", variables, linear.model, linear, Training(seed=4))
    assert not np.array_equal(random()[0], other()[0])


def test_gradients_without_data_are_refused(linear: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"^training data for the recipe is missing: give data$"):
        scores("gradient", linear, None)
    with pytest.raises(DataError, match=r"no labels; add an array 'y'"):
        scores("gradient", linear, Data({"x": np.ones((4, 2), np.float32)}, None, "training data"))


def test_groups_are_added_up() -> None:
    values = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert add_up(values, "l1", 1).tolist() == [7.0, 1.0]
    assert add_up(values, "l2", 1).tolist() == [5.0, 1.0]
