"""Distillation: a student learns the teacher's soft labels, computed once, and the true ones."""

from __future__ import annotations

from typing import Any  # Any: keras objects, which have no types

import numpy as np

from edgekit.compression.steps import Distill
from edgekit.compression.task import Task, ends_in_softmax
from edgekit.compression.training import Fit, Training, fine_tune
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, describe, import_keras, load, need_classes
from edgekit.tensors import Array

_TINY = 1e-7  # keeps the logarithm of a probability finite


def distill(loaded: LoadedModel, step: Distill, training: Training) -> LoadedModel:
    """Train the student on the teacher's outputs; the student is what goes on."""
    classes = need_classes(loaded, why="distill")
    import_keras().utils.set_random_seed(training.seed)  # the student's first weights are random
    student = _student(loaded, step)
    data = training.need_data()
    (teacher_outputs,) = loaded.predict(data.inputs).values()
    targets = _targets(teacher_outputs, data.need_labels(), classes, loaded.model)
    task = Task((_loss(step, classes, ends_in_softmax(student.model)),), (targets,))
    description = f"distil into {student.model.count_params():,} parameters"
    fit = Fit(description, step.epochs, step.batch_size, step.learning_rate, task, student.pack)
    fine_tune(student.model, fit, training)
    return student


def narrow(model: Any, width: float) -> Any:
    """A freshly initialized copy with `width` times the channels and units; layers that make outputs keep theirs."""
    keras = import_keras()
    last = {tensor._keras_history.operation.name for tensor in model.outputs}

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in last:
            for key in ("filters", "units"):
                if key in config:
                    config[key] = max(1, round(config[key] * width))
        return type(layer).from_config(config)

    try:
        return keras.models.clone_model(model, clone_function=clone)
    except (ValueError, TypeError) as problem:
        raise ModelError(
            f"Distill.width: a narrower '{model.name}' does not fit together ({str(problem).splitlines()[0]}); "
            "give a student model instead"
        ) from problem


def _student(loaded: LoadedModel, step: Distill) -> LoadedModel:
    if step.width is not None:
        return describe(narrow(loaded.model, step.width))
    student = load(step.student)
    if (student.inputs, [o.shape for o in student.outputs]) != (loaded.inputs, [o.shape for o in loaded.outputs]):
        raise ModelError(
            f"Distill.student takes {', '.join(map(str, student.inputs))} and gives "
            f"{', '.join(map(str, student.outputs))}, expected {', '.join(map(str, loaded.inputs))} "
            f"and {', '.join(map(str, loaded.outputs))}"
        )
    keras = import_keras()
    copy = keras.models.clone_model(student.model)
    copy.set_weights(student.model.get_weights())
    return describe(copy)


def _targets(teacher_outputs: Array, labels: Array, classes: int, teacher: Any) -> Array:
    """[one-hot labels, teacher logits] side by side: shape (n, 2 * classes) float32."""
    logits = np.log(teacher_outputs + _TINY) if ends_in_softmax(teacher) else teacher_outputs
    return np.concatenate([np.eye(classes, dtype=np.float32)[labels], logits.astype(np.float32)], axis=1)


def _loss(step: Distill, classes: int, softmax: bool) -> Any:
    """weight * T² * cross-entropy(teacher at T, student at T) + (1 - weight) * cross-entropy(labels, student)."""
    ops = import_keras().ops

    def loss(targets: Any, outputs: Any) -> Any:
        logits = ops.log(outputs + _TINY) if softmax else outputs
        hard = -ops.sum(targets[:, :classes] * ops.log_softmax(logits), axis=-1)
        teacher = ops.softmax(targets[:, classes:] / step.temperature)
        soft = -ops.sum(teacher * ops.log_softmax(logits / step.temperature), axis=-1)
        return step.weight * step.temperature**2 * soft + (1 - step.weight) * hard

    return loss
