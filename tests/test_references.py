"""The user's own code: found, run, and named when it fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import load_data
from edgekit.errors import ConfigError, DataError
from edgekit.evaluation import checked_metric, find_metric
from edgekit.tensors import TensorSpec

INPUTS = (TensorSpec("x", (None, 2), "float32"),)
MODULE = """\
import numpy as np
def arrays():
    return {"x": np.zeros((3, 2), np.float32), "y": np.arange(3)}
def broken():
    raise RuntimeError("my bug")
def endless():
    import tensorflow as tf
    return tf.data.Dataset.from_tensor_slices(arrays()["x"]).batch(2).repeat()
def metric(outputs, labels):
    return 0.5
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_code.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_a_function_gives_data() -> None:
    assert len(load_data("users_code:arrays", INPUTS, where="evaluation data")) == 3


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("users_code:broken", "evaluation data: 'users_code:broken' failed with RuntimeError: my bug"),
        ("users_code:nothing", "evaluation data: cannot import 'users_code:nothing'.*; name a function of the module"),
        ("no_such_module:f", "cannot import 'no_such_module:f'.*; put the module beside the project file"),
        ("users_code:endless", "the dataset never ends; leave out .repeat"),
    ],
)
def test_a_function_that_fails_is_one_line(reference: str, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("(", r"\(")):
        load_data(reference, INPUTS, where="evaluation data")


def test_a_metric_that_fails_or_gives_no_number_is_one_line() -> None:
    assert find_metric("users_code:metric")({}, np.zeros(1)) == 0.5
    with pytest.raises(ConfigError, match="failed with TypeError"):
        find_metric("users_code:broken")({}, np.zeros(1))
    with pytest.raises(DataError, match="the metric gave 'good', expected a finite number"):
        checked_metric("good", "evaluation data")
    with pytest.raises(DataError, match="the metric gave nan"):
        checked_metric(float("nan"), "evaluation data")
