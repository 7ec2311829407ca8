"""`compress`: apply steps in order, keeping each finished step where a killed run finds it again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

from edgekit.compression import steps, tfmot
from edgekit.compression.channels import prune_channels
from edgekit.compression.clustering import cluster
from edgekit.compression.distillation import distill, open_student
from edgekit.compression.distributed import apply_with_engine
from edgekit.compression.factorization import factorize
from edgekit.compression.order import check_order, needs_data
from edgekit.compression.pruning import prune
from edgekit.compression.quantize_aware import quantize_aware
from edgekit.compression.steps import (
    Cluster,
    Distill,
    Factorize,
    Prune,
    PruneChannels,
    QuantizeAware,
    QuantizeWeights,
    Step,
    step_table,
)
from edgekit.compression.task import takes_class_numbers, with_loss_of
from edgekit.compression.training import Training, TrainingSettings
from edgekit.compression.weight_quantization import quantize_weights
from edgekit.data import Data, DataSource, load_data
from edgekit.errors import DataError
from edgekit.loading import LoadedModel, Note, Origin, import_keras, load
from edgekit.progress import LoggedProgress, Progress


def compress(
    model: object,
    *recipe: Step,
    data: DataSource | None = None,
    training: TrainingSettings | None = None,
    checkpoints: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LoadedModel:
    """Apply the steps in order to a model (path, Keras 3 model or LoadedModel) and return the result.

    `data` is the training data; steps that neither train nor weigh by gradients need none. Its labels `y` are what the
    loss takes: class numbers, unless `training` or the compiled model brings another loss. With a `checkpoints` folder,
    an interrupted call that is made again with the same arguments goes on where it was. The given model is not changed.
    Raises ConfigError on an order that cannot work, ModelError on a layer that a step does not take, DataError on data
    that does not fit.
    """
    loaded = load(model)
    check_order(recipe)
    settings = training or TrainingSettings()
    samples = _samples(loaded, recipe, data, settings)
    identity = loaded.sha256()
    origin = _origin(loaded, identity, recipe)
    opened = [
        _with_student_opened(step, loaded) for step in recipe
    ]  # before any training, which a bad file would waste
    key = identity + ("" if samples is None else samples.sha256()) + settings.identity()
    for position, step in enumerate(opened):
        key = hashlib.sha256(f"{key} {_identity(step)} {seed}".encode()).hexdigest()
        folder = None if checkpoints is None else checkpoints / f"{position}-{steps.step_name(step)}-{key[:12]}"
        done = _resumable(step, loaded, Training(samples, folder, seed, progress or LoggedProgress(), settings))
        loaded = _with_lost_ranges(step, loaded, done)
    return replace(loaded, origin=origin) if recipe else loaded


def _with_lost_ranges(step: Step, before: LoadedModel, after: LoadedModel) -> LoadedModel:
    """Says so when a step has changed the weights that trained ranges belonged to."""
    if before.activation_ranges is None or after.activation_ranges is not None:
        return after
    lost = "the ranges that QuantizeAware had trained fitted the weights before this step, and are gone: train it again"
    return after.with_notes([Note(steps.step_name(step), "", lost)])


def _samples(
    loaded: LoadedModel, recipe: Sequence[Step], source: DataSource | None, settings: TrainingSettings
) -> Data | None:
    """The training data, checked; None when no step needs any."""
    if source is None:
        needing = [steps.step_name(step) for step in recipe if needs_data(step)]
        if needing:
            raise DataError(f"step '{needing[0]}' needs training data: give data")
        return None
    any_labels = not takes_class_numbers(loaded, settings.loss)
    return load_data(source, loaded.inputs, where="training data", classes=loaded.classes, any_labels=any_labels)


def _origin(loaded: LoadedModel, identity: str, recipe: Sequence[Step]) -> Origin:
    """The model that compression began with: `loaded`, or what `loaded` itself was compressed from."""
    before = loaded.origin or Origin(loaded.parameters, identity, (), loaded)
    return replace(before, recipe=(*before.recipe, *map(step_table, recipe)))


def _resumable(step: Step, loaded: LoadedModel, training: Training) -> LoadedModel:
    done = None if training.checkpoints is None else training.checkpoints / "done.keras"
    if done is not None and done.exists():
        # Our own file: what code it has was allowed when the model was loaded.
        return with_loss_of(loaded, load(done, allow_code=True, trusted=True))
    import_keras().utils.set_random_seed(training.seed)  # a step makes layers, whose first weights are random
    result = apply_with_engine(apply, step, loaded, training)
    if done is not None:
        result.save(done)
    return with_loss_of(loaded, result)


def _with_student_opened(step: Step, teacher: LoadedModel) -> Step:
    if isinstance(step, Distill) and step.student is not None:
        return replace(step, student=open_student(step.student, teacher))
    return step


def _identity(step: Step) -> str:
    """What makes two steps the same work; of a student, that is its weights too."""
    student = step.student if isinstance(step, Distill) else None
    return repr(step) if student is None else f"{step_table(step)} {load(student).sha256()}"


@singledispatch
def apply(step: object, _loaded: LoadedModel, _training: Training) -> LoadedModel:
    """Apply one step; a step's type selects the function."""
    raise TypeError(f"not a step: {step!r}")


@apply.register
def _(step: Distill, loaded: LoadedModel, training: Training) -> LoadedModel:
    return distill(loaded, step, training)


@apply.register
def _(step: PruneChannels, loaded: LoadedModel, training: Training) -> LoadedModel:
    return prune_channels(loaded, step, training)


@apply.register
def _(step: Prune, loaded: LoadedModel, training: Training) -> LoadedModel:
    return tfmot.prune(loaded, step, training) if step.engine == "tfmot" else prune(loaded, step, training)


@apply.register
def _(step: QuantizeAware, loaded: LoadedModel, training: Training) -> LoadedModel:
    engine = tfmot.quantize_aware if step.engine == "tfmot" else quantize_aware
    return engine(loaded, step, training)


@apply.register
def _(step: Cluster, loaded: LoadedModel, training: Training) -> LoadedModel:
    return tfmot.cluster(loaded, step, training) if step.engine == "tfmot" else cluster(loaded, step, training)


@apply.register
def _(step: QuantizeWeights, loaded: LoadedModel, training: Training) -> LoadedModel:
    return quantize_weights(loaded, step, training)


@apply.register
def _(step: Factorize, loaded: LoadedModel, training: Training) -> LoadedModel:
    return factorize(loaded, step, training)
