from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import edgekit
from benchmarks import zoo
from edgekit import QuantizeWeights
from edgekit.compression.kernels import kernels
from edgekit.compression.weight_grids import rounding
from edgekit.compression.weight_quantization import STORAGE_ONLY
from edgekit.errors import ConfigError, DataError
from edgekit.loading import LoadedModel
from tests.compression.conftest import Interrupting
from tests.compression.weights_models import matrices, normalized, same_weights, small, texts
from tests.conftest import Digits

Columns = dict[str, np.ndarray]

KINDS = [("linear", 8), ("linear", 4), ("linear", 2), ("logarithmic", 4), ("ternary", None), ("binary", None)]


def most_values(matrix: np.ndarray) -> int:
    """The most distinct values in any output channel."""
    return max(len(np.unique(column)) for column in matrix.T)


def accuracy(model: LoadedModel, digits: Digits) -> float:
    outputs = model.predict({"image": digits.test["image"]})["probabilities"]
    return float(np.mean(outputs.argmax(axis=1) == digits.test["y"]))


def rounded(step: QuantizeWeights, weights: np.ndarray) -> np.ndarray:
    return np.asarray(rounding(step, weights, (0,))(keras.ops.convert_to_tensor(weights)))


@pytest.fixture
def normal() -> np.ndarray:
    return np.random.default_rng(0).normal(0, [0.01, 1, 30], (5000, 3)).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_linear_values_are_even_steps_around_zero(bits: int, normal: np.ndarray) -> None:
    for column in rounded(QuantizeWeights(bits=bits), normal).T:
        steps = column / np.abs(column[column != 0]).min()
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
        assert len(np.unique(column)) <= 2**bits - 1
        assert len(np.unique(column)) > 0.7 * 2**bits - 1


def test_a_linear_grid_ends_where_it_loses_least(normal: np.ndarray) -> None:
    got = rounded(QuantizeWeights(bits=4), normal)
    scale = np.abs(normal).max(axis=0) / 7
    plain = np.round(normal / scale) * scale
    assert (np.square(got - normal).sum(axis=0) < 0.8 * np.square(plain - normal).sum(axis=0)).all()


def test_logarithmic_values_are_powers_of_two(normal: np.ndarray) -> None:
    got = rounded(QuantizeWeights("logarithmic", bits=4), normal)
    fractions, _ = np.frexp(np.abs(got[got != 0]))
    assert set(fractions) == {0.5}
    assert most_values(got) == 15
    stayed = got != 0
    assert (np.abs(np.log2(np.abs(got[stayed] / normal[stayed]))) <= 0.5 + 1e-5).all()
    assert (got[2500:, 1] == 0).sum() > 0


