"""Metrics on any variant. A metric is a fraction, higher is better."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

import numpy as np

from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, did_you_mean
from edgekit.tensors import Array

Metric = Callable[[Mapping[str, Array], Array], float]


def top1(outputs: Mapping[str, Array], labels: Array) -> float:
    """Fraction of samples whose largest score is at the label; one output of shape (n, classes)."""
    (scores,) = outputs.values()
    return float(np.mean(scores.argmax(axis=-1) == labels))


METRICS: Mapping[str, Metric] = {"top1": top1}


def find_metric(name: str) -> Metric:
    """`top1`, or `module:function` taking (outputs by name, labels). Raises ConfigError."""
    if name in METRICS:
        return METRICS[name]
    module, _, function = name.partition(":")
    if not function:
        raise ConfigError(f"unknown metric '{name}'{did_you_mean(name, METRICS)} (or module:function)")
    try:
        metric: Metric = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as problem:
        raise ConfigError(f"metric '{name}' cannot be imported: {problem}") from problem
    return metric


def evaluate(run: Callable[[Mapping[str, Array]], Mapping[str, Array]], data: Data, metric: Metric) -> float:
    """The metric of `run` (a session's `run`, a model's `predict`) on labelled data. Raises DataError on NaN."""
    outputs = run(data.inputs)
    value = float(metric(outputs, data.need_labels()))
    if not np.isfinite(value):
        raise DataError(f"{data.where}: the metric is {value}; check the metric and the labels")
    return value
