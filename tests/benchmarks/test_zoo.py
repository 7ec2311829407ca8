from __future__ import annotations

import numpy as np
import pytest

from benchmarks import zoo
from edgekit.loading import describe

CHEAP = ("transformer", "LSTM", "BiGRU", "Conv1D", "siamese", "nested", "several", *zoo.CONVERTED_TOO)


def varied(name: str, **settings: int) -> None:
    loaded = describe(zoo.build(name, **settings))
    columns = zoo.inputs(loaded.model, 8)
    assert list(columns) == [spec.name for spec in loaded.inputs]
    for array in loaded.predict(columns).values():
        spread = array.std(axis=0)
        assert 1e-3 < spread.mean() < 100, f"{name}: outputs spread by {spread} over the inputs"


@pytest.mark.parametrize("name", CHEAP)
def test_outputs_answer_to_the_inputs(name: str) -> None:
    varied(name)


def test_size_and_classes_are_settable() -> None:
    model = zoo.build("MobileNetV2", size=32, classes=3)
    assert (model.inputs[0].shape, model.outputs[0].shape) == ((None, 32, 32, 3), (None, 3))


def test_a_seed_decides_the_weights() -> None:
    first, same, other = (zoo.build("Conv1D", seed).get_weights()[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(zoo.ARCHITECTURES) - set(CHEAP)))
def test_outputs_of_large_networks_answer_to_the_inputs(name: str) -> None:
    varied(name)