def test_ternary_and_binary_values_are_those_of_their_papers(normal: np.ndarray) -> None:
    sizes = np.abs(normal)
    ternary = rounded(QuantizeWeights("ternary"), normal)
    large = sizes > 0.7 * sizes.mean(axis=0)
    means = np.array([sizes[large[:, column], column].mean() for column in range(3)])
    np.testing.assert_allclose(ternary, np.where(large, np.sign(normal) * means, 0), rtol=1e-4)
    binary = rounded(QuantizeWeights("binary"), normal)
    np.testing.assert_allclose(binary, np.sign(normal) * sizes.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize(("scheme", "bits"), KINDS)
def test_zeros_and_channels_of_zeros_stay(scheme: Any, bits: int | None, normal: np.ndarray) -> None:
    normal[::2, 0] = 0
    normal[:, 2] = 0
    got = rounded(QuantizeWeights(scheme, bits), normal)
    assert (got[::2, 0] == 0).all()
    assert (got[:, 2] == 0).all()
    assert np.isfinite(got).all()
    assert not np.signbit(got[got == 0]).any()  # one bit pattern for zero


@pytest.mark.parametrize("name", ["transformer", "BiGRU", "nested", "several"])
def test_every_kind_of_kernel_is_rounded(name: str) -> None:
    stored = edgekit.compress(small(name), QuantizeWeights(bits=4))
    assert max(map(most_values, matrices(stored).values())) <= 15
    assert (
        texts(stored)[""]
        == STORAGE_ONLY
        == ("for storage only: the weights are float32 still, pack well, and no engine's kernel runs them faster")
    )


def test_eight_bits_change_next_to_nothing(loaded: LoadedModel, digits: Digits) -> None:
    stored = edgekit.compress(loaded, QuantizeWeights())
    columns = {"image": digits.test["image"]}
    np.testing.assert_allclose(
        stored.predict(columns)["probabilities"], loaded.predict(columns)["probabilities"], atol=0.05
    )
    assert accuracy(stored, digits) == pytest.approx(accuracy(loaded, digits), abs=0.01)


@pytest.mark.parametrize(("scheme", "bits"), [("linear", 2), ("logarithmic", 2), ("ternary", None), ("binary", None)])
def test_training_through_the_rounding_recovers(
    scheme: Any, bits: int | None, loaded: LoadedModel, digits: Digits
) -> None:
    at_once = edgekit.compress(loaded, QuantizeWeights(scheme, bits))
    step = QuantizeWeights(scheme, bits, epochs=3, learning_rate=3e-3)
    trained = edgekit.compress(loaded, step, data=digits.train)
    assert accuracy(trained, digits) > min(0.93, accuracy(at_once, digits) + 0.1)
    limit = 2 if scheme == "binary" else 3
    rounded_kernels = [k for k in kernels(trained.model) if k.kind == "kernel"]
    assert max(most_values(kernel.read()) for kernel in rounded_kernels) <= limit


def test_depthwise_kernels_are_left_by_three_values_or_two(loaded: LoadedModel) -> None:
    for scheme in ("ternary", "binary"):
        stored = edgekit.compress(loaded, QuantizeWeights(scheme))  # type: ignore[arg-type]
        assert texts(stored)["depthwise"] == (
            f"depthwise kernels have 9 weights per channel, too few for {scheme} ones; left as they are"
        )
        np.testing.assert_array_equal(matrices(stored)["depthwise"], matrices(loaded)["depthwise"])


@pytest.mark.parametrize(("scheme", "bits"), KINDS)
def test_zeros_of_pruning_and_shared_values_survive(
    scheme: Any, bits: int | None, loaded: LoadedModel, few: Columns
) -> None:
    before = edgekit.compress(
        loaded, edgekit.Prune(0.5, epochs=0), edgekit.Cluster(8, epochs=0, layers={"conv": "skip"})
    )
    stored = edgekit.compress(before, QuantizeWeights(scheme, bits, epochs=1), data=few)
    for name in ("conv", "probabilities"):
        assert (matrices(stored)[name][matrices(before)[name] == 0] == 0).all()
    assert len(np.unique(matrices(stored)["probabilities"])) <= 8
    notes = [note.text for note in stored.notes if note.layer == "probabilities"]
    assert "one scale for the whole kernel, so that its shared values stay shared" in notes
    assert ("its 640 zeros stay, so that it has three values, not two" in notes) == (scheme == "binary")


def test_a_kernel_that_is_skipped_keeps_its_zeros_and_its_values(loaded: LoadedModel, few: Columns) -> None:
    before = edgekit.compress(loaded, edgekit.Prune(0.5, epochs=0, layers={"prob*": "skip"}))
    before = edgekit.compress(before, edgekit.Cluster(8, epochs=0, layers={"conv": "skip"}))
    step = QuantizeWeights(epochs=1, layers={"*": "skip", "depthwise": {"bits": 4}})
    stored = edgekit.compress(before, step, data=few)
    assert int((matrices(stored)["conv"] == 0).sum()) == 36
    assert len(np.unique(matrices(stored)["probabilities"])) == 8
    assert most_values(matrices(stored)["depthwise"]) <= 9
    assert not np.array_equal(matrices(stored)["conv"], matrices(before)["conv"])


def test_layers_have_settings_of_their_own(loaded: LoadedModel) -> None:
    step = QuantizeWeights(bits=6, layers={"prob*": {"scheme": "ternary"}, "conv": {"bits": 3}, "depthwise": "skip"})
    stored = edgekit.compress(loaded, step)
    assert most_values(matrices(stored)["probabilities"]) == 3
    assert most_values(matrices(stored)["conv"]) <= 7
    np.testing.assert_array_equal(matrices(stored)["depthwise"], matrices(loaded)["depthwise"])


def test_state_that_does_not_train_survives() -> None:
    model = normalized()
    stored = edgekit.compress(model, QuantizeWeights())
    values = np.random.default_rng(1).normal(5, 3, (8, 8)).astype(np.float32)
    np.testing.assert_allclose(stored.model(values), model(values), atol=0.1)


@pytest.mark.slow
def test_large_networks_are_rounded() -> None:
    stored = edgekit.compress(zoo.build("MobileNetV3Small", size=32), QuantizeWeights("logarithmic", bits=3))
    assert max(map(most_values, matrices(stored).values())) == 7


def test_bad_input_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match=r"^step 'quantize-weights' needs training data: give data$"):
        edgekit.compress(loaded, QuantizeWeights(epochs=1))
    with pytest.raises(ConfigError, match=r"^QuantizeWeights.layers\['dense'\] matches no layer of this step; known: "):
        edgekit.compress(loaded, QuantizeWeights(layers={"dense": "skip"}))
    with pytest.raises(ConfigError) as caught:
        edgekit.compress(loaded, QuantizeWeights(layers={"conv": {"scheme": "binary", "bits": 4}}))
    assert str(caught.value) == (
        "QuantizeWeights.layers['conv']: QuantizeWeights.bits is 4, but 'binary' has its own; leave bits out"
    )


@pytest.mark.parametrize(("scheme", "bits"), [("linear", 4), ("ternary", None)])
def test_a_killed_run_goes_on_to_the_same_bits(
    scheme: Any, bits: int | None, loaded: LoadedModel, few: Columns, tmp_path: Path
) -> None:
    before = edgekit.compress(loaded, edgekit.Cluster(8, epochs=0, layers={"conv": "skip"}))
    step = QuantizeWeights(scheme, bits, epochs=2, layers={"probabilities": "skip"} if bits else {})
    whole = edgekit.compress(before, step, data=few)
    with pytest.raises(KeyboardInterrupt):
        edgekit.compress(before, step, data=few, checkpoints=tmp_path, progress=Interrupting("quantize weights", 7))
    keras.utils.set_random_seed(7)
    same_weights(edgekit.compress(before, step, data=few, checkpoints=tmp_path), whole)
