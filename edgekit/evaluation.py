"""Metrics on any variant. A metric is a fraction, higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, did_you_mean
from edgekit.references import import_function
from edgekit.tensors import Array

Metric = Callable[[Mapping[str, Array], Array], float]


def top1(outputs: Mapping[str, Array], labels: Array) -> float:
    """Fraction of samples whose largest score is at the label; one output of shape (n, classes).

    Of sequences, shape (n, steps, classes), the scores after the last step count, or with a label for each step all.
    """
    (scores,) = outputs.values()
    found = scores.argmax(axis=-1)
    return float(np.mean((found[:, -1] if found.ndim > labels.ndim else found) == labels))


METRICS: Mapping[str, Metric] = {"top1": top1}


def find_metric(name: str) -> Metric:
    """`top1`, or `module:function` taking (outputs by name, labels). Raises ConfigError."""
    if name in METRICS:
        return METRICS[name]
    if ":" not in name:
        raise ConfigError(f"unknown metric '{name}'{did_you_mean(name, METRICS)} (or module:function)")
    return import_function(name, what="metric", error=ConfigError)


def evaluate(run: Callable[[Mapping[str, Array]], Mapping[str, Array]], data: Data, metric: Metric) -> float:
    """The metric of `run` (a session's `run`, a model's `predict`) on labelled data. Raises DataError on NaN."""
    outputs = run(data.inputs)
    return checked_metric(metric(outputs, data.need_labels()), data.where)


def checked_metric(value: object, where: str) -> float:
    """What a metric gave, as a number. Raises DataError when it is none, or not finite."""
    if not isinstance(value, float | int | np.floating | np.integer) or not np.isfinite(value):
        raise DataError(
            f"{where}: the metric gave {value!r}, expected a finite number; check the metric and the labels"
        )
    return float(value)
