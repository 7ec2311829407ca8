"""The one fine-tuning loop of all steps: seeded, with progress, and with a checkpoint after each epoch.

A killed run goes on exactly where its last epoch ended: weights, optimizer state, random state and row order are
functions of the checkpoint and the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol  # Any: keras objects, which have no types

import numpy as np

from edgekit.compression.masks import zeros_kept
from edgekit.compression.task import Task, task_of
from edgekit.data import Data
from edgekit.errors import DataError
from edgekit.files import atomic
from edgekit.loading import LoadedModel, import_keras
from edgekit.progress import Advance, LoggedProgress, Progress
from edgekit.runtime.arrays import UNREADABLE
from edgekit.tensors import Array

log = logging.getLogger(__name__)

_STEP = "step/"  # before the names of a step's own arrays in a checkpoint


@dataclass(frozen=True)
class TrainingSettings:
    """How every step trains; `[training]` in a project file."""

    # A Keras name, "module:function", a Keras loss, or "original-outputs", which needs no labels. None: the loss that
    # the model was compiled with, else cross-entropy.
    loss: object = None


@dataclass(frozen=True)
class Training:
    """What every step is given besides the model."""

    data: Data | None = None  # None when no step of the recipe needs any
    checkpoints: Path | None = None  # folder for this step's checkpoints; None keeps none
    seed: int = 0
    progress: Progress = field(default_factory=LoggedProgress)
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def need_data(self) -> Data:
        """The training data. Raises DataError when there is none."""
        if self.data is None:
            raise DataError("training data for the recipe is missing: give data")
        return self.data

    def task(self, loaded: LoadedModel) -> Task:
        """What the model is trained for. Raises DataError or ConfigError."""
        return task_of(loaded, self.need_data(), self.settings.loss)


class StepState(Protocol):
    """What a step has besides the model's weights (masks, centroids, assignments) and a resumed run must find again.

    `arrays` is called after each epoch, when the hook of its last batch has run, and goes into the checkpoint;
    `restore` is called with the same before a resumed run's first batch, and when the best epoch's weights come back.
    """

    def arrays(self) -> Mapping[str, Array]:
        """Plain arrays by name (any shape, no objects); the names stay the same over the run."""
        ...

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take them back. The model's own weights are restored already."""
        ...


@dataclass(frozen=True)
class Fit:
    """One fine-tuning run."""

    description: str  # for the progress bar
    epochs: int
    batch_size: int
    learning_rate: float  # at the start; cosine decay to zero over the run
    task: Task
    pack: Callable[[Mapping[str, Array]], Any]  # arrays by input name -> what the model is called with
    after_batch: Callable[[int, int], None] | None = None  # (steps done, steps in all), called before the first too
    at_start: Callable[[], None] | None = None  # called once, when the weights are those that training begins with
    state: StepState | None = None  # the step's own part of a checkpoint
    ramp: float = 0.0  # fraction of the run after which epochs count for early stopping: when a schedule has ended


class TrainedStep(Protocol):
    """What steps that train have in common."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102


def train_on_task(
    model: Any,
    loaded: LoadedModel,
    step: TrainedStep,
    training: Training,
    description: str,
    *,
    after_batch: Callable[[int, int], None] | None = None,
    at_start: Callable[[], None] | None = None,
    state: StepState | None = None,
    ramp: float = 0.0,
) -> None:
    """Fine-tune `model` in place on the task of `loaded`, whose inputs and outputs it has; nothing for 0 epochs.

    Without an `after_batch` of the step's own, zeros that an earlier step made stay zero.
    """
    if step.epochs == 0:
        return
    if after_batch is None:
        masks = zeros_kept(model)

        def after_batch(_done: int, _total: int) -> None:
            masks.apply()

    task = training.task(loaded)
    fit = Fit(
        description, step.epochs, step.batch_size, step.learning_rate, task, loaded.pack,
        after_batch=after_batch, at_start=at_start, state=state, ramp=ramp,
    )  # fmt: skip
    fine_tune(model, fit, training)


def fine_tune(model: Any, fit: Fit, training: Training) -> None:
    """Train the weights of `model` in place. Raises DataError when the loss is not a number any more."""
    keras = import_keras()
    model = keras.Model(model.input, _bare(model.outputs))  # so that the caller's model stays uncompiled
    steps_per_epoch = -(-len(training.need_data()) // fit.batch_size)
    total = fit.epochs * steps_per_epoch
    keras.utils.set_random_seed(training.seed)
    model.compile(optimizer=_optimizer(keras, fit.learning_rate, total), loss=_bare(fit.task.losses), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    first_epoch = _restore(model, fit.state, training.checkpoints)
    if fit.at_start is not None:
        fit.at_start()
    if fit.after_batch is not None:
        fit.after_batch(first_epoch * steps_per_epoch, total)
    with training.progress.task(fit.description, total) as advance:
        advance(first_epoch * steps_per_epoch, "resumed" if first_epoch else "")
        for epoch in range(first_epoch, fit.epochs):
            watcher = _watcher(keras, fit, epoch * steps_per_epoch, total, advance)
            _run_epoch(model, fit, training, epoch, watcher)
            _checkpoint(model, fit.state, training.checkpoints, epoch + 1)


def _run_epoch(model: Any, fit: Fit, training: Training, epoch: int, watcher: Any) -> None:
    """One pass over the rows, in an order that depends on the seed and the epoch alone."""
    data = training.need_data()
    rows = np.random.default_rng([training.seed, epoch]).permutation(len(data))
    features = {name: column[rows] for name, column in data.inputs.items()}
    history = model.fit(
        fit.pack(features),
        _bare(fit.task.rows(rows)),
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


def _bare(items: Sequence[Any]) -> Any:
    """Keras's form for one output or several."""
    return items[0] if len(items) == 1 else list(items)


def _optimizer(keras: Any, learning_rate: float, total_steps: int) -> Any:
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, total_steps))


def _watcher(keras: Any, fit: Fit, steps_before: int, total: int, advance: Advance) -> Any:
    class Watcher(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
            if fit.after_batch is not None:
                fit.after_batch(steps_before + batch + 1, total)
            advance(1, f"loss {(logs or {}).get('loss', float('nan')):.3f}")

    return Watcher()


def _state(model: Any) -> Sequence[Any]:
    return [*model.variables, *model.optimizer.variables]


def _checkpoint(model: Any, state: StepState | None, folder: Path | None, epoch: int) -> None:
    if folder is None:
        return
    arrays = {f"v{index}": np.asarray(variable) for index, variable in enumerate(_state(model))}
    if state is not None:
        arrays |= {f"{_STEP}{name}": array for name, array in state.arrays().items()}
    with atomic(folder / f"epoch-{epoch:04d}.npz") as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy types **arrays as its own keywords
    for old in sorted(folder.glob("epoch-*.npz"))[:-1]:
        old.unlink()


def _restore(model: Any, state: StepState | None, folder: Path | None) -> int:
    """Load the newest checkpoint; how many epochs it has seen."""
    newest = max(folder.glob("epoch-*.npz"), default=None) if folder is not None and folder.exists() else None
    if newest is None:
        return 0
    try:
        with newest.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            for index, variable in enumerate(_state(model)):
                variable.assign(arrays[f"v{index}"])
            if state is not None:
                own = [name for name in arrays.files if name.startswith(_STEP)]
                state.restore({name.removeprefix(_STEP): arrays[name] for name in own})
    except UNREADABLE as problem:
        raise DataError(f"checkpoint {newest} cannot be read ({problem}); remove it") from problem
    return int(newest.stem.removeprefix("epoch-"))
