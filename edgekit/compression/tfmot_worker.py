"""The process in which TFMOT runs; started by `tfmot.py` with TF_USE_LEGACY_KERAS=1."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: tf_keras objects and JSON

import numpy as np

from edgekit import workers
from edgekit.compression.tfmot_quantization import (
    quantizable,
    quantized,
    quantized_layers,
    quantized_weights,
    ranges,
    start_ranges,
)
from edgekit.compression.tfmot_wrapping import Refused, Settings, wrap_where_possible
from edgekit.errors import ConfigError, DataError, ModelError
from edgekit.loading import load
from edgekit.tensors import Array

Weights = dict[str, list[Array]]  # by layer name, in the order of the layer's own weights


@dataclass(frozen=True)
class Job:
    """What every step is given."""

    model: Any  # tf_keras; belongs to this process, and may be changed
    columns: list[Array]
    targets: list[Array]
    request: dict[str, Any]

    @property
    def steps(self) -> int:
        """Training steps in all."""
        epochs, batch = self.request["epochs"], self.request["batch_size"]
        return int(epochs * -(-len(self.columns[0]) // batch))


def main(request: dict[str, Any]) -> dict[str, object]:
    """Run one step on `folder/model.keras` and `folder/data.npz`; weights go to `folder/weights.npz`."""
    import tf_keras

    from edgekit.bridge import to_tf_keras

    folder = Path(request["folder"])
    model = to_tf_keras(load(folder / "model.keras", allow_code=True, trusted=True))  # our own file
    model = tf_keras.Model(model.inputs, model.outputs, name=model.name)  # without a structure of dicts
    tf_keras.utils.set_random_seed(request["seed"])
    with np.load(folder / "data.npz", allow_pickle=False) as arrays:
        columns = [arrays[f"x{index}"] for index in range(len(model.inputs))]
        targets = [arrays[f"y{index}"] for index in range(len(model.outputs))]
    job = Job(model, columns, targets, request)
    weights, facts = {"prune": prune, "cluster": cluster, "quantize-aware": quantize_aware}[request["step"]](job)
    named = {f"{name}:{index}": weight for name, own in weights.items() for index, weight in enumerate(own)}
    np.savez(folder / "weights.npz", **named)  # type: ignore[arg-type]  # numpy types **arrays as its own keywords
    return {"counts": {name: len(arrays) for name, arrays in weights.items()}, **facts}


def prune(job: Job) -> tuple[Weights, dict[str, object]]:
    """prune_low_magnitude on each layer that it takes."""
    import tensorflow_model_optimization as tfmot

    variables = _variables(job.model)

    def wrap(layer: Any, own: Settings) -> Any:
        return _prunable(tfmot.sparsity.keras, layer, own, job)

    def callbacks() -> Sequence[Any]:
        return [tfmot.sparsity.keras.UpdatePruningStep()]

    wrapped, refusals = wrap_where_possible(job.model, job.request["layers"], _check_prunable, wrap, callbacks)
    _fit(wrapped, job, callbacks(), _untouched(job, refusals))
    return _read(variables), {"refusals": refusals}


def _check_prunable(layer: Any, _own: Settings) -> None:
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    if not PruneRegistry.supports(layer):
        raise Refused(f"TFMOT does not prune {type(layer).__name__} layers")


def _prunable(sparsity: Any, layer: Any, own: Settings, job: Job) -> Any:
    every, last = _rhythm(job)
    if job.request["schedule"] == "polynomial":
        rise = sparsity.PolynomialDecay(_zeros(layer), own["sparsity"], begin_step=0, end_step=last, frequency=every)
    else:
        end = 1 if job.request["schedule"] == "one-shot" else last
        rise = sparsity.ConstantSparsity(own["sparsity"], begin_step=1, end_step=end, frequency=every)
    pattern = {"sparsity_m_by_n": tuple(own["zeros_of"])} if own["zeros_of"] else {"block_size": tuple(own["block"])}
    return sparsity.prune_low_magnitude(layer, pruning_schedule=rise, **pattern)


def _rhythm(job: Job) -> tuple[int, int]:
    """(steps between two choices of masks, the step of the last choice); TFMOT counts from 1.

    The last is a multiple of the first, without which TFMOT never reaches the final sparsity.
    """
    ramp = max(1, int(job.steps * job.request["ramp"]))
    every = max(1, ramp // job.request["updates"])
    return every, ramp // every * every


def _zeros(layer: Any) -> float:
    """The sparsity that an earlier step gave the layer's kernels, where the rise begins."""
    kernels = [np.asarray(weight) for weight in layer.trainable_weights if len(weight.shape) > 1]
    return min((float((kernel == 0).mean()) for kernel in kernels if kernel.any()), default=0.0)


def cluster(job: Job) -> tuple[Weights, dict[str, object]]:
    """cluster_weights on each layer that it takes; zeros are kept in the layers that have some."""
    import tensorflow_model_optimization as tfmot

    variables = _variables(job.model)

    def wrap(layer: Any, own: Settings) -> Any:
        return _clusterable(tfmot.clustering.keras, layer, own)

    wrapped, refusals = wrap_where_possible(job.model, job.request["layers"], _check_clusterable, wrap)
    _fit(wrapped, job, [], _untouched(job, refusals))
    for layer in wrapped.layers:
        if hasattr(layer, "original_clusterable_weights"):
            layer.update_clustered_weights_associations()
            for name, variable in layer.original_clusterable_weights.items():
                variable.assign(layer.get_weight_from_layer(name))
    return _read(variables), {"refusals": refusals}


