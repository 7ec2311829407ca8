"""What a model is trained for: its loss, its targets, and what is measured on rows that are held back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any  # Any: keras losses and models, which have no types

import numpy as np

from edgekit.data import Data
from edgekit.errors import ConfigError, DataError, did_you_mean
from edgekit.evaluation import checked_metric, find_metric
from edgekit.loading import LoadedModel, import_keras, need_classes
from edgekit.references import import_function
from edgekit.tensors import Array

ORIGINAL_OUTPUTS = "original-outputs"

Score = Callable[[Sequence[Array], Array], float]  # (outputs for these rows, row numbers) -> higher is better


@dataclass(frozen=True)
class Task:
    """A loss for each output, and what the outputs should be."""

    losses: tuple[Any, ...]  # keras losses or functions (targets, outputs) -> per-sample loss
    targets: tuple[Array, ...]  # one row for each sample; may be memory-mapped
    weights: tuple[float, ...] = ()  # of the losses in their sum; empty: 1 each
    score: Score | None = None  # what early stopping goes by; None: the loss

    def rows(self, rows: Array) -> tuple[Array, ...]:
        """The targets of these samples, in memory."""
        return tuple(np.asarray(target[rows]) for target in self.targets)


def task_of(loaded: LoadedModel, data: Data, loss: object = None, metric: str | None = None) -> Task:
    """The task of a model: `loss` (a Keras name, `module:function`, a Keras loss, or "original-outputs", which asks the
    model to keep its outputs and needs no labels), else the loss that it was compiled with, else cross-entropy.

    `metric` (`top1` or `module:function`) measures held-back rows. Raises DataError when there are no labels, or the
    model is no classifier and no loss is known; ConfigError on an unknown loss or metric.
    """
    return replace(_trained_for(loaded, data, loss), score=score_of(loaded, data, metric))


def score_of(loaded: LoadedModel, data: Data, metric: str | None) -> Score | None:
    """The metric of the model's outputs on some rows of the data. Raises ConfigError, and DataError without labels."""
    if metric is None:
        return None
    measure, labels = find_metric(metric), data.need_labels()
    names = [output.name for output in loaded.outputs]

    def score(outputs: Sequence[Array], rows: Array) -> float:
        named = dict(zip(names, outputs, strict=False))  # a student's training has outputs of its own behind these
        return checked_metric(measure(named, labels[rows]), data.where)

    return score


def _trained_for(loaded: LoadedModel, data: Data, loss: object) -> Task:
    if loss == ORIGINAL_OUTPUTS:
        outputs = loaded.predict(data.inputs)
        mean_squared_error = import_keras().losses.MeanSquaredError()
        return Task((mean_squared_error,) * len(outputs), tuple(outputs.values()))
    chosen = loss if loss is not None else loaded.compiled_loss
    if chosen is None:
        need_classes(loaded, why="training without a loss")
        return Task((classification_loss(loaded.model),), (data.need_labels(),))
    if len(loaded.outputs) > 1:
        names = ", ".join(output.name for output in loaded.outputs)
        raise DataError(
            f"{data.where}: labels 'y' are for one output, and the model has {len(loaded.outputs)} ({names}); "
            f'train it with loss = "{ORIGINAL_OUTPUTS}"'
        )
    return Task((find_loss(chosen),), (data.need_labels(),))


def takes_class_numbers(loaded: LoadedModel, loss: object = None) -> bool:
    """Whether labels are class numbers: for the sparse cross-entropy, which is what no loss leads to."""
    chosen = loss if loss is not None else loaded.compiled_loss
    return chosen is None or loss_name(chosen) == "sparse_categorical_crossentropy"


def loss_name(loss: Any) -> str:
    """Keras's name of a loss, in snake case."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", getattr(loss, "name", ""))
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name)).lower()


def classification_loss(model: Any) -> Any:
    """Sparse cross-entropy that fits the model's last activation: softmax, or logits."""
    keras = import_keras()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model))


def ends_in_softmax(model: Any, output: int = 0) -> bool:
    """True when the layer that makes this output is a softmax."""
    keras = import_keras()
    last = model.outputs[output]._keras_history.operation
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or getattr(activation, "__name__", "") == "softmax"


def with_loss_of(before: LoadedModel, after: LoadedModel) -> LoadedModel:
    """The step's result with the loss that its model was compiled with, where that still fits: it does not when a
    student gives logits and its teacher a softmax, or the other way about."""
    fits = ends_in_softmax(before.model) == ends_in_softmax(after.model)
    return replace(after, compiled_loss=before.compiled_loss if fits else None)


def find_loss(chosen: object) -> Any:
    """The loss that a name, `module:function` or a Keras loss stands for. Raises ConfigError."""
    if not isinstance(chosen, str):
        if not callable(chosen):
            raise ConfigError(f"loss is {chosen!r}, expected a Keras loss, its name, or module:function")
        return chosen
    if ":" in chosen:
        return import_function(chosen, what="loss", error=ConfigError)
    keras = import_keras()
    try:
        return keras.losses.get(chosen)
    except ValueError as problem:
        known = [name for name in vars(keras.losses) if name.islower() and not name.startswith("_")]
        raise ConfigError(f"unknown loss '{chosen}'{did_you_mean(chosen, [*known, ORIGINAL_OUTPUTS])}") from problem


def total_loss(task: Task, targets: tuple[Any, ...], outputs: Any) -> Any:
    """The mean loss of one batch, summed over the outputs; targets and outputs in the order of the task."""
    ops = import_keras().ops
    flat = import_keras().tree.flatten(outputs)
    weights = task.weights or (1.0,) * len(task.losses)
    return sum(
        weight * ops.mean(loss(target, output))
        for weight, loss, target, output in zip(weights, task.losses, targets, flat, strict=True)
    )
