from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.data import Data
from edgekit.errors import ConfigError
from edgekit.goals import Budget, class_count, find_goal
from edgekit.tensors import TensorSpec

SCORES = (TensorSpec("scores", (None, 3), "float32"),)
REFERENCE = {"scores": np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]}
OTHER = {"scores": np.eye(3, dtype=np.float32)[[0, 1, 0, 0]]}
INPUTS = {"image": np.zeros((4, 2), np.float32)}


def data(labels: list[int] | None = None) -> Data:
    return Data(INPUTS, None if labels is None else np.array(labels), "test")


def test_accuracy_where_there_are_labels() -> None:
    goal = find_goal(Budget(max_drop=25), SCORES, data([0, 1, 1, 0]), REFERENCE)
    assert (goal.name, goal.float_value, goal.least) == ("top-1 accuracy", 0.75, 0.5)
    assert goal.measure({"scores": np.zeros((4, 3))}) == 0.5  # class 0 throughout
    assert (goal.met(0.5), goal.met(0.49)) == (True, False)


def test_agreement_where_there_are_none() -> None:
    goal = find_goal(Budget(), SCORES, data(), REFERENCE)
    assert (goal.name, goal.float_value, goal.least) == ("top-1 agreement", 1.0, 0.995)
    assert goal.measure(OTHER) == 0.75


def test_an_snr_for_any_outputs() -> None:
    goal = find_goal(Budget(min_snr=3.0), (*SCORES, *SCORES), data([0, 1, 1, 0]), REFERENCE)
    assert (goal.name, goal.float_value) == ("SNR", None)
    assert goal.measure(OTHER) == pytest.approx(10 * math.log10(4 / 2))
    assert goal.measure(REFERENCE) == math.inf
    assert goal.met(math.inf)


@pytest.mark.parametrize("shape", [(None, 8, 8, 1), (None, 1), (None,)])
def test_outputs_that_are_no_class_scores_need_an_snr(shape: tuple[int | None, ...]) -> None:
    outputs = (TensorSpec("depth", shape, "float32"),)
    assert class_count(outputs) is None
    with pytest.raises(ConfigError, match=r"'depth' .* so there is no top-1: .* --min-snr DB"):
        find_goal(Budget(), outputs, data(), REFERENCE)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"max_drop": -1.0}, "--max-drop is -1 points, expected 0 to 100"),
        ({"max_drop": math.nan}, "--max-drop is nan points"),
        ({"min_snr": math.inf}, "--min-snr is inf, expected a number"),
        ({"max_drop": 1.0, "min_snr": 20.0}, "give one of them"),
    ],
)
def test_a_budget_out_of_range(budget: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Budget(**budget)