def _check_clusterable(layer: Any, own: Settings) -> None:
    """Raise Refused for what TFMOT does not cluster; its k-means++ fails on fewer weights than it draws values."""
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import ClusteringRegistry

    if not ClusteringRegistry.supports(layer):
        raise Refused(f"TFMOT does not cluster {type(layer).__name__} layers")
    if own["initialization"] != "KMEANS_PLUS_PLUS":
        return
    for name, weight in ClusteringRegistry.make_clusterable(layer).get_clusterable_weights():
        has, drawn, other = np.size(weight), own["clusters"], ""
        if own["preserve_sparsity"]:  # zero is a value of its own, without a draw
            has, drawn, other = int(np.count_nonzero(weight)), own["clusters"] - 1, " other than zero"
        if has < drawn:
            raise Refused(f"TFMOT starts from {drawn} values{other}, and its {name} has {has} weights{other}")


def _clusterable(clustering: Any, layer: Any, own: Settings) -> Any:
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as sparsity_preserving

    settings = {
        "number_of_clusters": own["clusters"],
        "cluster_centroids_init": getattr(clustering.CentroidInitialization, own["initialization"]),
    }
    if own["preserve_sparsity"]:
        return sparsity_preserving.cluster_weights(layer, preserve_sparsity=True, **settings)
    return clustering.cluster_weights(layer, **settings)


def quantize_aware(job: Job) -> tuple[Weights, dict[str, object]]:
    """quantize_apply on each layer that it takes, sparsity and clusters preserved in the layers that have them."""
    refusals = quantizable(job.model, job.request["layers"])
    taken = {name: own for name, own in job.request["layers"].items() if name not in refusals}
    if not taken:
        raise ModelError('TFMOT quantizes no layer of this model; use engine = "keras"')
    model = quantized(job.model, taken)
    start_ranges(model, job.request["ranges"])
    wrapped = quantized_layers(model)
    _fit(model, job, [], [layer for layer in model.layers if layer not in wrapped])
    return quantized_weights(model), {"refusals": refusals, "ranges": ranges(model)}


def _fit(model: Any, job: Job, callbacks: Sequence[Any], untouched: Sequence[Any]) -> None:
    """Fine-tune; zeros that an earlier step made in layers that TFMOT does not touch stay zero."""
    import tf_keras

    request = job.request
    rate = tf_keras.optimizers.schedules.CosineDecay(request["learning_rate"], job.steps)
    losses = [_loss(tf_keras.losses, loss) for loss in request["losses"]]
    model.compile(optimizer=tf_keras.optimizers.legacy.Adam(rate), loss=losses if len(losses) > 1 else losses[0])
    history = model.fit(
        job.columns,
        job.targets,
        batch_size=request["batch_size"],
        epochs=request["epochs"],
        verbose=0,
        callbacks=[*callbacks, _keep_zeros(tf_keras, untouched)],
    )
    loss = history.history["loss"][-1]
    if not np.isfinite(loss):
        raise DataError(f"{request['step']} (TFMOT): the loss became {loss}; lower the learning_rate")


def _loss(losses: Any, wanted: dict[str, Any]) -> Any:
    """Keras 3's loss by its name and settings, in tf_keras."""
    name, config = wanted["name"], wanted["config"]
    found = getattr(losses, name, None)
    if found is None:
        raise ConfigError(f"loss '{name}': tf_keras has none of that name; use engine = \"keras\"")
    if not inspect.isclass(found):
        return found
    known = set(inspect.signature(found).parameters) - {"name", "reduction"}
    return found(**{key: value for key, value in config.items() if key in known})


def _keep_zeros(tf_keras: Any, layers: Sequence[Any]) -> Any:
    sparse = [weight for layer in layers for weight in layer.trainable_weights if _is_sparse(weight)]
    masks = [(weight, (np.asarray(weight) != 0).astype(np.float32)) for weight in sparse]

    class KeepZeros(tf_keras.callbacks.Callback):  # type: ignore[misc]  # tf_keras has no types
        def on_train_batch_end(self, _batch: int, logs: object = None) -> None:  # noqa: ARG002  # Keras's names
            for weight, mask in masks:
                weight.assign(weight * mask)

    return KeepZeros()


def _is_sparse(weight: Any) -> bool:
    zeros = np.asarray(weight) == 0
    return len(weight.shape) > 1 and bool(zeros.any() and not zeros.all())


def _untouched(job: Job, refusals: dict[str, str]) -> list[Any]:
    wrapped = set(job.request["layers"]) - set(refusals)
    return [layer for layer in job.model.layers if layer.name not in wrapped]


def _variables(model: Any) -> dict[str, list[Any]]:
    """Held before wrapping, which hides some of them behind tensors."""
    return {layer.name: list(layer.weights) for layer in model.layers if layer.weights}


def _read(variables: dict[str, list[Any]]) -> Weights:
    return {name: [np.asarray(variable) for variable in own] for name, own in variables.items()}


if __name__ == "__main__":
    workers.serve(main)
