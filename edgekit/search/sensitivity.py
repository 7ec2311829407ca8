"""Each layer's loss under each method and precision, one layer at a time, on a calibration sample, without training."""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from edgekit.compression import compress
from edgekit.compression.steps import Factorize, Prune, PruneChannels, Step
from edgekit.compression.task import task_of, total_loss
from edgekit.data import Data
from edgekit.errors import ConfigError, ConversionError, EngineError, ModelError
from edgekit.progress import Progress
from edgekit.search.integer_layers import IntegerLayers
from edgekit.search.recalibration import recalibrate
from edgekit.search.space import CHANNELS, ENERGY, SPARSITY, Space
from edgekit.search.store import Store, key_of
from edgekit.search.subject import Subject
from edgekit.strict import parse
from edgekit.tensors import Array

FORMAT = "edgekit-sensitivity"
FORMAT_VERSION = 1
SAMPLES = 256
CHANNEL_RATIOS = (0.25, 0.5, 0.75)
SPARSITIES = (0.5, 0.8, 0.9)
ENERGIES = (0.95, 0.9, 0.8)
INT8, INT4 = "int8", "int4"
PRECISIONS = {INT8: "int8", INT4: "int4-weights"}


@dataclass(frozen=True)
class Cell:
    """One layer under one setting. Losses are of the task, in its own unit; `reason` says why there is none."""

    layer: str
    method: str  # "channels", "energy", "sparsity", "int8" (weights and activations), "int4" (weights)
    level: float | None  # of the method; None where it has one alone
    loss: float | None = None
    loss_increase: float | None = None
    parameters: int | None = None  # of the whole model then
    reason: str | None = None


@dataclass(frozen=True)
class Sensitivity:
    """The whole table."""

    format: str
    format_version: int
    model: str
    model_sha256: str
    samples: int
    loss: float  # of the model as it came
    parameters: int
    cells: tuple[Cell, ...]

    def increases(self, method: str, layer: str) -> dict[float, float]:
        """Level -> increase of the loss, of one layer."""
        return {
            cell.level: cell.loss_increase
            for cell in self.cells
            if cell.method == method
            and cell.layer == layer
            and cell.level is not None
            and cell.loss_increase is not None
        }

    def increase(self, method: str, layer: str) -> float:
        """Of a method with one level; infinite where it could not be had."""
        found = (cell.loss_increase for cell in self.cells if cell.method == method and cell.layer == layer)
        return next((value for value in found if value is not None), math.inf)


def measure_sensitivity(subject: Subject, space: Space, store: Store, progress: Progress) -> Sensitivity:
    """The table of this model and data; what is in the store already is not measured again.

    Samples come from the training data, spread evenly. Raises EdgekitError when the model's loss cannot be had.
    """
    samples = subject.train.spread(SAMPLES)
    trials = list(_trials(space))
    cells = []
    with IntegerLayers(subject, space) as files, progress.task("sensitivity of each layer", len(trials)) as advance:
        bench = _Bench(subject, samples, files)
        for trial in trials:
            key = key_of("sensitivity", subject.identity, SAMPLES, trial.method, trial.level, trial.layers)
            known = store.get(key)
            if known is None:
                known = asdict(bench.measure(trial))
                store.put(key, known)
            cells.append(parse(Cell, known, where="a measured sensitivity"))
            advance(1, f"{trial.name} {trial.method}")
        plain = bench.plain
    return Sensitivity(
        FORMAT, FORMAT_VERSION, subject.model.name, subject.model.sha256(), len(samples), plain,
        subject.model.parameters, tuple(cells),
    )  # fmt: skip


@dataclass(frozen=True)
class _Trial:
    """One cell before it is measured; `layers` are those that its name stands for."""

    name: str
    layers: tuple[str, ...]
    method: str
    level: float | None = None

    def step(self) -> Step:
        """Of the methods that are steps."""
        if self.method == CHANNELS:
            return PruneChannels(self.level, 0, layers=self._alone("ratio"))
        if self.method == ENERGY:
            return Factorize(self.level, layers=self._alone("energy"))
        return Prune(self.level, 0, layers=self._alone("sparsity"))

    def _alone(self, setting: str) -> dict[str, object]:
        return {"*": "skip", **{glob.escape(layer): {setting: self.level} for layer in self.layers}}


def _trials(space: Space) -> Iterator[_Trial]:
    """Each level of each dimension, alone."""
    for method, levels in ((CHANNELS, CHANNEL_RATIOS), (ENERGY, ENERGIES)):
        for name, layers in space.members.get(method, {}).items():
            yield from (_Trial(name, layers, method, level) for level in levels)
    for name, layers in space.kernels.items():
        yield from (_Trial(name, layers, SPARSITY, sparsity) for sparsity in SPARSITIES)
        yield _Trial(name, layers, INT8)
        yield _Trial(name, layers, INT4)


class _Bench:
    """The loss of the model under each trial."""

    def __init__(self, subject: Subject, samples: Data, files: IntegerLayers) -> None:
        self._subject, self._samples, self._files = subject, samples, files
        self._task = task_of(subject.model, samples, subject.project.training.loss)
        self.plain = self._loss(subject.model.predict(samples.inputs))

    def measure(self, trial: _Trial) -> Cell:
        """Its cell, with the reason where the layer does not take the method."""
        empty = Cell(trial.name, trial.method, trial.level)
        try:
            outputs, parameters = self._outputs(trial)
        except (ConfigError, ConversionError, EngineError, ModelError) as problem:
            return replace(empty, reason=" ".join(str(problem).split()))
        loss = self._loss(outputs)
        if not math.isfinite(loss):
            return replace(empty, reason="its loss is not finite")
        return replace(empty, loss=loss, loss_increase=loss - self.plain, parameters=parameters)

    def _outputs(self, trial: _Trial) -> tuple[Mapping[str, Array], int]:
        model = self._subject.model
        if trial.method in (INT8, INT4):
            return self._files.run(trial.layers, PRECISIONS[trial.method], self._samples), model.parameters
        made = compress(model, trial.step())
        recalibrate(made, self._samples)
        return made.predict(self._samples.inputs), made.parameters

    def _loss(self, outputs: Mapping[str, Array]) -> float:
        import tensorflow as tf

        targets = self._task.rows(np.arange(len(self._samples)))
        return float(total_loss(self._task, targets, [tf.convert_to_tensor(array) for array in outputs.values()]))
