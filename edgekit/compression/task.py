"""What a model is trained for: its loss and its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any  # Any: keras losses and models, which have no types

from edgekit.data import Data
from edgekit.errors import ConfigError, did_you_mean
from edgekit.loading import LoadedModel, import_keras, need_classes
from edgekit.references import import_function
from edgekit.tensors import Array

ORIGINAL_OUTPUTS = "original-outputs"


@dataclass(frozen=True)
class Task:
    """A loss for each output, and what the outputs should be."""

    losses: tuple[Any, ...]  # keras losses or functions (targets, outputs) -> per-sample loss
    targets: tuple[Array, ...]  # one row for each sample

    def rows(self, rows: Array) -> tuple[Array, ...]:
        """The targets of these samples."""
        return tuple(target[rows] for target in self.targets)


def task_of(loaded: LoadedModel, data: Data, loss: object = None) -> Task:
    """The task of a model: `loss` (a Keras name, `module:function`, a Keras loss, or "original-outputs", which asks the
    model to keep its outputs and needs no labels), else the loss that it was compiled with, else cross-entropy.

    Raises DataError when there are no labels, or the model is no classifier and no loss is known; ConfigError on an
    unknown loss.
    """
    if loss == ORIGINAL_OUTPUTS:
        outputs = loaded.predict(data.inputs)
        mean_squared_error = import_keras().losses.MeanSquaredError()
        return Task((mean_squared_error,) * len(outputs), tuple(outputs.values()))
    chosen = loss if loss is not None else loaded.compiled_loss
    if chosen is not None:
        return Task((_loss(chosen),), (data.need_labels(),))
    need_classes(loaded, why="training without a loss")
    return Task((classification_loss(loaded.model),), (data.need_labels(),))


def classification_loss(model: Any) -> Any:
    """Sparse cross-entropy that fits the model's last activation: softmax, or logits."""
    keras = import_keras()
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_softmax(model))


def ends_in_softmax(model: Any) -> bool:
    """True when the layer that makes the only output is a softmax."""
    keras = import_keras()
    last = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or getattr(activation, "__name__", "") == "softmax"


def _loss(chosen: object) -> Any:
    """Raises ConfigError on a name that nobody knows."""
    if not isinstance(chosen, str):
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
    return sum(ops.mean(loss(targets[i], flat[i])) for i, loss in enumerate(task.losses))
