"""The second engine: TFMOT on the bridged tf_keras model, in a process of its own; weights and ranges come back.

What TFMOT refuses stays as it was and is noted. A step that is killed begins anew: TFMOT has no checkpoints here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar  # Any: keras models, and JSON

import numpy as np

from edgekit import workers
from edgekit.compression import clustering, pruning
from edgekit.compression.copying import copied
from edgekit.compression.flattening import copy_state, is_layer, remade, replay
from edgekit.compression.grids import FLOAT_BITS
from edgekit.compression.kernel_rounding import quantizable_kernels
from edgekit.compression.kernels import Kernel, kernels
from edgekit.compression.masks import earlier_zeros, zeros_kept
from edgekit.compression.quantize_aware import Prepared, calibrate
from edgekit.compression.selection import select_kernels
from edgekit.compression.sharing import Sharing
from edgekit.compression.steps import Cluster, Prune, QuantizeAware, step_name
from edgekit.compression.task import Task
from edgekit.compression.training import Training, TrainingSettings
from edgekit.errors import ConfigError, ModelError
from edgekit.loading import LoadedModel, Note, Range, describe
from edgekit.tensors import Array

WORKER = "edgekit.compression.tfmot_worker"
HOUR_S = 3600.0  # granted for the start, and for each epoch
OBSERVED_SAMPLES = 256  # set the ranges that TFMOT's moving averages begin with; its own (-6, 6) needs long training
# tf_keras must be asked for before tensorflow is imported; this is why TFMOT has a process of its own.
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_CENTROIDS = {"kmeans++": "KMEANS_PLUS_PLUS", "linear": "LINEAR", "density": "DENSITY_BASED"}

Step = Prune | Cluster | QuantizeAware
S = TypeVar("S", Prune, Cluster)


@dataclass(frozen=True)
class _Outcome:
    weights: Mapping[str, list[Array]]  # layer name -> its weights
    refusals: Mapping[str, str]  # layer name -> why TFMOT left it alone
    ranges: Mapping[str, Range]


def prune(loaded: LoadedModel, step: Prune, training: Training) -> LoadedModel:
    """`Prune` by TFMOT's prune_low_magnitude: the same kernels and the same schedule as the native engine.

    TFMOT keeps round(size x (1 - sparsity)) weights of a kernel, and all that tie with the smallest of them. Its N:M
    groups run along the input channels alone, and are chosen in the first step; its blocks take 2-D weights.
    """
    twin = _Twin(loaded.model)
    chosen, notes = twin.chosen(step, pruning.unfit)
    settings = {
        name: {
            "sparsity": own.target,
            "block": own.block,
            "zeros_of": own.kept_of and (own.kept_of[1] - own.kept_of[0], own.kept_of[1]),
        }
        for name, own in chosen.items()
    }
    request = {"layers": settings, "schedule": step.schedule, "ramp": pruning.RAMP, "updates": pruning.UPDATES}
    description = f"prune to {step.target:.0%} (TFMOT)"
    outcome = _run(loaded.with_model(twin.flat), step, request, training, description)
    return loaded.with_model(twin.trained(outcome)).with_notes([*notes, *twin.notes(step, outcome, pruning.reached)])


def cluster(loaded: LoadedModel, step: Cluster, training: Training) -> LoadedModel:
    """`Cluster` by TFMOT's cluster_weights; its sparsity-preserving form for the layers that have zeros."""
    twin = _Twin(loaded.model)
    chosen, notes = twin.chosen(step, _unclusterable)
    settings = {
        name: {
            "clusters": own.clusters,
            "initialization": _CENTROIDS[own.initialization],
            "preserve_sparsity": own.preserve_sparsity and twin.is_sparse(name),
        }
        for name, own in chosen.items()
    }
    description = f"cluster to {step.clusters} values (TFMOT)"
    outcome = _run(loaded.with_model(twin.flat), step, {"layers": settings}, training, description)
    return loaded.with_model(twin.trained(outcome)).with_notes([*notes, *twin.notes(step, outcome, clustering.reached)])


