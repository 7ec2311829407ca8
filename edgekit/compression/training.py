"""The one fine-tuning loop of all steps: seeded, with progress, and with a checkpoint after each epoch.

A killed run goes on exactly where its last epoch ended: weights, optimizer state, random state and row order are
functions of the checkpoint and the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: keras objects, which have no types

import numpy as np

from edgekit.data import Data
from edgekit.errors import DataError
from edgekit.files import atomic
from edgekit.loading import import_keras
from edgekit.progress import Advance, LoggedProgress, Progress
from edgekit.runtime.arrays import UNREADABLE
from edgekit.tensors import Array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What every step is given besides the model."""

    data: Data
    checkpoints: Path | None = None  # folder for this step's checkpoints; None keeps none
    seed: int = 0
    progress: Progress = field(default_factory=LoggedProgress)


@dataclass(frozen=True)
class Fit:
    """One fine-tuning run."""

    description: str  # for the progress bar
    epochs: int
    batch_size: int
    learning_rate: float  # at the start; cosine decay to zero over the run
    loss: Any  # keras loss or function (targets, outputs) -> per-sample loss
    targets: Array  # shape (n, ...), one row for each sample
    pack: Callable[[Mapping[str, Array]], Any]  # arrays by input name -> what the model is called with
    after_batch: Callable[[int, int], None] | None = None  # (steps done, steps in all), called before the first too
    at_start: Callable[[], None] | None = None  # called once, when the weights are those that training begins with


def fine_tune(model: Any, fit: Fit, training: Training) -> None:
    """Train the weights of `model` in place. Raises DataError when the loss is not a number any more."""
    keras = import_keras()
    model = keras.Model(model.input, model.output)  # so that the caller's model stays uncompiled
    steps_per_epoch = -(-len(training.data) // fit.batch_size)
    total = fit.epochs * steps_per_epoch
    keras.utils.set_random_seed(training.seed)
    model.compile(optimizer=_optimizer(keras, fit.learning_rate, total), loss=fit.loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    first_epoch = _restore(model, training.checkpoints)
    if fit.at_start is not None:
        fit.at_start()
    if fit.after_batch is not None:
        fit.after_batch(first_epoch * steps_per_epoch, total)
    with training.progress.task(fit.description, total) as advance:
        advance(first_epoch * steps_per_epoch, "resumed" if first_epoch else "")
        for epoch in range(first_epoch, fit.epochs):
            watcher = _watcher(keras, fit, epoch * steps_per_epoch, total, advance)
            _run_epoch(model, fit, training, epoch, watcher)
            _checkpoint(model, training.checkpoints, epoch + 1)


def _run_epoch(model: Any, fit: Fit, training: Training, epoch: int, watcher: Any) -> None:
    """One pass over the rows, in an order that depends on the seed and the epoch alone."""
    rows = np.random.default_rng([training.seed, epoch]).permutation(len(training.data))
    features = {name: column[rows] for name, column in training.data.inputs.items()}
    history = model.fit(
        fit.pack(features),
        fit.targets[rows],
        batch_size=fit.batch_size,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[watcher],
    )
    loss = history.history["loss"][-1]
    log.info("%s: epoch %d of %d, loss %.4f", fit.description, epoch + 1, fit.epochs, loss)
    if not np.isfinite(loss):
        raise DataError(f"{fit.description}: the loss became {loss} in epoch {epoch + 1}; lower the learning_rate")


def _optimizer(keras: Any, learning_rate: float, total_steps: int) -> Any:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, total_steps))


def _watcher(keras: Any, fit: Fit, steps_before: int, total: int, advance: Advance) -> Any:
    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
            if fit.after_batch is not None:
                fit.after_batch(steps_before + batch + 1, total)
            advance(1, f"loss {(logs or {}).get('loss', float('nan')):.3f}")

    return Watcher()


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


def _state(model: Any) -> Sequence[Any]:
    return [*model.variables, *model.optimizer.variables]


def _checkpoint(model: Any, folder: Path | None, epoch: int) -> None:
    if folder is None:
        return
    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(_state(model))}
    with atomic(folder / f"epoch-{epoch:04d}.npz") as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy types **arrays as its own keywords
    for old in sorted(folder.glob("epoch-*.npz"))[:-1]:
        old.unlink()


def _restore(model: Any, folder: Path | None) -> int:
    """Load the newest checkpoint; how many epochs it has seen."""
    newest = max(folder.glob("epoch-*.npz"), default=None) if folder is not None and folder.exists() else None
    if newest is None:
        return 0
    try:
        with newest.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            for index, variable in enumerate(_state(model)):
                variable.assign(arrays[f"v{index}"])
    except UNREADABLE as problem:
        raise DataError(f"checkpoint {newest} cannot be read ({problem}); remove it") from problem
    return int(newest.stem.removeprefix("epoch-"))
