"""The one fine-tuning loop of all steps: seeded, with progress, early stopping, and a checkpoint after each epoch.

A killed run goes on exactly where its last epoch ended: weights, optimizer state, random state, what early stopping has
seen and what the step itself keeps are in the checkpoint, and the order of the rows is a function of the seed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol  # Any: keras objects, which have no types

import numpy as np

from edgekit.compression import checkpoints, checks
from edgekit.compression.batches import Batches, held_back, reader
from edgekit.compression.collectives import Team
from edgekit.compression.logs import EpochLog
from edgekit.compression.masks import Masks, zeros_kept
from edgekit.compression.normalization import frozen_statistics, fused_normalization
from edgekit.compression.optimizers import optimizer
from edgekit.compression.precision import computing_in_half, has_gpu
from edgekit.compression.task import Score, Task, score_of, task_of
from edgekit.compression.watching import Watch
from edgekit.data import Data
from edgekit.errors import ConfigError, DataError
from edgekit.loading import LoadedModel, import_keras
from edgekit.progress import Advance, LoggedProgress, Progress
from edgekit.tensors import Array

log = logging.getLogger(__name__)

DEFAULT_HELD_BACK = 0.1


@dataclass(frozen=True)
class TrainingSettings:
    """How every step trains; `[training]` in a project file. docs/training.md explains the settings."""

    # A Keras name, "module:function", a Keras loss, or "original-outputs", which needs no labels. None: the loss that
    # the model was compiled with, else cross-entropy.
    loss: object = None
    patience: int | None = None  # epochs without improvement after which training stops; None: it never does
    validation_fraction: float | None = None  # held back from the training data; None: 0.1 where something needs it
    metric: str | None = None  # on held-back rows: "top1" or "module:function"; None: early stopping goes by the loss
    mixed_precision: bool | None = None  # half-precision arithmetic; None: where there is a GPU
    frozen_statistics: bool = False  # BatchNormalization keeps its averages: for few or narrow samples
    tensorboard: str | None = None  # folder for TensorBoard's event files
    # "keras": this process and one device. "mirrored": this process and all its GPUs. "multi-worker": several processes
    engine: Literal["keras", "mirrored", "multi-worker"] = "keras"
    workers: int = 1  # processes of "multi-worker" on this machine; TF_CONFIG names those of several machines

    def __post_init__(self) -> None:
        if self.patience is not None:
            checks.whole("training.patience", self.patience, least=1)
        if self.validation_fraction is not None:
            checks.fraction("training.validation_fraction", self.validation_fraction)
        checks.choice("training.engine", self.engine, ("keras", "mirrored", "multi-worker"))
        checks.whole("training.workers", self.workers, least=1)
        if self.workers > 1 and self.engine != "multi-worker":
            raise ConfigError(f'training.workers is {self.workers}: several need engine = "multi-worker"')

    @property
    def held_back(self) -> float:
        """The fraction of the training data that is not trained on."""
        if self.validation_fraction is not None:
            return self.validation_fraction
        return DEFAULT_HELD_BACK if self.patience is not None or self.metric is not None else 0.0

    def identity(self) -> str:
        """What makes two trainings the same work; a live loss counts by its class and settings."""
        get_config = getattr(self.loss, "get_config", None)
        name = getattr(self.loss, "__qualname__", type(self.loss).__qualname__)
        loss = self.loss if isinstance(self.loss, str | None) else f"{name} {get_config and get_config()}"
        return repr({**asdict(replace(self, loss=None, tensorboard=None)), "loss": loss})


@dataclass(frozen=True)
class Training:
    """What every step is given besides the model."""

    data: Data | None = None  # None when no step of the recipe needs any
    checkpoints: Path | None = None  # folder for this step's checkpoints; None keeps none
    seed: int = 0
    progress: Progress = field(default_factory=LoggedProgress)
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    team: Team | None = None  # in a worker, its place among the others

    def need_data(self) -> Data:
        """The training data. Raises DataError when there is none."""
        if self.data is None:
            raise DataError("training data for the recipe is missing: give data")
        return self.data

    def task(self, loaded: LoadedModel) -> Task:
        """What the model is trained for. Raises DataError or ConfigError."""
        return task_of(loaded, self.need_data(), self.settings.loss, self.settings.metric)

    def score(self, loaded: LoadedModel) -> Score | None:
        """What held-back rows are measured with, for a step that makes its own task."""
        return score_of(loaded, self.need_data(), self.settings.metric)


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
    zeros: Sequence[Masks] = ()  # which weights every update sets to zero
    state: StepState | None = None  # the step's own part of a checkpoint
    ramp: float = 0.0  # fraction of the run after which epochs count for early stopping: when a schedule has ended
    float32: bool = False  # never in mixed precision: where rounding itself is simulated


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
    zeros: Sequence[Masks] | None = None,
    state: StepState | None = None,
    ramp: float = 0.0,
    float32: bool = False,
) -> None:
    """Fine-tune `model` in place on the task of `loaded`, whose inputs and outputs it has; nothing for 0 epochs.

    The keyword arguments are those of `Fit`; `zeros` are those that an earlier step made, unless given.
    """
    if step.epochs == 0:
        return
    task = training.task(loaded)
    held = (zeros_kept(model),) if zeros is None else zeros
    fit = Fit(
        description, step.epochs, step.batch_size, step.learning_rate, task, loaded.pack,
        after_batch=after_batch, zeros=held, state=state, ramp=ramp, float32=float32,
    )  # fmt: skip
    fine_tune(model, fit, training)


def fine_tune(model: Any, fit: Fit, training: Training) -> None:
    """Train the weights of `model` in place. Raises DataError when the loss is not a number any more."""
    import_keras().utils.set_random_seed(training.seed)
    wanted = training.settings.mixed_precision
    half = not fit.float32 and (has_gpu() if wanted is None else wanted)
    with ExitStack() as during:
        during.enter_context(computing_in_half(model, half))
        normalization = frozen_statistics if training.settings.frozen_statistics else fused_normalization
        during.enter_context(normalization(model))
        for masks in fit.zeros:
            during.enter_context(masks.held())
        run = _Run(model, fit, training, half)
        first_epoch = run.resume()
        with training.progress.task(fit.description, run.total) as advance:
            run.train(first_epoch, advance)
        run.take_best()


class _Run:
    """One run of `fine_tune`: the model as it trains, its batches, and the state that checkpoints hold."""

    def __init__(self, model: Any, fit: Fit, training: Training, half: bool) -> None:
        keras, data = import_keras(), training.need_data()
        self._fit, self._training = fit, training
        rows, watched = held_back(len(data), training.settings.held_back, training.seed)
        if not len(rows) or (training.settings.held_back and not len(watched)):
            raise DataError(f"{data.where}: {len(data)} samples cannot be held back in part; give more")
        read = reader(data.inputs, fit.pack, fit.task.rows)
        self._batches = Batches(read, rows, fit.batch_size, training.team)
        self.total = fit.epochs * len(self._batches)
        self._weight = keras.Variable(1.0, trainable=False, name="worker_weight")
        self._model = keras.Model(model.input, _bare(model.outputs))  # so that the caller's model stays uncompiled
        _seed_layers(self._model, training.seed)
        self._model.compile(
            optimizer=optimizer(fit.learning_rate, self.total, half=half, team=training.team, weight=self._weight),
            loss=_bare(fit.task.losses),
            loss_weights=_bare(fit.task.weights) if fit.task.weights else None,
            jit_compile=False,
        )
        self._model.optimizer.build(self._model.trainable_variables)
        _call_once_for_each_batch(self._model)
        self._watch = None
        if training.settings.held_back:
            unseen = Batches(read, watched, fit.batch_size)
            self._watch = Watch(self._model, unseen, watched, fit.task.score, training.settings.patience)

    def resume(self) -> int:
        """Take the newest checkpoint's state, if there is one; how many epochs it has seen."""
        found = checkpoints.newest(self._training.checkpoints)
        first_epoch = 0 if found is None else found[0]
        if found is not None:
            self._take(found[1])
            checkpoints.assign(self._model.optimizer.variables, checkpoints.part(found[1], "optimizer"))
            if self._watch is not None:
                self._watch.restore(checkpoints.part(found[1], "watch"))
        if self._training.team is not None:
            self._training.team.agree(first_epoch, "the epoch to go on from")
        return first_epoch

    def train(self, first_epoch: int, advance: Advance) -> None:
        """Every epoch that is left."""
        fit, per_epoch = self._fit, len(self._batches)
        if fit.after_batch is not None:
            fit.after_batch(first_epoch * per_epoch, self.total)
        advance(first_epoch * per_epoch, "resumed" if first_epoch else "")
        with EpochLog(self._training.settings.tensorboard, fit.description) as epoch_log:
            if self._goes_on(first_epoch, advance):
                rows = self._batches.shuffled(self._training.seed, range(first_epoch, fit.epochs))
                self._model.fit(
                    rows, steps_per_epoch=per_epoch, initial_epoch=first_epoch, epochs=fit.epochs, shuffle=False,
                    verbose=0, callbacks=[self._callback(advance, epoch_log)],
                )  # fmt: skip

    def take_best(self) -> None:
        """The state of the best epoch, where early stopping has seen one."""
        if self._watch is not None and self._watch.kept:
            self._take(self._watch.kept)

    def _goes_on(self, epoch: int, advance: Advance) -> bool:
        """Whether there is another epoch after so many."""
        fit = self._fit
        if self._watch is not None and self._watch.exhausted and epoch < fit.epochs:
            advance((fit.epochs - epoch) * len(self._batches), "stopped early")
            log.info("%s: stopped after epoch %d of %d", fit.description, epoch, fit.epochs)
            return False
        return epoch < fit.epochs

    def _callback(self, advance: Advance, epoch_log: EpochLog) -> Any:
        fit, team, batches, run = self._fit, self._training.team, self._batches, self

        class Each(import_keras().callbacks.Callback):  # type: ignore[misc]
            def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002  # Keras names it
                self.done = epoch * len(batches)

            def on_train_batch_begin(self, batch: int, logs: object = None) -> None:  # noqa: ARG002  # Keras names it
                if team is not None:
                    run._weight.assign(team.weight(batches.samples(batch)))

            def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
                self.done += 1
                if fit.after_batch is not None:
                    fit.after_batch(self.done, run.total)
                advance(1, f"loss {(logs or {}).get('loss', float('nan')):.3f}")

            def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
                epoch_log.write(epoch + 1, run._end_epoch(epoch + 1, logs["loss"]))
                self.model.stop_training = not run._goes_on(epoch + 1, advance)

        return Each()

    def _end_epoch(self, done: int, loss: float) -> dict[str, float]:
        """What the epoch that ended gave; `done` of them so far, whose state is saved."""
        fit = self._fit
        if not np.isfinite(loss):
            raise DataError(f"{fit.description}: the loss became {loss} in epoch {done}; lower the learning_rate")
        values = {"loss": loss, "learning_rate": float(self._model.optimizer.learning_rate)}
        self._share_statistics()
        if self._watch is not None:
            value, seen = self._watch.look()
            if self._training.team is not None:
                value = self._training.team.agree(value, "")
            if done * len(self._batches) >= fit.ramp * self.total:
                self._watch.judge(value, self._state)
            values |= seen
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("%s: epoch %d of %d, %s", fit.description, done, fit.epochs, shown)
        self._save(done)
        return values

    def _state(self) -> dict[str, Array]:
        """Weights, random state and the step's own arrays."""
        own = {} if self._fit.state is None else self._fit.state.arrays()
        weights = checkpoints.values(self._model.variables)
        return {**checkpoints.parted(weights, "model"), **checkpoints.parted(own, "step")}

    def _take(self, arrays: Mapping[str, Array]) -> None:
        checkpoints.assign(self._model.variables, checkpoints.part(arrays, "model"))
        if self._fit.state is not None:
            self._fit.state.restore(checkpoints.part(arrays, "step"))

    def _save(self, epoch: int) -> None:
        folder, team = self._training.checkpoints, self._training.team
        if folder is None or (team is not None and not team.chief):
            return
        moments = checkpoints.values(self._model.optimizer.variables)
        arrays = {**self._state(), **checkpoints.parted(moments, "optimizer")}
        if self._watch is not None:
            arrays |= checkpoints.parted(self._watch.arrays(), "watch")
        checkpoints.save(folder, epoch, arrays)

    def _share_statistics(self) -> None:
        """Moving averages, which each worker took over its own rows, become their mean."""
        averages = [v for v in self._model.non_trainable_variables if "float" in str(v.dtype)]
        if self._training.team is not None and averages:
            for variable, mean in zip(averages, self._training.team.mean(averages), strict=True):
                variable.assign(mean)


def _call_once_for_each_batch(model: Any) -> None:
    """Train through one TensorFlow function; Keras's own makes two calls more of every batch to see that it was one."""
    import tensorflow as tf

    if not tf.distribute.has_strategy():
        model.train_function = tf.function(lambda batches: model.train_step(batches.get_next()), autograph=False)


def _seed_layers(model: Any, seed: int) -> None:
    """Begin the random numbers of Dropout and the like anew; a model's file does not say where they were."""
    generators = [each for layer in model._flatten_layers() for each in layer._seed_generators]
    for number, generator in enumerate(generators):
        state = np.random.default_rng([seed, number]).integers(0, 2**31, 2)
        generator.state.assign(state.astype(np.uint32))


def _bare(items: Sequence[Any]) -> Any:
    """Keras's form for one output or several."""
    return items[0] if len(items) == 1 else list(items)
