from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgekit.data import Data
from edgekit.errors import ConfigError, DataError
from edgekit.evaluation import evaluate, find_metric, top1

DATA = Data({"image": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])}, np.array([0, 1, 1, 1]), "test data")


def same(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"scores": inputs["image"]}


def test_top1_is_the_fraction_of_right_answers() -> None:
    assert evaluate(same, DATA, top1) == 0.75


def test_a_metric_of_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_metric.py").write_text("def worst(outputs, labels):\n    return float(outputs['scores'].min())\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert evaluate(same, DATA, find_metric("my_metric:worst")) == pytest.approx(0.1)


def test_an_unknown_metric_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"unknown metric 'top-1'; did you mean 'top1'\? \(or module:function\)"):
        find_metric("top-1")


@pytest.mark.parametrize("name", ["no_such_module:f", "json:no_such_function"])
def test_a_metric_that_cannot_be_imported(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"metric: cannot import '{name}'"):
        find_metric(name)


def test_labels_are_needed() -> None:
    with pytest.raises(DataError, match=r"no labels"):
        evaluate(same, Data(DATA.inputs, None, "test data"), top1)


def test_a_metric_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DataError, match=r"test data: the metric gave nan, expected a finite number"):
        evaluate(same, DATA, lambda outputs, labels: float("nan"))