def quantize_aware(loaded: LoadedModel, step: QuantizeAware, training: Training) -> LoadedModel:
    """`QuantizeAware` by TFMOT's 8-bit scheme, on the model in the canonical form of the native engine.

    Layers with zeros or shared values are trained with TFMOT's schemes that keep them (PQAT, CQAT, PCQAT). Ranges come
    back under our names. What TFMOT refuses is trained in float; it is rounded, and its range observed, afterwards.
    """
    form = Prepared(loaded, step)
    model = form.loaded.model
    masks = zeros_kept(model)
    request = {"ranges": _by_input_name(model, _calibrated(form, training)), "layers": _quantizable(form, step)}
    outcome = _run(form.loaded, step, request, training, "quantization-aware training (TFMOT)")
    for name, weights in outcome.weights.items():
        model.get_layer(name).set_weights(weights)
    if step.preserve_sparsity:
        masks.apply()
    _share_again(form)
    observed = _calibrated(form, training)
    trained = {name: outcome.ranges[name] for name in observed if name in outcome.ranges}
    return form.finished(form.simulation({**observed, **trained})).with_notes(_left_float(form, outcome, trained))


def _share_again(form: Prepared) -> None:
    """Bring kernels that shared values and were trained in float back to as many: each value by its members' mean."""
    for kernel, book in form.shared:
        trained = np.asarray(kernel.variable)
        if len(np.unique(trained)) > len(book.values):
            sharing = Sharing([(kernel.variable, book)])
            kernel.variable.assign(trained)
            sharing.apply()


class _Twin:
    """A copy of a model, nested as it was, and what TFMOT gets of it: the same layers without nesting."""

    def __init__(self, model: Any) -> None:
        self.model = copied(model)
        self.flat, pairs = replay(self.model, remade)
        self._layers = {str(new.name): old for old, new in pairs if is_layer(new)}
        for name, old in self._layers.items():
            copy_state(old, self.flat.get_layer(name))
        self._working: list[Kernel] = []  # what was chosen
        self._owners = {id(weight): name for name, old in self._layers.items() for weight in old.weights}

    def chosen(self, step: S, unfit: Callable[[Kernel, S], str | None]) -> tuple[dict[str, S], list[Note]]:
        """(layer of the flat model -> its settings, notes on the kernels that no engine works on).

        Raises ConfigError where a pattern parts what TFMOT takes as a whole.
        """
        working, notes = select_kernels(step, self.model, unfit)
        settings = {kernel.name: own for kernel, own in working}
        self._working = [kernel for kernel, _ in working]
        found = {self._owner(kernel): own for kernel, own in working}
        for kernel in kernels(self.model):
            owner = self._owner(kernel)
            if owner in found and unfit(kernel, step) is None and settings.get(kernel.name) != found[owner]:
                raise ConfigError(
                    f"{type(step).__name__}.layers sets '{kernel.name}' apart from the rest of '{owner}', which TFMOT "
                    'takes as a whole; use engine = "keras"'
                )
        return found, notes

    def is_sparse(self, name: str) -> bool:
        """True when an earlier step made zeros in the layer."""
        return any(len(weight.shape) > 1 and earlier_zeros(weight).any() for weight in self._layers[name].weights)

    def trained(self, outcome: _Outcome) -> Any:
        """The copy, with the weights that TFMOT trained."""
        for name, weights in outcome.weights.items():
            self._layers[name].set_weights(weights)
        return self.model

    def notes(self, step: Step, outcome: _Outcome, reached: Callable[[Sequence[Kernel]], Note]) -> list[Note]:
        """What TFMOT left alone, and what the chosen kernels that it took have become: of the trained copy."""
        name, refusals = step_name(step), outcome.refusals
        left = [Note(name, self._layers[layer].name, f"{why}; left as it was") for layer, why in refusals.items()]
        return [*left, reached([kernel for kernel in self._working if self._owner(kernel) not in refusals])]

    def _owner(self, kernel: Kernel) -> str:
        """The layer of the flat model that has the kernel."""
        return self._owners[id(kernel.variable)]


def _run(
    loaded: LoadedModel, step: Step, request: Mapping[str, object], training: Training, description: str
) -> _Outcome:
    _check_settings(training.settings)
    data, task = training.need_data(), training.task(loaded)
    full = {
        **request,
        "step": step_name(step),
        "epochs": step.epochs,
        "batch_size": step.batch_size,
        "learning_rate": step.learning_rate,
        "seed": training.seed,
        "losses": [portable_loss(loss) for loss in task.losses],
    }
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-tfmot-") as name,
        training.progress.task(description, 1) as advance,
    ):
        folder = Path(name)
        describe(loaded.model).save(folder / "model.keras")
        columns = [data.inputs[spec.name] for spec in loaded.inputs]
        _save(folder / "data.npz", columns, task)
        reply = workers.call(
            WORKER, {**full, "folder": name}, timeout_s=HOUR_S * (1 + step.epochs), what=description,
            error=ModelError, environment=ENVIRONMENT,
        )  # fmt: skip
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            counts = reply["counts"].items()
            weights = {layer: [arrays[f"{layer}:{i}"] for i in range(count)] for layer, count in counts}
        advance(1, "")
    ranges = {layer: (low, high) for layer, (low, high) in reply.get("ranges", {}).items()}
    return _Outcome(weights, reply["refusals"], ranges)


