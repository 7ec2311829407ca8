"""The second engine: TFMOT on the bridged tf_keras model, in a process of its own; weights and ranges come back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any  # Any: keras models, and JSON

import numpy as np

from edgekit import workers
from edgekit.compression.canonical import canonical
from edgekit.compression.fake_quantization import Simulation
from edgekit.compression.masks import zeros_kept
from edgekit.compression.pruning import RAMP, prunable_kernels
from edgekit.compression.quantize_aware import snapped
from edgekit.compression.steps import Prune, QuantizeAware
from edgekit.compression.task import ends_in_softmax
from edgekit.compression.training import Training
from edgekit.errors import ModelError
from edgekit.loading import LoadedModel, Range, describe, import_keras

WORKER = "edgekit.compression.tfmot_worker"
TIMEOUT_S = 3600.0
OBSERVED_SAMPLES = 256  # set the ranges that TFMOT's moving averages begin with; its own (-6, 6) needs long training
# tf_keras must be asked for before tensorflow is imported; this is why TFMOT has a process of its own.
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def prune(loaded: LoadedModel, step: Prune, training: Training) -> LoadedModel:
    """`Prune` by TFMOT's prune_low_magnitude: the same kernels, the same schedule."""
    keras = import_keras()
    model = keras.models.clone_model(loaded.model)
    model.set_weights(loaded.model.get_weights())
    kernels = [kernel.path.split("/")[0] for kernel in prunable_kernels(model)]
    request = {
        "step": "prune", "sparsity": step.target, "schedule": step.schedule, "ramp": RAMP, "layers": kernels,
        "epochs": step.epochs, "batch_size": step.batch_size, "learning_rate": step.learning_rate,
    }  # fmt: skip
    weights, _ = _run(loaded, request, training, f"prune to {step.target:.0%} (TFMOT)")
    _set_weights(model, weights)
    return loaded.with_model(model)


def quantize_aware(loaded: LoadedModel, step: QuantizeAware, training: Training) -> LoadedModel:
    """`QuantizeAware` by TFMOT's default 8-bit scheme, sparsity preserved; ranges come back under our names."""
    folded = canonical(loaded)
    simulation = Simulation(folded)  # names the activations whose ranges are wanted, and refuses what it cannot take
    simulation.observe(folded.pack(training.need_data().spread(OBSERVED_SAMPLES).inputs))
    masks = zeros_kept(folded.model)
    request = {
        "step": "quantize-aware", "ranges": simulation.ranges(),
        "epochs": step.epochs, "batch_size": step.batch_size, "learning_rate": step.learning_rate,
    }  # fmt: skip
    weights, ranges = _run(folded, request, training, "quantization-aware training (TFMOT)")
    _set_weights(folded.model, weights)
    masks.apply()
    return snapped(folded.model, _wanted_ranges(simulation, ranges))


def _run(
    loaded: LoadedModel, request: dict[str, Any], training: Training, description: str
) -> tuple[dict[str, list[np.ndarray[Any, Any]]], dict[str, Range]]:
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-tfmot-") as name,
        training.progress.task(description, 1) as advance,
    ):
        folder = Path(name)
        describe(loaded.model).save(folder / "model.keras")
        columns = {f"x{i}": training.need_data().inputs[spec.name] for i, spec in enumerate(loaded.inputs)}
        np.savez(folder / "data.npz", y=training.need_data().need_labels(), **columns)  # type: ignore[arg-type]
        full = {**request, "folder": name, "seed": training.seed, "from_logits": not ends_in_softmax(loaded.model)}
        reply = workers.call(
            WORKER, full, timeout_s=TIMEOUT_S, what=description, error=ModelError, environment=ENVIRONMENT
        )
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            counts = reply["counts"].items()
            weights = {layer: [arrays[f"{layer}:{i}"] for i in range(count)] for layer, count in counts}
        advance(1, "")
        return weights, {layer: (low, high) for layer, (low, high) in reply["ranges"].items()}


def _set_weights(model: Any, weights: dict[str, list[np.ndarray[Any, Any]]]) -> None:
    for name, arrays in weights.items():
        model.get_layer(name).set_weights(arrays)


def _wanted_ranges(simulation: Simulation, found: dict[str, Range]) -> dict[str, Range]:
    fixed = simulation.fixed_ranges()
    missing = [name for name in simulation.ranges() if name not in fixed and name not in found]
    if missing:
        raise ModelError(f"TFMOT trained no range for layer '{missing[0]}'; use engine = \"keras\"")
    return {name: fixed.get(name) or found[name] for name in simulation.ranges()}