def _check_settings(settings: TrainingSettings) -> None:
    """Refuse what the native loop alone does."""
    given = {
        "patience": settings.patience is not None,
        "validation_fraction": settings.validation_fraction is not None,
        "metric": settings.metric is not None,
        "mixed_precision": settings.mixed_precision is True,
        "frozen_statistics": settings.frozen_statistics,
        "tensorboard": settings.tensorboard is not None,
    }
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f'training.{name}: engine = "tfmot" trains without it; leave it out, or use "keras"')


def _save(path: Path, columns: list[Array], task: Task) -> None:
    inputs = {f"x{index}": column for index, column in enumerate(columns)}
    targets = {f"y{index}": target for index, target in enumerate(task.targets)}
    np.savez(path, **inputs, **targets)  # type: ignore[arg-type]  # numpy types **arrays as its own keywords


def portable_loss(loss: Any) -> dict[str, object]:
    """A loss of Keras's own as its name and settings. Raises ConfigError for any other."""
    kind = loss if hasattr(loss, "__name__") else type(loss)
    if not str(kind.__module__).startswith("keras."):
        raise ConfigError(f"loss '{kind.__name__}': TFMOT's engine takes Keras's own losses; use engine = \"keras\"")
    return {"name": kind.__name__, "config": loss.get_config() if hasattr(loss, "get_config") else {}}


def _unclusterable(kernel: Kernel, own: Cluster) -> str | None:
    if kernel.kind == "depthwise":
        return "TFMOT does not cluster depthwise kernels; left as it was"
    if kernel.size <= own.clusters:
        return f"its {kernel.size} weights are no more than the {own.clusters} clusters; left as it was"
    return None


def _calibrated(form: Prepared, training: Training) -> dict[str, Range]:
    """The ranges that the training data has now."""
    simulation = form.simulation()
    calibrate(simulation, form.loaded, training.need_data())
    return simulation.ranges()


def _quantizable(form: Prepared, step: QuantizeAware) -> dict[str, dict[str, bool]]:
    """Layer -> what earlier steps made in it that is to be kept; without the layers that stay float as asked."""
    found = {
        operation.name: {"sparse": False, "clustered": False}
        for operation in form.loaded.model.operations
        if type(operation).__name__ != "InputLayer"
    }
    shared = {kernel.name for kernel, _ in form.shared}
    for kernel in quantizable_kernels(form.loaded.model):
        layer = kernel.name.split("/")[0]
        if form.bits[kernel.name] == FLOAT_BITS:
            found.pop(layer, None)
        elif layer in found:
            found[layer]["sparse"] |= step.preserve_sparsity and bool(earlier_zeros(kernel.variable).any())
            found[layer]["clustered"] |= kernel.name in shared
    return found


def _by_input_name(model: Any, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges with those of the inputs under the names that tf_keras has for them."""
    names = {tensor._keras_history.operation.name: tensor.name.replace("/", "_") for tensor in model.inputs}
    return {names.get(name, name): found for name, found in ranges.items()}


def _left_float(form: Prepared, outcome: _Outcome, trained: Mapping[str, Range]) -> list[Note]:
    """What TFMOT did not train in 8 bits although edgekit rounds it."""
    step = "quantize-aware"
    kernels = {kernel.name.split("/")[0] for kernel in quantizable_kernels(form.loaded.model)}
    simulation = form.simulation()
    observed, fixed = simulation.ranges(), simulation.fixed_ranges()
    notes = []
    for name, why in outcome.refusals.items():
        if name in kernels:
            notes.append(Note(step, name, f"{why}: trained in float; kernel and range are rounded afterwards"))
        elif name in observed:
            notes.append(Note(step, name, f"{why}: trained in float; its range is observed afterwards"))
    quiet = [name for name in observed if name not in {*trained, *fixed, *outcome.refusals}]
    if quiet:
        listed = ", ".join(quiet)
        notes.append(Note(step, "", f"TFMOT trains no range for {listed}: observed afterwards"))
    return notes
